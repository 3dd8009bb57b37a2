// SPDX-License-Identifier: MIT
// The state cache: who finds what, what fits, and what is there after a restart.
#include "engine/state_cache.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/random.h"
#include "data.h"
#include "expect_error.h"
#include "io/state_file.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;
using testing::scratch_dir;

constexpr int64_t kScalars = 100;

std::vector<int32_t> text(size_t n, uint64_t seed = 1) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>(Random(seed).below(i, 1000)));
  return ids;
}

SnapshotPtr snapshot(std::vector<int32_t> ids, bool logits = true) {
  const auto n = static_cast<int64_t>(ids.size());
  auto state = std::make_shared<State>(DType::f32, kScalars, n);
  for (int64_t i = 0; i < kScalars; ++i)
    state->at(i, 1).as<float>()[0] = static_cast<float>(i + 1000 * n + (n > 0 ? ids.back() : 0));
  state->advance(n);
  return std::make_shared<const Snapshot>(
      Snapshot{std::move(ids), std::move(state), std::vector<float>(logits ? 10 : 0, 0.25f)});
}

/// Bytes of a snapshot of n tokens, with logits.
int64_t bytes_of(size_t n) { return snapshot(text(n))->bytes(); }

void expect_same(const SnapshotPtr& a, const SnapshotPtr& b) {
  ASSERT_NE(a, nullptr);
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(a->ids, b->ids);
  EXPECT_EQ(a->logits, b->logits);
  EXPECT_EQ(a->state->position(), b->state->position());
  ASSERT_EQ(a->state->bytes(), b->state->bytes());
  EXPECT_EQ(std::memcmp(a->state->at(0, kScalars).data, b->state->at(0, kScalars).data,
                        static_cast<size_t>(a->state->bytes())),
            0);
}

/// Files in a folder by the end of their names.
std::vector<Path> files(const Path& folder, const std::string& kind) {
  std::vector<Path> found;
  for (const std::string& name : list_names(folder))
    if (name.ends_with(kind)) found.push_back(folder / name);
  return found;
}

void flip_last_byte(const Path& path) {
  std::string bytes = read_file(path);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_file(path, bytes);
}

TEST(StateCache, FindsTheLongestBeginning) {
  StateCache cache({});
  const auto ids = text(50);
  EXPECT_EQ(cache.find("a", ids), nullptr);
  for (const size_t n : {10, 20, 40}) cache.keep("a", snapshot({ids.begin(), ids.begin() + static_cast<int64_t>(n)}));
  auto other = ids;
  other[15] = -1;
  cache.keep("a", snapshot(other));  // longer, but another text
  EXPECT_EQ(cache.find("a", ids)->ids.size(), 40u);
  EXPECT_EQ(cache.find("a", std::span(ids).first(40))->ids.size(), 40u);
  EXPECT_EQ(cache.find("a", std::span(ids).first(39))->ids.size(), 20u);
  EXPECT_EQ(cache.find("a", std::span(other).first(49))->ids.size(), 10u);
  EXPECT_EQ(cache.find("a", std::span(ids).first(9)), nullptr);
  EXPECT_EQ(cache.find("a", {}), nullptr);
  EXPECT_EQ(cache.find("b", ids), nullptr);
  EXPECT_EQ(cache.find("", ids), nullptr);
  const StateCacheCounts counts = cache.counts();
  EXPECT_EQ(counts.hits, 4);
  EXPECT_EQ(counts.misses, 5);
  EXPECT_EQ(counts.tokens_reused, 40 + 40 + 20 + 10);
  EXPECT_EQ(counts.entries, 4);
  EXPECT_EQ(counts.bytes, bytes_of(10) + bytes_of(20) + bytes_of(40) + bytes_of(50));
}

TEST(StateCache, AWholeTextNeedsItsLogits) {
  StateCache cache({});
  const auto ids = text(20);
  cache.keep("a", snapshot(text(12)));
  cache.keep("a", snapshot(ids, false));
  EXPECT_EQ(cache.find("a", ids)->ids.size(), 12u);
  EXPECT_EQ(cache.find("a", text(21))->ids.size(), 20u);
  const SnapshotPtr with = snapshot(ids);
  cache.keep("a", with);
  EXPECT_EQ(cache.find("a", ids), with);
  cache.keep("a", snapshot(ids, false));
  cache.keep("a", snapshot(ids));
  EXPECT_EQ(cache.find("a", ids), with);  // the first stays
  EXPECT_EQ(cache.counts().entries, 2);
  EXPECT_EQ(cache.counts().bytes, bytes_of(12) + bytes_of(20));
}

TEST(StateCache, TheLeastRecentlyUsedGoes) {
  StateCache cache({.memory_bytes = 3 * bytes_of(8) + 1});
  const auto has_text = [&](uint64_t seed) { return cache.find("a", text(8, seed)) != nullptr; };
  for (const uint64_t seed : {1, 2, 3}) cache.keep("a", snapshot(text(8, seed)));
  EXPECT_TRUE(has_text(1));
  cache.keep("a", snapshot(text(8, 4)));
  EXPECT_FALSE(has_text(2));
  EXPECT_TRUE(has_text(1) && has_text(3) && has_text(4));
  cache.keep("a", snapshot(text(3000, 5)));  // larger than all memory: pushes out nobody
  EXPECT_EQ(cache.find("a", text(3000, 5)), nullptr);
  EXPECT_TRUE(has_text(1) && has_text(3) && has_text(4));
  EXPECT_EQ(cache.counts().evictions, 1);
  EXPECT_LE(cache.counts().bytes, 3 * bytes_of(8) + 1);
}

TEST(StateCache, WhatFallsOutOfMemoryComesBackFromDisk) {
  const Path folder = scratch_dir("state-cache");
  StateCache cache({.memory_bytes = bytes_of(8), .folder = folder, .model = "m"});
  for (const uint64_t seed : {1, 2, 3}) {
    cache.keep("a", snapshot(text(8, seed)));
    cache.flush();
  }
  cache.keep("a", snapshot(text(3000)));
  cache.flush();
  EXPECT_EQ(cache.counts().entries, 1);
  EXPECT_EQ(cache.counts().disk_entries, 3);
  EXPECT_EQ(cache.counts().disk_bytes, bytes_under(folder) - bytes_under(folder / "lock"));
  for (const uint64_t seed : {1, 2, 3, 1}) expect_same(cache.find("a", text(8, seed)), snapshot(text(8, seed)));
  expect_same(cache.find("a", text(3001)), snapshot(text(3000)));
  EXPECT_EQ(cache.find("b", text(8, 1)), nullptr);
  cache.flush();
  EXPECT_EQ(cache.counts().disk_entries, 4);  // each was written once
  EXPECT_EQ(cache.counts().unwritten, 0);
}

TEST(StateCache, TheDiskHasABudgetToo) {
  const Path folder = scratch_dir("state-cache");
  int64_t one = 0;
  {
    StateCache cache({.memory_bytes = 0, .folder = folder});
    cache.keep("a", snapshot(text(8, 1)));
    cache.flush();
    one = cache.counts().disk_bytes;
  }
  const auto open = [&] { return StateCacheOptions{.memory_bytes = 0, .folder = folder, .disk_bytes = 2 * one}; };
  {
    StateCache cache(open());
    for (const uint64_t seed : {2, 3}) {
      cache.keep("a", snapshot(text(8, seed)));
      cache.flush();
    }
    EXPECT_EQ(cache.counts().disk_entries, 2);
    EXPECT_EQ(cache.find("a", text(8, 1)), nullptr);
  }
  StateCache cache(open());
  EXPECT_EQ(files(folder, ".state").size(), 2u);
  for (const uint64_t seed : {2, 3}) expect_same(cache.find("a", text(8, seed)), snapshot(text(8, seed)));
}

TEST(StateCache, ARestartFindsAllAndOwnersStaySecret) {
  const Path folder = scratch_dir("state-cache");
  const std::string key = "sk-secret-key-0123456789", other = "sk-other";
  const auto open = [&](const std::string& model) {
    return StateCacheOptions{.memory_bytes = 0, .folder = folder, .model = model};
  };
  {
    StateCache cache(open("m"));
    cache.keep(key, snapshot(text(8)));
    cache.save(key, "tea", snapshot(text(5)));
    cache.save(key, "coffee", snapshot(text(6)));
    cache.save(other, "tea", snapshot(text(7)));
    EXPECT_PRED2(has, error_of([&] { StateCache second(open("m")); }), "another process works in this directory");
  }
  for (const std::string& name : list_names(folder)) {
    const std::string all = name + read_file(folder / name);
    EXPECT_FALSE(has(all, "sk-"));
    EXPECT_FALSE(has(name, "tea"));
  }
  {
    StateCache cache(open("m"));
    expect_same(cache.find(key, text(9)), snapshot(text(8)));
    EXPECT_EQ(cache.names(key), (std::vector<std::string>{"coffee", "tea"}));
    EXPECT_EQ(cache.names(other), std::vector<std::string>{"tea"});
    EXPECT_TRUE(cache.names("").empty());
    expect_same(cache.load(key, "tea"), snapshot(text(5)));
    expect_same(cache.load(other, "tea"), snapshot(text(7)));
    EXPECT_EQ(cache.load(other, "coffee"), nullptr);
    EXPECT_EQ(cache.counts().named, 3);
    EXPECT_TRUE(cache.remove(key, "tea"));
    EXPECT_FALSE(cache.remove(key, "tea"));
    EXPECT_FALSE(cache.remove(other, "coffee"));
    cache.save(key, "coffee", snapshot(text(9)));  // replaces
    EXPECT_EQ(cache.counts().unusable, 0);
  }
  {
    StateCache foreign(open("another model"));
    EXPECT_EQ(foreign.find(key, text(9)), nullptr);
    EXPECT_TRUE(foreign.names(key).empty());
    EXPECT_EQ(foreign.counts().unusable, 3);
  }
  StateCache cache(open("m"));
  EXPECT_EQ(cache.load(key, "tea"), nullptr);
  expect_same(cache.load(key, "coffee"), snapshot(text(9)));
  expect_same(cache.load(other, "tea"), snapshot(text(7)));
}

TEST(StateCache, WhatIsInMemoryIsWrittenBeforeTheEnd) {
  const Path folder = scratch_dir("state-cache");
  constexpr auto kNever = std::chrono::steady_clock::time_point::max();
  const auto hour_ago = std::chrono::steady_clock::now() - std::chrono::hours(1);
  int64_t one = 0;
  {
    StateCache cache({.folder = folder});
    for (const uint64_t seed : {1, 2, 3}) cache.keep("a", snapshot(text(8, seed)));
    EXPECT_NE(cache.find("a", text(8, 1)), nullptr);  // used last
    cache.write_kept(kNever);
    EXPECT_EQ(cache.counts().disk_entries, 3);
    EXPECT_EQ(cache.counts().bytes, 0);
    one = cache.counts().disk_bytes / 3;
    cache.write_kept(kNever);
    EXPECT_EQ(cache.counts().disk_bytes, 3 * one) << "once";
    cache.keep("a", snapshot(text(8, 4)));
    cache.write_kept(hour_ago);
    EXPECT_EQ(cache.counts().disk_entries, 3) << "too late for one more";
    EXPECT_EQ(cache.counts().unwritten, 1);
  }
  const StateCacheOptions narrow{.folder = folder, .disk_bytes = 2 * one};
  {
    StateCache cache(narrow);
    expect_same(cache.find("a", text(8, 3)), snapshot(text(8, 3)));
    expect_same(cache.find("a", text(8, 1)), snapshot(text(8, 1)));
    EXPECT_EQ(cache.find("a", text(8, 2)), nullptr) << "used before the others";
    cache.keep("a", snapshot(text(8, 5)));
    cache.write_kept(kNever);
    EXPECT_LE(cache.counts().disk_bytes, 2 * one);
  }
  StateCache cache(narrow);
  expect_same(cache.find("a", text(8, 5)), snapshot(text(8, 5)));
  StateCache without({});
  without.keep("a", snapshot(text(8)));
  without.write_kept(kNever);
  EXPECT_EQ(without.counts().entries, 1);
}

TEST(StateCache, OneOwnerLeavesRoomForOthers) {
  for (const bool disk : {false, true}) {
    StateCacheOptions options{.memory_bytes = bytes_of(8) * 8, .fair = true, .model = "m"};
    if (disk) {
      int64_t one = 0;
      {
        StateCache cache({.folder = scratch_dir("state-cache"), .model = "m"});
        cache.save("a", "1", snapshot(text(8)));
        one = cache.counts().named_bytes;
      }
      options = {.folder = scratch_dir("state-cache"), .disk_bytes = one * 8, .fair = true, .model = "m"};
    }
    StateCache cache(options);
    const auto saved = [&](const std::string& owner) {
      for (int n = 0; n < 20; ++n) {
        try {
          cache.save(owner, std::to_string(n), snapshot(text(8)));
        } catch (const NoRoom& e) {
          EXPECT_PRED2(has, e.what(), "of your other states");
          return n;
        }
      }
      return 20;
    };
    EXPECT_EQ(saved("a"), 4);
    EXPECT_EQ(saved("b"), 2);
    EXPECT_EQ(saved("c"), 1);
    EXPECT_EQ(saved("a"), 4) << "in place of the first, and no more";
  }
}

/// States hold what people wrote.
TEST(StateCache, FilesAndFoldersAreForTheirOwnerAlone) {
  const Path parent = scratch_dir("state-cache") / "made", folder = parent / "m";
  StateCache cache({.memory_bytes = 0, .folder = folder, .model = "m"});
  cache.keep("a", snapshot(text(8)));
  cache.save("a", "tea", snapshot(text(5)));
  cache.flush();
  const auto mode = [](const Path& path) { return static_cast<int>(std::filesystem::status(path).permissions()); };
  EXPECT_EQ(mode(parent), 0700);
  EXPECT_EQ(mode(folder), 0700);
  for (const char* kind : {".state", ".named"}) EXPECT_EQ(mode(files(folder, kind).at(0)), 0600);
}

TEST(StateCache, DamagedFilesAreNeverUsed) {
  const Path folder = scratch_dir("state-cache");
  const auto open = [&] { return StateCacheOptions{.memory_bytes = 0, .folder = folder, .model = "m"}; };
  {
    StateCache cache(open());
    cache.keep("a", snapshot(text(5)));
    cache.keep("a", snapshot(text(8)));
    cache.save("a", "tea", snapshot(text(5)));
    cache.flush();
    for (const Path& path : files(folder, ".state"))
      if (read_state_label(path).ids.size() == 8) flip_last_byte(path);
    flip_last_byte(files(folder, ".named").at(0));
    EXPECT_EQ(cache.find("a", text(9))->ids.size(), 5u);
    EXPECT_EQ(cache.counts().unusable, 1);
    EXPECT_EQ(cache.find("a", text(9))->ids.size(), 5u);  // not tried again
    EXPECT_EQ(cache.counts().unusable, 1);
    EXPECT_PRED2(has, error_of([&] { cache.load("a", "tea"); }), "damaged: its checksum is wrong");
    cache.save("a", "tea", snapshot(text(5)));
    expect_same(cache.load("a", "tea"), snapshot(text(5)));
  }
  // Under the name of another, cut, empty, no state at all.
  const Path named = files(folder, ".named").at(0);
  const std::string whole = read_file(named);
  write_file(folder / "x.named", whole);
  write_file(folder / "y.state", whole.substr(0, 100));
  write_file(folder / "z.state", "");
  write_file(folder / "README", "not looked at");
  make_directory(folder / "d.state");
  StateCache cache(open());
  EXPECT_EQ(cache.counts().unusable, 4);
  EXPECT_EQ(cache.names("a"), std::vector<std::string>{"tea"});
  EXPECT_TRUE(is_file(folder / "README"));
}

TEST(StateCache, NamesAndTheirBudget) {
  for (const bool disk : {false, true}) {
    StateCacheOptions options{.memory_bytes = bytes_of(8) * 5 / 2, .model = "m"};
    if (disk) options = {.folder = scratch_dir("state-cache"), .disk_bytes = bytes_of(8) * 4, .model = "m"};
    StateCache cache(options);
    const std::string slash = "a/b", back = "a\\b", zero("a\0b", 3), bad = "a\xff", longest(128, 'x'), longer(129, 'x');
    for (const std::string& wrong : {std::string(), slash, back, zero, bad, longer})
      EXPECT_PRED2(has, error_of([&] { cache.save("a", wrong, snapshot(text(8))); }),
                   "name of a state: expected UTF-8");
    cache.save("a", "..", snapshot(text(8)));
    cache.save("a", longest, snapshot(text(8)));
    cache.save("a", "..", snapshot(text(8)));  // in place of the first
    EXPECT_PRED2(has, error_of([&] {
                   for (const char* name : {"3", "4"}) cache.save("b", name, snapshot(text(8)));
                 }),
                 "there is no room");
    EXPECT_EQ(cache.names("a"), (std::vector<std::string>{"..", longest}));
    expect_same(cache.load("a", ".."), snapshot(text(8)));
    EXPECT_TRUE(cache.remove("a", ".."));
    cache.save("b", "5", snapshot(text(8)));
  }
}

TEST(StateCache, ARestoredStateIsFoundAndTheForksOfOneFileShareItsMemory) {
  const Path folder = scratch_dir("state-cache");
  const StateCacheOptions options{.memory_bytes = bytes_of(20), .folder = folder, .model = "m"};
  {
    StateCache cache(options);
    cache.save("a", "tea", snapshot(text(12)));
  }
  StateCache cache(options);
  EXPECT_EQ(cache.find("a", text(20)), nullptr);
  const SnapshotPtr one = cache.load("a", "tea"), two = cache.load("a", "tea");
  EXPECT_EQ(one, two);
  EXPECT_EQ(cache.find("a", text(20)), nullptr) << "asked for by name alone";
  EXPECT_EQ(cache.restore("a", "tea"), one);
  EXPECT_EQ(cache.restore("b", "tea"), nullptr);
  EXPECT_EQ(cache.find("a", text(20)), one);
  EXPECT_EQ(cache.find("b", text(20)), nullptr);
  cache.write_kept(std::chrono::steady_clock::time_point::max());
  EXPECT_EQ(cache.counts().disk_entries, 0) << "its file is there already";
  cache.keep("a", snapshot(text(20, 2)));  // pushes it out of memory
  cache.flush();
  EXPECT_EQ(cache.find("a", text(13)), nullptr);
  EXPECT_EQ(cache.counts().disk_entries, 0) << "its file is there already";
  cache.save("a", "tea", snapshot(text(9)));
  expect_same(cache.load("a", "tea"), snapshot(text(9)));
}

TEST(StateCache, ManyThreads) {
  const Path folder = scratch_dir("state-cache");
  StateCache cache({.memory_bytes = 3 * bytes_of(20), .folder = folder, .disk_bytes = 20 * bytes_of(20)});
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      const std::string owner = concat("owner ", t % 2);
      for (uint64_t i = 0; i < 60; ++i) {
        const auto ids = text(20, i % 7);
        cache.keep(owner, snapshot({ids.begin(), ids.begin() + 1 + static_cast<int64_t>((i + t) % 20)}));
        if (const SnapshotPtr found = cache.find(owner, ids)) expect_same(found, snapshot(found->ids));
        if (i % 10 == 0) cache.save(owner, "mine", snapshot(ids));
        if (i % 10 == 5) cache.load(owner, "mine");
      }
    });
  for (std::thread& thread : threads) thread.join();
  cache.flush();
  EXPECT_LE(cache.counts().bytes, 3 * bytes_of(20));
  EXPECT_LE(cache.counts().disk_bytes, 20 * bytes_of(20));
  EXPECT_EQ(cache.counts().unusable, 0);
}

}  // namespace
}  // namespace qwerky
