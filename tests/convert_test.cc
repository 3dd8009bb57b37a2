// SPDX-License-Identifier: MIT
// Whole conversions of the bundled model in a few steps: what is said when, what is written when, where one can stop.
#include "distill/convert.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/version.h"
#include "data.h"
#include "distill/prepare.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;

struct Conversion {
  std::atomic<bool> stop = false;
  std::string stop_at = "nothing says this";  // the beginning of the line at which the user stops the run
  std::vector<std::string> lines;
  ConvertOptions options;

  explicit Conversion(const Path& out) {
    options.teacher = std::string(QWERKY_SOURCE_DIR) + "/models/teacher";
    options.sample_tokens = 700;
    options.run.out = out.string();
    options.run.recipe = "demo";
    for (const char* stage : {"stages.0.", "stages.1."})
      for (const char* value : {"tokens=256", "context=32"}) options.run.set.push_back(stage + std::string(value));
    options.run.set.emplace_back("calibration_tokens=512");
  }
  RunEnd operator()() {
    stop = false;
    lines.clear();
    const Say say = [&](const std::string& line, bool) {
      lines.push_back(line);
      if (line.starts_with(stop_at)) stop = true;
    };
    return convert(options, say, stop);
  }
  /// The number of the first line that begins so; -1 if none does.
  int64_t line(const std::string& begin) const {
    const auto at = std::find_if(lines.begin(), lines.end(), [&](const auto& l) { return l.starts_with(begin); });
    return at == lines.end() ? -1 : at - lines.begin();
  }
};

TEST(Convert, ADryRunPlansAndWritesNothing) {
  const Path dir = testing::scratch_dir("convert-dry");
  Conversion run(dir / "out");
  run.options.run.dry_run = true;
  ASSERT_EQ(run(), RunEnd::finished);
  EXPECT_TRUE(std::filesystem::is_empty(dir));
  EXPECT_GE(run.line("plan: memory"), 0);
  EXPECT_GE(run.line("plan: disk"), 0);
  EXPECT_EQ(run.line("sampling"), -1);
  run.options.run.data = {(dir / "missing.txt").string()};
  EXPECT_PRED2(has, error_of([&] { run(); }), "missing.txt: no such file");
  EXPECT_TRUE(run.lines.empty()) << "absent data are known before anything is measured";
}

TEST(Convert, ThePlanComesBeforeTheData) {
  const Path dir = testing::scratch_dir("convert-stop-early");
  Conversion run(dir / "out");
  run.stop_at = "plan: stage 1";
  ASSERT_EQ(run(), RunEnd::interrupted);
  EXPECT_GE(run.line("interrupted before training began"), 0);
  EXPECT_TRUE(std::filesystem::is_empty(dir));
  run.stop_at = "sampling";
  ASSERT_EQ(run(), RunEnd::interrupted);
  EXPECT_LT(run.line("plan: disk"), run.line("no --data given"));
  EXPECT_LT(run.line("no --data given"), run.line("sampling"));
  EXPECT_GE(run.line("interrupted before training began"), 0);
}

TEST(Convert, StoppedWhileMeasuringItOnlyMeasuresAgain) {
  const Path out = testing::scratch_dir("convert-measure");
  Conversion run(out);
  run.stop_at = "measuring the result";
  ASSERT_EQ(run(), RunEnd::interrupted);
  EXPECT_PRED2(has, run.lines.back(), "interrupted: training is finished and saved; repeat the same command");
  EXPECT_TRUE(is_file(out / "training" / "checkpoint.safetensors"));
  EXPECT_FALSE(is_there(out / "conversion.json"));
  const std::string model = read_file(out / "model.safetensors"), log = read_file(out / "training" / "log.jsonl");

  run.stop_at = "nothing says this";
  ASSERT_EQ(run(), RunEnd::finished);
  EXPECT_EQ(run.line("plan:"), -1);
  EXPECT_EQ(run.line("stage"), -1);
  EXPECT_GE(run.line("training is finished"), 0);
  EXPECT_GE(run.line("measuring the result"), 0);
  EXPECT_TRUE(is_file(out / "conversion.json"));
  EXPECT_EQ(read_file(out / "model.safetensors"), model);
  EXPECT_EQ(read_file(out / "training" / "log.jsonl"), log);

  const auto data = [&] { return read_file(out / "data" / "train.tokens") + read_file(out / "data" / "sampled.json"); };
  const std::string before = data();
  run.options.run.precision = "f32";  // what auto means
  ASSERT_EQ(run(), RunEnd::finished);
  run.options.sample_tokens = 720;
  EXPECT_PRED2(has, error_of([&] { run(); }), "data: was ");
  EXPECT_EQ(data(), before) << "a refused run leaves what the one that it refuses needs";
  run.options.run.set.emplace_back("stages.1.lr=0.5");
  EXPECT_PRED2(has, error_of([&] { run(); }), "stages.1.lr: was 0.0003, now 0.5");
  EXPECT_TRUE(run.lines.empty()) << "known before anything is measured or sampled, found " << run.lines[0];
}

TEST(Convert, UnusableTextIsKnownBeforeAnythingIsMeasured) {
  const Path dir = testing::scratch_dir("convert-text");
  Conversion run(dir / "out");
  run.options.run.dry_run = true;
  const auto message = [&](const std::string& name, const std::string& text) {
    write_file(dir / name, text);
    run.options.run.data = {(dir / name).string()};
    const std::string why = error_of([&] { run(); });
    EXPECT_TRUE(run.lines.empty()) << run.lines[0];
    return why;
  };
  EXPECT_PRED2(has, message("empty.txt", ""), "empty.txt: empty; 1 files hold no text");
  EXPECT_PRED2(has, message("blank.txt", " \n\n"), "hold no text");
  EXPECT_PRED2(has, message("latin.txt", "fine\nnot \xff fine\n"), "latin.txt, line 2: not UTF-8");
  EXPECT_PRED2(has, message("other.jsonl", "{\"body\": \"x\"}\n"), "no field \"text\"");
  write_file(dir / "fine.txt", std::string(3 << 20, 'a'));  // one line, and longer than what is looked at
  run.options.run.data = {(dir / "fine.txt").string()};
  EXPECT_EQ(run(), RunEnd::finished);
  run.options.run.exclude = {(dir / "latin.txt").string()};
  EXPECT_PRED2(has, error_of([&] { run(); }), "latin.txt, line 2");
}

TEST(Convert, OneTokenCannotBeHeldOut) {
  Conversion run(testing::scratch_dir("convert-holdout") / "out");
  run.options.run.holdout = 1;
  EXPECT_PRED2(has, error_of([&] { run(); }), "--holdout: expected 0 or at least 2");
}

TEST(ReadData, ADirectoryHoldsOutWhatItsFilesDo) {
  const Path dir = testing::scratch_dir("convert-default-holdout");
  std::string text;
  for (int i = 0; i < 80'000; ++i) text += concat("number ", i, "<|endoftext|>");
  make_directory(dir / "data");
  write_file(dir / "data" / "a.txt", text);
  const auto teacher = load_model(std::string(QWERKY_SOURCE_DIR) + "/models/teacher", {});
  const std::atomic<bool> stop = false;
  RunOptions options;
  const auto held = [&](const Path& input, const char* out) {
    options.data = {input.string()}, options.out = (dir / out).string();
    return read_data(
               options, *teacher->tokenizer, nullptr, [](const std::string&, bool) {}, stop)
        .shards.validation->size();
  };
  EXPECT_EQ(held(dir / "data", "one"), static_cast<int64_t>(text.size()) / 400);
  EXPECT_EQ(held(dir / "data" / "a.txt", "two"), static_cast<int64_t>(text.size()) / 400);
}

TEST(Convert, ASecondRunIntoOneDirectoryIsRefused) {
  const Path dir = testing::scratch_dir("convert-lock");
  Conversion run(dir / "out");
  {
    const DirectoryLock first(dir / "out" / "training");
    EXPECT_PRED2(has, error_of([&] { run(); }), (dir / "out" / "training").string() + ": another process works");
    EXPECT_TRUE(run.lines.empty());
    run.options.run.dry_run = true;
    EXPECT_EQ(run(), RunEnd::finished) << "a dry run writes nothing";
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir));
  run.options.run.dry_run = false;
  std::string other;  // of a run that starts while this one plans, and one while it trains
  Conversion second(dir / "out");
  for (const char* moment : {"plan: student", "data:", "measuring the result"}) {
    bool tried = false;
    const std::atomic<bool> stop = false;
    const Say say = [&](const std::string& line, bool) {
      if (tried || !line.starts_with(moment)) return;
      tried = true;
      EXPECT_PRED2(has, error_of([&] { second(); }), "another process works in this directory") << moment;
    };
    EXPECT_EQ(convert(run.options, say, stop), RunEnd::finished);
    EXPECT_TRUE(tried) << moment;
    std::filesystem::remove_all(dir / "out");
  }
}

TEST(Convert, TheRecordHasTheLossesAndTheVersion) {
  const Path out = testing::scratch_dir("convert-record");
  Conversion run(out);
  ASSERT_EQ(run(), RunEnd::finished);
  const Json record = read_json(out / "conversion.json");
  EXPECT_EQ(record["program"], program_version());
  ASSERT_EQ(record["stages"].size(), 2u);
  for (const Json& stage : record["stages"]) {
    EXPECT_GT(stage["loss"], 0);
    EXPECT_GE(stage["validation_kl"], 0);
  }
  EXPECT_FALSE(is_there(out / "training" / "lock"));
}

TEST(BeginningOfText, IsBounded) {
  const Path dir = testing::scratch_dir("convert-beginning");
  const std::atomic<bool> stop = false;
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += concat("{\"text\": \"document ", 1000 + i, "\"}\n");
  write_file(dir / "a.jsonl", lines);
  const CorpusOptions corpus{.inputs = {dir / "a.jsonl"}};
  const Beginning part = beginning_of_text(corpus, 100, stop), all = beginning_of_text(corpus, 1 << 20, stop);
  EXPECT_FALSE(part.whole);
  EXPECT_LE(part.text.size(), 100u);
  EXPECT_TRUE(part.text.starts_with("document 1000\ndocument 1001\n"));
  EXPECT_TRUE(all.whole);
  EXPECT_EQ(all.text.size(), 14000u);
}

}  // namespace
}  // namespace qwerky
