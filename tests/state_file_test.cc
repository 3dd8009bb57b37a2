// SPDX-License-Identifier: MIT
// State files: what comes back is what was written, and nothing else is taken for it.
#include "io/state_file.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "data.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;
using testing::scratch_dir;

const StateLabel kLabel{"model", "owner", "a name: \xc3\xa9", 7};

State random_state(int64_t scalars, int64_t tokens) {
  State state(DType::f32, scalars, tokens);
  for (int64_t i = 0; i < scalars; ++i)
    state.at(i, 1).as<float>()[0] = static_cast<float>(Random(1).normal(static_cast<uint64_t>(i)));
  state.advance(tokens);
  return state;
}

std::string file_of(int64_t tokens, int64_t scalars, int64_t logits) {
  const Path path = scratch_dir("state-file") / "a.state";
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<int32_t>(i * i));
  const State state = random_state(scalars, tokens);
  const int64_t bytes = write_state(path, kLabel, ids, state, std::vector<float>(static_cast<size_t>(logits), 0.5f));
  std::string text = read_file(path);
  EXPECT_EQ(bytes, static_cast<int64_t>(text.size()));
  const StateContents label = read_state_label(path);
  EXPECT_EQ(label.ids, ids);
  EXPECT_EQ(label.label.name, kLabel.name);
  EXPECT_EQ(label.state, nullptr);
  return text;
}

TEST(StateFile, ComesBackBitForBit) {
  for (const auto& [tokens, scalars, logits] :
       {std::tuple<int64_t, int64_t, int64_t>{3, 5, 7}, {4, 8, 0}, {0, 0, 0}, {1, 0, 2}, {1000, 4097, 33}}) {
    const StateContents read = parse_state(file_of(tokens, scalars, logits), "file");
    EXPECT_EQ(read.label.model, "model");
    EXPECT_EQ(read.label.owner, "owner");
    EXPECT_EQ(read.label.name, kLabel.name);
    EXPECT_EQ(read.label.number, 7);
    ASSERT_EQ(static_cast<int64_t>(read.ids.size()), tokens);
    if (tokens > 0) {
      EXPECT_EQ(read.ids.back(), (tokens - 1) * (tokens - 1));
    }
    EXPECT_EQ(read.logits, std::vector<float>(static_cast<size_t>(logits), 0.5f));
    const State expected = random_state(scalars, tokens);
    EXPECT_EQ(read.state->position(), tokens);
    EXPECT_EQ(read.state->capacity(), tokens);
    ASSERT_EQ(read.state->scalars(), scalars);
    EXPECT_EQ(std::memcmp(read.state->at(0, scalars).data, expected.at(0, scalars).data,
                          static_cast<size_t>(expected.bytes())),
              0);
  }
}

TEST(StateFile, EveryTruncationAndEveryChangedByteIsSeen) {
  const std::string whole = file_of(3, 5, 7);
  ASSERT_NO_THROW(parse_state(whole, "file"));
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_THROW(parse_state(whole.substr(0, n), "file"), Error) << n;
  EXPECT_THROW(parse_state(whole + std::string(8, '\0'), "file"), Error);
  for (size_t i = 0; i < whole.size(); ++i)
    for (const int flip : {1, 128, 255}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      EXPECT_THROW(parse_state(changed, "file"), Error) << i;
    }
}

/// The file with `from` in its header replaced by a text of the same length.
std::string edited(std::string file, const std::string& from, const std::string& to) {
  EXPECT_EQ(from.size(), to.size());
  const size_t at = file.find(from);
  EXPECT_NE(at, file.npos) << from;
  return file.replace(at, from.size(), to);
}

TEST(StateFile, NamesWhatIsWrong) {
  const std::string whole = file_of(3, 5, 7);
  const auto message = [](const std::string& file) { return error_of([&] { parse_state(file, "here"); }); };
  EXPECT_PRED2(has, message(""), "here: not a saved state: it does not begin with QWRKSTAT");
  EXPECT_PRED2(has, message("QWRKPACK" + whole.substr(8)), "not a saved state");
  std::string changed = whole;
  changed[8] = 2;
  EXPECT_PRED2(has, message(changed), "saved state of version 2, this program reads 1");
  changed = whole;
  changed[22] = 1;
  EXPECT_PRED2(has, message(changed), "the header has");
  EXPECT_PRED2(has, message(edited(whole, "\"f32\"", "\"f16\"")), "a state of \"f16\", expected f32");
  EXPECT_PRED2(has, message(edited(whole, "\"scalars\":5", "\"scalars\":9")), "truncated: logits needs 28 bytes");
  EXPECT_PRED2(has, message(edited(whole, "\"scalars\"", "\"scalarz\"")), "the header has no \"scalars\"");
  EXPECT_PRED2(has, message(edited(whole, "\"model\":\"model\"", "\"model\":1234567")),
               "expected \"model\" to be a string");
  // Amounts are held against the file before memory is taken for them.
  const std::string position = "\"owner\":\"owner\",\"position\":3";
  EXPECT_PRED2(has, message(edited(whole, position, "\"owner\":\"\",\"position\":999999")),
               "expected \"position\" to be a number of at most");
  EXPECT_PRED2(has, message(edited(whole, position, "\"owner\":\"ower\",\"position\":99")),
               "truncated: ids needs 396 bytes");
  EXPECT_PRED2(has, message(edited(whole, position, "\"owner\":\"owner\",\"position\":2")),
               "expected a checksum of 8 bytes after the data, found 16 bytes");
  changed = whole;
  changed.back() = static_cast<char>(changed.back() ^ 1);
  EXPECT_PRED2(has, message(changed), "here: damaged: its checksum is wrong");
}

}  // namespace
}  // namespace qwerky
