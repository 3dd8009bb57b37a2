// SPDX-License-Identifier: MIT
// The bundled teacher as what answers an evaluation: text to ids as lm-eval does it, and answers that sharing, backends
// and truncation do not change.
#include "eval/model_scorer.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "data.h"
#include "engine/fingerprint.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;

const std::string kTeacher = QWERKY_SOURCE_DIR "/models/teacher";

const Engine& engine() {
  static const Engine loaded(kTeacher, {.precision = "f32"});
  return loaded;
}
std::vector<int32_t> encode(const std::string& text) { return engine().encode(text); }

std::vector<int32_t> joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(ModelScorer, SplitsAsLmEvalDoes) {
  const ModelScorer scorer(engine(), {});
  // Ids of the joined text behind as many as the context has.
  const Continuation plain = scorer.split({"Once upon a time, there was a", " little girl"});
  EXPECT_EQ(plain.first, static_cast<int64_t>(encode("Once upon a time, there was a").size()));
  EXPECT_EQ(plain.ids, encode("Once upon a time, there was a little girl"));
  // White space at the end of the context goes over to the continuation.
  const Continuation moved = scorer.split({"The cat sat. \n", "The dog"});
  EXPECT_EQ(moved.first, static_cast<int64_t>(encode("The cat sat.").size()));
  EXPECT_EQ(moved.ids, encode("The cat sat. \nThe dog"));
  // Where ids cross the border, the context keeps its own and the continuation those behind as many.
  const auto context = encode("the litt"), whole = encode("the little girl was here");
  ASSERT_NE(std::vector<int32_t>(whole.begin(), whole.begin() + static_cast<int64_t>(context.size())), context);
  const Continuation crossing = scorer.split({"the litt", "le girl was here"});
  EXPECT_EQ(crossing.ids, joined(context, {whole.begin() + static_cast<int64_t>(context.size()), whole.end()}));
  // Without a context the id that begins a text stands in its place, once.
  const int32_t begins = engine().beginning().at(0);
  const Continuation bare = scorer.split({"", "Once"});
  EXPECT_EQ(bare.ids, joined({begins}, encode("Once")));
  EXPECT_EQ(bare.first, 1);
  const std::string token = "<|endoftext|>";
  EXPECT_EQ(scorer.split({"", token + "Once"}).ids, joined({begins}, encode("Once")));
  EXPECT_TRUE(has(error_of([&] { scorer.split({"Once", ""}); }), "no ids of its own"));
}

std::vector<Request> some_requests() {
  std::vector<Request> list;
  const std::string examples =
      "Once upon a time, there was a little boy named Tim. Tim had a red ball. He played with it all day.\n\n";
  for (const char* question : {"Lily went to the park. She saw a", "The dog was very", "One day, Mom said,"})
    for (const char* choice : {" big tree.", " happy", " cat and a bird", " \"Let us go home.\""}) {
      list.push_back({question, choice});
      list.push_back({examples + question, choice});
    }
  list.push_back({"", "Once upon a time"});
  list.push_back(list.front());
  return list;
}

/// The slow path: plain mathematics, one request at a time, nothing shared.
TEST(ModelScorer, EqualsTheReferenceAlone) {
  const auto requests = some_requests();
  const Engine slow_engine(kTeacher, {.backend = "reference", .precision = "f32"});
  ModelScorer slow(slow_engine, {.share = false}), fast(engine(), {}), alone(engine(), {.share = false});
  const auto got = fast.scorer().loglikelihood(requests), got_alone = alone.scorer().loglikelihood(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const Answer want = slow.scorer().loglikelihood(std::span(requests).subspan(i, 1)).at(0);
    EXPECT_NEAR(got[i].loglikelihood, want.loglikelihood, 1e-4) << i;
    EXPECT_NEAR(got_alone[i].loglikelihood, want.loglikelihood, 1e-4) << i;
    EXPECT_EQ(got[i].greedy, want.greedy) << i;
  }
  EXPECT_LT(2 * fast.rows_run(), alone.rows_run());
}

TEST(ModelScorer, LongRequestsLoseTheirBeginning) {
  std::string context;
  for (int i = 0; i < 30; ++i) context += "The dog ran to the big tree and sat down. ";
  ModelScorer narrow(engine(), {.max_length = 64}), wide(engine(), {.max_length = 1000});
  const Request request{context + "Then the dog", " was happy"};
  const Continuation whole = wide.split(request);
  const Continuation tail{{whole.ids.end() - 65, whole.ids.end()},
                          whole.first - (static_cast<int64_t>(whole.ids.size()) - 65)};
  ContinuationScorer plain(*engine().internals().backend, *engine().internals().model->decoder);
  const auto of = [](ModelScorer& scorer, const Request& r) { return scorer.scorer().loglikelihood({&r, 1})[0]; };
  EXPECT_NEAR(of(narrow, request).loglikelihood, plain.score({&tail, 1})[0].loglikelihood, 1e-4);
  EXPECT_TRUE(of(narrow, request).truncated);
  EXPECT_FALSE(of(narrow, request).cut);
  EXPECT_FALSE(of(wide, request).truncated);
  const Request endless{"The", " " + context};
  const auto ids = wide.split(endless).ids;
  const Continuation end{{ids.end() - 65, ids.end()}, 1};
  EXPECT_NEAR(of(narrow, endless).loglikelihood, plain.score({&end, 1})[0].loglikelihood, 1e-3);
  EXPECT_TRUE(of(narrow, endless).truncated);
  EXPECT_TRUE(of(narrow, endless).cut);
}

/// Every id once; windows of full length see as much before them as fits.
TEST(ModelScorer, RollingWindowsScoreEveryIdOnce) {
  std::string text;
  for (int i = 0; i < 12; ++i) text += "Tom and Sam like to play in the garden. ";
  const std::string texts[] = {text};
  ModelScorer whole(engine(), {.max_length = 1000}), windows(engine(), {.max_length = 50});
  const auto ids = joined({engine().beginning().at(0)}, encode(text));
  ASSERT_GT(ids.size(), 101U);
  ContinuationScorer plain(*engine().internals().backend, *engine().internals().model->decoder);
  const Continuation all{ids, 1};
  EXPECT_NEAR(whole.scorer().rolling(texts)[0], plain.score({&all, 1})[0].loglikelihood, 1e-3);
  double want = 0;
  for (size_t first = 1; first < ids.size(); first += 50) {
    const size_t end = std::min(ids.size(), first + 50), begin = end > 51 ? end - 51 : 0;
    const Continuation window{{ids.begin() + static_cast<int64_t>(begin), ids.begin() + static_cast<int64_t>(end)},
                              static_cast<int64_t>(first - begin)};
    want += plain.score({&window, 1})[0].loglikelihood;
  }
  EXPECT_NEAR(windows.scorer().rolling(texts)[0], want, 1e-3);
}

/// Before any call of the model; what is asked next is answered as if nothing had been stopped.
TEST(ModelScorer, StopsWithinABatch) {
  std::vector<Request> requests;
  std::vector<GenerateRequest> questions(3, {"Once upon a time", {}});
  for (const char* name : {"Tom", "Sam", "Anna"})
    for (const char* end : {" was happy.", " ran home.", " ate the cake."})
      requests.push_back({concat("One day, ", name, " went to the park with a big red ball and a small dog."), end});
  int calls = 0, most = 0;
  ModelScorer plain(engine(), {.generate = 8});
  ModelScorer stopping(engine(), {.generate = 8, .before_call = [&] {
                                    if (calls++ == most) throw Interrupted();
                                  }});
  const auto want = plain.scorer().loglikelihood(requests);
  for (const int at : {0, 1}) {
    calls = 0, most = at;
    EXPECT_THROW(stopping.scorer().loglikelihood(requests), Interrupted) << at;
    calls = 0, most = 1000;
    const auto got = stopping.scorer().loglikelihood(requests);
    EXPECT_EQ(calls, 2);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i].loglikelihood, want[i].loglikelihood) << at << " " << i;
    calls = 0, most = at;
    EXPECT_THROW(stopping.scorer().generate(questions), Interrupted) << at;
  }
}

TEST(ModelScorer, GeneratesGreedilyUntilAStop) {
  ModelScorer scorer(engine(), {.generate = 40, .side_by_side = 2});
  std::vector<GenerateRequest> requests;
  for (const char* prompt : {"Once upon a time", "The cat", "Lily and Tom went to"})
    requests.push_back({prompt, {.stops = {"."}, .sampler = {}}});
  const auto texts = scorer.scorer().generate(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    Session session(engine(), 100);
    GenerateOptions options;
    options.max_tokens = 40;
    const Generated plain = generate(session, engine(), encode(requests[i].context), options);
    const std::string text = engine().decode(plain.ids), until = text.substr(0, text.find('.'));
    EXPECT_EQ(texts[i].text.substr(0, texts[i].text.find('.')), until);
    EXPECT_FALSE(texts[i].truncated);
    EXPECT_LE(texts[i].text.size(), until.size() + 4) << "stops after the sentence";
  }
}

/// What is shared or written side by side changes no draw and no greedy text.
TEST(ModelScorer, TextsDoNotDependOnTheirNeighbours) {
  std::string shared;
  for (int i = 0; i < 5; ++i) shared += "Once upon a time, there was a little dog named Max. ";
  std::vector<GenerateRequest> requests;
  for (const char* end : {"Max", "", "One day, Max saw a", "The dog", "He", "Then"})
    for (double temperature : {0.0, 0.9}) {
      const GenerationArguments how{{"."}, 12, {.temperature = temperature, .top_p = 0.95, .seed = requests.size()}};
      requests.push_back({shared + end, how});
    }
  requests.back().how.most = 5;
  ModelScorer alone(engine(), {.share = false, .side_by_side = 1}), together(engine(), {});
  const auto texts = [&](ModelScorer& scorer) {
    std::vector<std::string> list;
    for (const Written& written : scorer.scorer().generate(requests)) list.push_back(written.text);
    return list;
  };
  const auto want = texts(alone), got = texts(together);
  EXPECT_EQ(got, want);
  EXPECT_LT(3 * together.rows_run(), alone.rows_run());
  EXPECT_EQ(together.rows_asked(), alone.rows_run());
  EXPECT_NE(want[0], want[1]);  // drawn
  for (GenerateRequest& r : requests) r.how.sampler.seed += 1000;
  EXPECT_NE(texts(together), want);
}

/// <|im_end|> is among gsm8k's stops, and a special token of models that do not end texts with it.
TEST(ModelScorer, ASpecialTokenMayBeAStop) {
  const auto dir = testing::scratch_dir("scorer-stop");
  for (const char* name : {"model.safetensors", "tokenizer.json"})
    write_file(dir / name, read_file(Path(kTeacher) / name));
  Json config = read_json(Path(kTeacher) / "config.json");
  config.erase("eos_token_id");
  write_file(dir / "config.json", config.dump());
  write_file(dir / "tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer"})");
  const Engine endless(dir.string(), {.precision = "f32"});
  ASSERT_TRUE(endless.internals().model->tokenizer->eos.empty());
  const std::string story = "Once upon a time, there was a cat. The cat was happy. The end.";
  const GenerateRequest stop[] = {{story, {.stops = {"<|endoftext|>"}, .most = 400, .sampler = {}}}};
  ModelScorer scorer(endless, {}), usual(engine(), {.generate = 400});
  const std::string want = usual.scorer().generate(std::array{GenerateRequest{story, {}}})[0].text;
  ASSERT_LT(encode(want).size(), 390U) << "the story ends";
  EXPECT_EQ(scorer.scorer().generate(stop)[0].text, want);
}

TEST(ModelScorer, FingerprintsTellModelsApart) {
  const Engine same(kTeacher, {.precision = "f32"}), other(kTeacher, {.backend = "reference"});
  EXPECT_EQ(model_fingerprint(engine()), model_fingerprint(same));
  EXPECT_NE(model_fingerprint(engine()), model_fingerprint(other));
  // What a journal must not take for the same answers.
  const std::string plain = ModelScorer(engine(), {}).fingerprint();
  EXPECT_EQ(plain, ModelScorer(same, {.share = false}).fingerprint());
  EXPECT_NE(plain, ModelScorer(engine(), {.max_length = 64}).fingerprint());
  EXPECT_NE(plain, ModelScorer(engine(), {.bos = true}).fingerprint());
  // The same weights with another tokenizer: one word of the vocabulary, or a merge, is another.
  const auto dir = testing::scratch_dir("scorer-tokenizer");
  for (const char* name : {"model.safetensors", "config.json", "tokenizer_config.json"})
    write_file(dir / name, read_file(Path(kTeacher) / name));
  Json json = read_json(Path(kTeacher) / "tokenizer.json");
  auto& merges = json["model"]["merges"];
  write_file(dir / "tokenizer.json", read_file(Path(kTeacher) / "tokenizer.json"));
  EXPECT_EQ(plain, ModelScorer(Engine(dir.string(), {.precision = "f32"}), {}).fingerprint());
  std::reverse(merges.begin(), merges.end());
  write_file(dir / "tokenizer.json", json.dump());
  EXPECT_NE(plain, ModelScorer(Engine(dir.string(), {.precision = "f32"}), {}).fingerprint());
  if (has_native_bf16()) {
    const Engine rounded(kTeacher, {.precision = "bf16"});
    EXPECT_NE(plain, ModelScorer(rounded, {}).fingerprint());
  }
}

}  // namespace
}  // namespace qwerky
