// SPDX-License-Identifier: MIT
#include "io/files.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "data.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;
using testing::scratch_dir;

int64_t entries(const Path& dir) {
  return std::distance(std::filesystem::directory_iterator(dir), std::filesystem::directory_iterator());
}

/// Limits how large a file this process may write, so that a write fails as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  sighandler_t handler_;
};

TEST(Files, WritesThenReadsAndMaps) {
  const Path dir = scratch_dir("files");
  const std::string text("some\0bytes\n", 11);
  write_file(dir / "a", text);
  EXPECT_EQ(read_file(dir / "a"), text);
  const MappedFile map(dir / "a");
  EXPECT_EQ(map.bytes(), text);
  EXPECT_EQ(map.size(), 11);
  write_file(dir / "a", "");
  EXPECT_EQ(map.bytes(), text);  // the mapping keeps the file it opened
  EXPECT_EQ(read_file(dir / "a"), "");
  EXPECT_EQ(MappedFile(dir / "a").bytes(), "");
  EXPECT_EQ(entries(dir), 1);
}

TEST(Files, RefusesWhatIsNotARegularFile) {
  const Path dir = scratch_dir("files-irregular");
  EXPECT_PRED2(has, error_of([&] { MappedFile m(dir / "absent"); }), "absent: No such file");
  EXPECT_PRED2(has, error_of([&] { read_file(dir); }), "found a directory");
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_PRED2(has, error_of([&] { read_file(dir / "pipe"); }), "not a regular file");
}

TEST(Files, WriterLeavesTheOldFileUntilCommit) {
  const Path dir = scratch_dir("files-atomic");
  write_file(dir / "a", "old");
  {
    FileWriter file(dir / "a");
    file.write("half of the ne");
    EXPECT_EQ(file.written(), 14);
    EXPECT_EQ(read_file(dir / "a"), "old");
  }
  EXPECT_EQ(read_file(dir / "a"), "old");
  EXPECT_EQ(entries(dir), 1);
  write_file(dir / "a.partial", "left by a killed run, longer than what comes");
  FileWriter file(dir / "a");
  file.write("new");
  file.commit();
  EXPECT_EQ(read_file(dir / "a"), "new");
  EXPECT_EQ(entries(dir), 1);
}

TEST(Files, TwoWritersOfOneFileAreRefused) {
  const Path dir = scratch_dir("files-two");
  FileWriter first(dir / "a");
  EXPECT_PRED2(has, error_of([&] { FileWriter second(dir / "a"); }), "another writer");
  first.write("1");
  first.commit();
  EXPECT_EQ(read_file(dir / "a"), "1");
  write_file(dir / "a", "2");
  EXPECT_EQ(read_file(dir / "a"), "2");
}

TEST(Files, FullDiskIsAnErrorThatLeavesNothing) {
  const Path dir = scratch_dir("files-full");
  write_file(dir / "a", "old");
  const std::string large(1 << 20, 'x');
  {
    const FileSizeLimit limit(4096);
    const std::string error = error_of([&] { write_file(dir / "a", large); });
    EXPECT_PRED2(has, error, "cannot write " + (dir / "a").string() + ": File too large");
  }
  EXPECT_EQ(read_file(dir / "a"), "old");
  EXPECT_EQ(entries(dir), 1);
  if (std::filesystem::exists("/dev/full")) {
    const std::string error = error_of([&] { append_line("/dev/full", "x"); });
    EXPECT_PRED2(has, error, "No space left on device; free some space");
  }
}

TEST(Files, UnwritableDirectoryIsNamed) {
  const Path dir = scratch_dir("files-unwritable");
  const auto write = [](const Path& path) { write_file(path, "x"); };
  write(dir / "file");
  for (const auto& refuse :
       {std::function<void(const Path&)>(write), std::function<void(const Path&)>(check_writable_file)}) {
    EXPECT_PRED2(has, error_of([&] { refuse(dir / "none" / "a"); }), (dir / "none" / "a").string());
    EXPECT_PRED2(has, error_of([&] { refuse(dir); }), "Is a directory");
    EXPECT_PRED2(has, error_of([&] { refuse(dir / "file" / "a"); }), "Not a directory");
    if (geteuid() != 0) {
      std::filesystem::permissions(dir, std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
      EXPECT_PRED2(has, error_of([&] { refuse(dir / "b"); }), "Permission denied");
      std::filesystem::permissions(dir, std::filesystem::perms::owner_all);
    }
  }
  check_writable_file(dir / "file");
  check_writable_file(dir / "new");
  EXPECT_EQ(read_file(dir / "file"), "x");
  EXPECT_EQ(entries(dir), 1);
}

TEST(Files, AppendKeepsWholeLines) {
  const Path dir = scratch_dir("files-append");
  append_line(dir / "log", "one");
  append_line(dir / "log", "two");
  {
    const FileSizeLimit limit(10);
    EXPECT_PRED2(has, error_of([&] { append_line(dir / "log", "three"); }), "log: File too large");
  }
  EXPECT_EQ(read_file(dir / "log"), "one\ntwo\n");
}

TEST(Files, FreeDiskOfAPathThatDoesNotExistYet) {
  const Path dir = scratch_dir("files-free");
  EXPECT_GT(free_disk_bytes(dir), 0);
  EXPECT_GT(free_disk_bytes(dir / "not" / "yet"), 0);
  EXPECT_GT(free_disk_bytes("relative/and/absent"), 0);
}

// FIPS 180-4 examples, and the million 'a' of NIST's test vectors.
TEST(Sha256, KnownDigests) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(
      sha256("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
             "nopqrstu"),
      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesGiveTheSameDigest) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 7);
  for (size_t piece : {1u, 3u, 55u, 56u, 63u, 64u, 65u, 128u, 299u}) {
    Sha256 hash;
    for (size_t at = 0; at < text.size(); at += piece) hash.update(std::string_view(text).substr(at, piece));
    EXPECT_EQ(hash.hex(), sha256(text)) << piece;
    EXPECT_EQ(hash.hex(), sha256(text)) << "hex() must not change the hash";
  }
}

TEST(Json, ReadsEveryKindOfValue) {
  const Json json = parse_json(
      R"( {"a": [1, -2, 2.5, true, false, null, "\u00e9\ud83d\ude00"], "b": {"c": {}}, "": 18446744073709551615} )",
      "t");
  EXPECT_EQ(json["a"][0], 1);
  EXPECT_EQ(json["a"][1], -2);
  EXPECT_EQ(json["a"][2], 2.5);
  EXPECT_EQ(json["a"][6], "\xc3\xa9\xf0\x9f\x98\x80");
  EXPECT_TRUE(json["b"]["c"].is_object());
  EXPECT_EQ(json[""].get<uint64_t>(), UINT64_MAX);
  EXPECT_EQ(parse_json("7", "t"), 7);
  EXPECT_EQ(parse_json("[[1],[2,[3]],{\"x\":[4]}]", "t").dump(), "[[1],[2,[3]],{\"x\":[4]}]");
}

TEST(Json, DepthIsLimitedAt64) {
  const auto nested = [](size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_NO_THROW(parse_json(nested(64), "t"));
  EXPECT_PRED2(has, error_of([&] { parse_json(nested(65), "t"); }), "t: invalid JSON at byte 65: nested more than 64");
  EXPECT_PRED2(has, error_of([] { parse_json(std::string(10'000'000, '['), "t"); }), "nested more than 64");
  std::string objects;
  for (int i = 0; i < 100; ++i) objects += "{\"a\":";
  EXPECT_PRED2(has, error_of([&] { parse_json(objects, "t"); }), "nested more than 64");
}

TEST(Json, RefusesWhatIsNotStrict) {
  const auto refused = [](std::string_view text, const char* why) {
    const std::string error = error_of([&] { parse_json(text, "the.json"); });
    EXPECT_PRED2(has, error, "the.json: invalid JSON at byte ");
    EXPECT_PRED2(has, error, why);
  };
  refused("", "empty");
  refused(" ", "unexpected end");
  refused("{", "unexpected end");
  refused("[1,]", "unexpected ']'");
  refused("[1] x", "expected end of input");
  refused("{'a':1}", "invalid literal");
  refused("[NaN]", "invalid literal");
  refused("[01]", "expected");
  refused("[1e999]", "number overflow");
  refused("[-1e999]", "number overflow");
  refused("// c\n1", "invalid literal");
  refused("{\"a\":1,\"a\":2}", "\"a\" appears twice");
  refused("{\"x\":{\"a\":1,\"\\u0061\":2}}", "\"a\" appears twice");
  refused("\"\xff\"", "ill-formed UTF-8");
  refused("\"\xc0\x80\"", "ill-formed UTF-8");
  refused("\"\xed\xa0\x80\"", "ill-formed UTF-8");
  refused("\"\\ud800\"", "surrogate");
  refused("\"a\nb\"", "control character");
  refused(std::string_view("{}\0{", 4), "zero byte");
  refused(std::string_view("\"a\0\"", 4), "zero byte");
}

TEST(Json, MessagesAreShortAndPrintable) {
  const std::string error = error_of([] { parse_json("{\"\x1b[31m" + std::string(100'000, 'y'), "t"); });
  EXPECT_LT(error.size(), 500u);
  for (char c : error) EXPECT_TRUE(c >= 0x20 && c < 0x7f);
  EXPECT_LT(error_of([] {
              const std::string key(100'000, 'k');
              parse_json("{\"" + key + "\":1,\"" + key + "\":1}", "t");
            }).size(),
            500u);
}

TEST(Json, FileErrorsNameTheFile) {
  const Path dir = scratch_dir("files-json");
  write_file(dir / "bad.json", "{\"a\" 1}");
  EXPECT_PRED2(has, error_of([&] { read_json(dir / "bad.json"); }), (dir / "bad.json").string());
  write_file(dir / "good.json", "{\"a\": 1}");
  EXPECT_EQ(read_json(dir / "good.json")["a"], 1);
}

TEST(DirectoryLock, KeepsASecondOneOutAndLeavesNothing) {
  const Path dir = scratch_dir("lock");
  {
    const DirectoryLock first(dir / "out" / "training");
    EXPECT_PRED2(has, error_of([&] { DirectoryLock second(dir / "out" / "training"); }),
                 (dir / "out" / "training").string() + ": another process works in this directory");
    const DirectoryLock other(dir / "other");
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir));
  {
    const DirectoryLock again(dir / "out");
    write_file(dir / "out" / "result", "kept");
  }
  EXPECT_EQ(list_names(dir / "out"), std::vector<std::string>{"result"});
  write_file(dir / "out" / "lock", "left by a killed process");
  const DirectoryLock over(dir / "out");
}

}  // namespace
}  // namespace qwerky
