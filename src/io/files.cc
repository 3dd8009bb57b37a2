// SPDX-License-Identifier: MIT
#include "io/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tensor/memory.h"

namespace qwerky {
namespace {

namespace fs = std::filesystem;

std::string reason(int code) { return std::generic_category().message(code); }

/// Closes on scope exit; release() hands the descriptor on.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

/// Opens a regular file for reading and tells its size. O_NONBLOCK: opening a pipe must not wait for a writer.
int open_regular(const Path& path, int64_t& size) {
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) fail("cannot open ", path.string(), ": ", reason(errno));
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) fail("cannot read ", path.string(), ": ", reason(errno));
  if (S_ISDIR(info.st_mode)) fail("cannot read ", path.string(), ": expected a file, found a directory");
  if (!S_ISREG(info.st_mode)) fail("cannot read ", path.string(), ": not a regular file");
  size = info.st_size;
  return fd.release();
}

/// Writes all bytes; 0 or the error code. Calls are at most 1 GiB: the kernel takes no more than 2 GiB at once.
int write_all(int fd, const char* data, int64_t bytes) {
  constexpr int64_t kMost = int64_t{1} << 30;
  while (bytes > 0) {
    const ssize_t n = ::write(fd, data, static_cast<size_t>(std::min(bytes, kMost)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return ENOSPC;
    data += n;
    bytes -= n;
  }
  return 0;
}

Path directory_of(const Path& path) {
  const Path parent = path.parent_path();
  return parent.empty() ? Path(".") : parent;
}

/// `path` or the nearest of its parents that exists.
Path nearest(const Path& path) {
  std::error_code ignored;
  Path at = fs::absolute(path, ignored);
  while (!is_there(at) && at.has_relative_path()) at = at.parent_path();
  return at;
}

/// The number that follows the word `key` in a file of the kernel (without key: the file's first word).
int64_t number_after(const char* file, std::string_view key, int64_t absent) {
  std::ifstream words(file);
  int64_t number = 0;
  if (key.empty()) return words >> number ? number : absent;
  for (std::string word; words >> word;)
    if (word == key) return words >> number ? number : absent;
  return absent;
}

std::string why_write_failed(const Path& path, int code) {
  const std::string what = concat("cannot write ", path.string(), ": ", reason(code));
  if (code != ENOSPC && code != EDQUOT) return what;
  return concat(what, "; free some space or choose another directory");
}

/// Opens and locks `file`, which is made if absent; -1 when another process has it locked. Its name then means the
/// locked file: the other may have removed or renamed it between opening and locking. `path` is for messages.
int open_locked(const Path& file, const Path& path) {
  while (true) {
    Descriptor fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
    if (fd.get() < 0) fail(why_write_failed(path, errno));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return -1;
    struct stat mine {
    }, named{};
    if (::fstat(fd.get(), &mine) != 0) fail(why_write_failed(path, errno));
    if (::lstat(file.c_str(), &named) == 0 && mine.st_ino == named.st_ino && mine.st_dev == named.st_dev)
      return fd.release();
  }
}

/// Input iterator over text that tells how far the parser has read.
class Cursor {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  Cursor(const char* at, const char** seen) : at_(at), seen_(seen) {}
  const char& operator*() const { return *at_; }
  Cursor& operator++() {
    *seen_ = ++at_;
    return *this;
  }
  Cursor operator++(int) {
    const Cursor before = *this;
    ++*this;
    return before;
  }
  bool operator==(const Cursor& other) const { return at_ == other.at_; }
  bool operator!=(const Cursor& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** seen_;
};

/// Builds the document and enforces the limits that nlohmann's own builder lacks: depth and unique keys. Of objects
/// that keep the order of their keys, where a key is looked for among all others, also their number.
template <class J>
class Builder : public nlohmann::json_sax<J> {
 public:
  using typename nlohmann::json_sax<J>::number_integer_t, typename nlohmann::json_sax<J>::number_unsigned_t,
      typename nlohmann::json_sax<J>::number_float_t, typename nlohmann::json_sax<J>::string_t,
      typename nlohmann::json_sax<J>::binary_t;
  Builder(std::string_view text, const std::string& name) : seen(text.data()), begin_(text.data()), name_(name) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override {
    stop("binary value");
    return false;
  }
  bool start_object(std::size_t) override { return enter(J::object()); }
  bool start_array(std::size_t) override { return enter(J::array()); }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    auto& object = open_.back()->template get_ref<typename J::object_t&>();
    if (std::is_same_v<J, OrderedJson> && object.size() == kMostOrderedKeys)
      stop(concat("an object of more than ", kMostOrderedKeys, " keys"));
    const auto [at, fresh] = object.emplace(name, nullptr);
    if (!fresh) stop(concat("the key ", J(shown(name)).dump(), " appears twice in one object"));
    slot_ = &at->second;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    std::string_view what = error.what();
    if (const size_t tag = what.find("] "); tag != what.npos) what.remove_prefix(tag + 2);
    stop(shown(what));
    return false;
  }

  const char* seen;  ///< how far the parser has read
  J root;

 private:
  static constexpr size_t kDeepest = 64, kMostOrderedKeys = 1024;

  [[noreturn]] void stop(const std::string& what) const {
    fail(name_, ": invalid JSON at byte ", seen - begin_, ": ", what);
  }
  /// Printable and short whatever the file holds.
  static std::string shown(std::string_view text) {
    constexpr size_t kMost = 200;
    std::string safe(text.substr(0, kMost));
    for (char& c : safe)
      if (c < 0x20 || c > 0x7e) c = '?';
    return text.size() > kMost ? safe + "..." : safe;
  }
  J* place(J&& value) {
    if (open_.empty()) {
      root = std::move(value);
      return &root;
    }
    if (open_.back()->is_array())
      return &open_.back()->template get_ref<typename J::array_t&>().emplace_back(std::move(value));
    *slot_ = std::move(value);
    return slot_;
  }
  template <class T>
  bool add(T&& value) {
    place(J(std::forward<T>(value)));
    return true;
  }
  bool enter(J&& empty) {
    if (open_.size() == kDeepest) stop(concat("nested more than ", kDeepest, " deep"));
    open_.push_back(place(std::move(empty)));
    return true;
  }
  bool leave() {
    open_.pop_back();
    return true;
  }

  const char* begin_;
  const std::string& name_;
  std::vector<J*> open_;  // a container grows only while it is the last of these, so the pointers stay valid
  J* slot_ = nullptr;     // where the value of the last key goes
};

template <class J>
J parse(std::string_view text, const std::string& name) {
  // nlohmann takes a zero byte for the end of the text and would accept anything behind it.
  if (const size_t zero = text.find('\0'); zero != text.npos)
    fail(name, ": invalid JSON at byte ", zero, ": zero byte");
  if (text.empty()) fail(name, ": invalid JSON at byte 0: empty");
  Builder<J> builder(text, name);
  J::sax_parse(Cursor(text.data(), &builder.seen), Cursor(text.data() + text.size(), &builder.seen), &builder);
  return std::move(builder.root);
}

}  // namespace

MappedFile::MappedFile(const Path& path) : path_(path), data_("") {
  const Descriptor fd(open_regular(path, size_));
  if (size_ == 0) return;
  void* memory = ::mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) fail("cannot map ", path.string(), " (", size_, " bytes): ", reason(errno));
  data_ = static_cast<const char*>(memory);
}

MappedFile::~MappedFile() {
  if (size_ > 0) ::munmap(const_cast<char*>(data_), static_cast<size_t>(size_));
}

bool MappedFile::advise(const void* begin, int64_t bytes, bool whole_pages, int advice) const {
  const int64_t page = ::sysconf(_SC_PAGESIZE), first = static_cast<const char*>(begin) - data_, end = first + bytes;
  if (first < 0 || end > size_) return false;
  const int64_t from = (whole_pages ? first + page - 1 : first) / page * page,
                to = whole_pages ? end / page * page : end;
  if (from < to) ::madvise(const_cast<char*>(data_) + from, static_cast<size_t>(to - from), advice);  // a hint
  return true;
}

bool MappedFile::prefetch(const void* begin, int64_t bytes) const { return advise(begin, bytes, false, MADV_WILLNEED); }

void MappedFile::forget(const void* begin, int64_t bytes) const { advise(begin, bytes, true, MADV_DONTNEED); }

std::string read_file(const Path& path) {
  int64_t size = 0;
  const Descriptor fd(open_regular(path, size));
  std::string text(static_cast<size_t>(size), '\0');
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t n = ::read(fd.get(), text.data() + have, text.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("cannot read ", path.string(), ": ", reason(errno));
    if (n == 0) break;  // the file shrank since
    have += static_cast<size_t>(n);
  }
  text.resize(have);
  return text;
}

FileWriter::FileWriter(const Path& path, Readers readers) : path_(path), temporary_(path.string() + ".partial") {
  // One fixed temporary name, so what a killed run left is written over. The lock keeps a second writer out.
  Descriptor fd(open_locked(temporary_, path_));
  if (fd.get() < 0) fail("cannot write ", path_.string(), ": another writer has it open");
  if (::ftruncate(fd.get(), 0) != 0 || (readers == Readers::owner && ::fchmod(fd.get(), 0600) != 0))
    fail(why_write_failed(path_, errno));
  fd_ = fd.release();
}

FileWriter::~FileWriter() {
  if (fd_ < 0) return;
  ::unlink(temporary_.c_str());
  ::close(fd_);
}

void FileWriter::write(const void* data, int64_t bytes) {
  CHECK(fd_ >= 0, "write after commit: ", path_.string());
  const int code = write_all(fd_, static_cast<const char*>(data), bytes);
  if (code != 0) fail(why_write_failed(path_, code), " (after ", written_, " bytes)");
  written_ += bytes;
}

void FileWriter::commit() {
  CHECK(fd_ >= 0, "committed twice: ", path_.string());
  if (::fsync(fd_) != 0) fail(why_write_failed(path_, errno));
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(why_write_failed(path_, errno));
  if (::close(std::exchange(fd_, -1)) != 0) fail(why_write_failed(path_, errno));
  const Descriptor dir(::open(directory_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // EINVAL: a file system whose directories need no sync.
  if (dir.get() >= 0 && ::fsync(dir.get()) != 0 && errno != EINVAL) fail(why_write_failed(path_, errno));
}

void write_file(const Path& path, std::string_view text) {
  FileWriter file(path);
  file.write(text);
  file.commit();
}

DirectoryLock::DirectoryLock(const Path& dir, Readers readers) : file_(dir / "lock") {
  for (Path at = dir; !at.empty() && !is_there(at); at = at.parent_path()) made_.push_back(at);
  make_directory(dir);
  if (readers == Readers::owner)
    for (const Path& made : made_)
      if (::chmod(made.c_str(), 0700) != 0) fail(why_write_failed(made, errno));
  fd_ = open_locked(file_, file_);
  if (fd_ < 0) fail(dir.string(), ": another process works in this directory; wait for it, or choose another");
}

DirectoryLock::~DirectoryLock() {
  ::unlink(file_.c_str());
  ::close(fd_);
  for (const Path& dir : made_) ::rmdir(dir.c_str());  // fails where something was written
}

Json parse_json(std::string_view text, const std::string& name) { return parse<Json>(text, name); }

OrderedJson parse_ordered_json(std::string_view text, const std::string& name) {
  return parse<OrderedJson>(text, name);
}

Json read_json(const Path& path) { return parse_json(read_file(path), path.string()); }

void append_line(const Path& path, std::string_view line) {
  const Descriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (fd.get() < 0) fail(why_write_failed(path, errno));
  struct stat before {};
  if (::fstat(fd.get(), &before) != 0) fail(why_write_failed(path, errno));
  const std::string whole = std::string(line) + '\n';
  const int code = write_all(fd.get(), whole.data(), static_cast<int64_t>(whole.size()));
  if (code == 0) return;
  // Takes back what fitted on a full disk: a log holds whole lines only.
  const bool mended = S_ISREG(before.st_mode) && ::ftruncate(fd.get(), before.st_size) == 0;
  fail(why_write_failed(path, code), mended ? "" : " (its last line may be cut)");
}

bool is_file(const Path& path) {
  std::error_code absent;
  return fs::is_regular_file(path, absent);
}

bool is_dir(const Path& path) {
  std::error_code absent;
  return fs::is_directory(path, absent);
}

bool is_there(const Path& path) {
  std::error_code absent;
  return fs::exists(path, absent);
}

bool same_place(const Path& a, const Path& b) {
  std::error_code absent;
  return a == b || fs::equivalent(a, b, absent);
}

std::vector<std::string> list_names(const Path& dir) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename().string());
  if (error) fail("cannot list ", dir.string(), ": ", error.message());
  std::sort(names.begin(), names.end());
  return names;
}

void make_directory(const Path& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) fail("cannot make the directory ", dir.string(), ": ", error.message());
}

void remove_tree(const Path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail("cannot remove ", path.string(), ": ", error.message());
}

int64_t bytes_under(const Path& path) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) return static_cast<int64_t>(fs::file_size(path, error));
  int64_t bytes = 0;
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;
    if (it->is_regular_file(gone)) bytes += static_cast<int64_t>(it->file_size(gone));
  }
  return bytes;
}

void check_writable(const Path& dir) {
  const Path at = nearest(dir);
  if (!is_dir(at)) fail("cannot make the directory ", dir.string(), ": ", at.string(), " is not a directory");
  if (::access(at.c_str(), W_OK | X_OK) != 0) fail("cannot write into ", at.string(), ": ", reason(errno));
}

void check_writable_file(const Path& path) {
  if (is_dir(path)) fail("cannot write ", path.string(), ": ", reason(EISDIR));
  const FileWriter removed_again(path);
}

int64_t free_disk_bytes(const Path& path) {
  const Path at = nearest(path);
  struct statvfs info {};
  if (::statvfs(at.c_str(), &info) != 0) fail("cannot ask for the free space of ", at.string(), ": ", reason(errno));
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

int64_t available_memory_bytes() {
  if (DeviceMemory* device = device_memory()) return device->available();
  constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();
  const int64_t machine = number_after("/proc/meminfo", "MemAvailable:", kUnlimited >> 10) << 10;
  // Control group version 2, as containers have it: what it may hold, less what cannot be given back ("max": no limit).
  const int64_t limit = number_after("/sys/fs/cgroup/memory.max", "", kUnlimited);
  const int64_t held = number_after("/sys/fs/cgroup/memory.stat", "anon", 0);
  return std::min(machine, std::max<int64_t>(0, limit - held));
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (const size_t colon = line.find(": "); line.starts_with("model name") && colon != line.npos)
      return line.substr(colon + 2);
  return "";
}

}  // namespace qwerky
