// SPDX-License-Identifier: MIT
#include "io/corpus.h"

#include <zstd.h>

#include <algorithm>
#include <memory>
#include <system_error>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

constexpr std::string_view kSeparator = "<|endoftext|>";
constexpr std::string_view kSuffixes = ".txt, .jsonl, .txt.zst or .jsonl.zst";
// Text compresses 3 to 10 times, and a file of one repeated story a few hundred times; more is a bomb.
constexpr int64_t kMostExpansion = 2000;
constexpr int64_t kFreeExpansion = int64_t{64} << 20;  // small files are never refused

struct Format {
  bool known = false, lines = false, compressed = false;
};

Format format_of(std::string_view name) {
  Format format;
  auto drop = [&](std::string_view suffix) {
    const bool has = name.ends_with(suffix);
    if (has) name.remove_suffix(suffix.size());
    return has;
  };
  format.compressed = drop(".zst");
  format.lines = drop(".jsonl");
  format.known = format.lines || drop(".txt");
  return format;
}

/// Takes the bytes of one file in pieces of any size, gives whole documents.
class Splitter {
 public:
  Splitter(const std::string& name, const CorpusOptions& options, bool lines, const EachDocument& each)
      : name_(name), options_(options), lines_(lines), each_(each) {}

  void push(std::string_view bytes) {
    while (!bytes.empty() && !ended_) {
      const size_t end = bytes.find('\n');
      if (end != bytes.npos && pending_.empty()) {
        take(bytes.substr(0, end + 1));
        bytes.remove_prefix(end + 1);
        continue;
      }
      const size_t room = most_ - std::min(pending_.size(), most_);
      const size_t n = std::min(end == bytes.npos ? bytes.size() : end + 1, room);
      pending_.append(bytes.substr(0, n));
      bytes.remove_prefix(n);
      if (pending_.ends_with('\n')) {
        take(pending_);
        pending_.clear();
      } else if (pending_.size() >= most_) {
        take_part_of_line();
      }
    }
  }

  void finish() {
    if (!pending_.empty()) take(pending_);
    pending_.clear();
    emit();
  }

  /// No more documents are wanted.
  bool ended() const { return ended_; }

 private:
  // A text without line ends is cut between two characters, not inside one.
  void take_part_of_line() {
    if (lines_) fail(name_, ", line ", line_, ": longer than ", most_ >> 20, " MiB");
    size_t end = pending_.size();
    while (end > pending_.size() - 4 && (static_cast<unsigned char>(pending_[end - 1]) & 0xc0u) == 0x80u) --end;
    if (static_cast<unsigned char>(pending_[end - 1]) >= 0xc0u) --end;  // the lead byte goes with its character
    const std::string rest = pending_.substr(end);
    pending_.resize(end);
    take(pending_);
    pending_ = rest;
  }

  // One line with its end, or a part of a very long one.
  void take(std::string_view line) {
    const bool ends = line.ends_with('\n');
    const int64_t bytes = static_cast<int64_t>(line.size());
    if (!is_utf8(line)) refuse_encoding(line);
    if (byte_ == 0 && line.starts_with("\xef\xbb\xbf")) line.remove_prefix(3);  // byte order mark
    if (lines_) {
      take_object(line);
    } else {
      take_text(line);
    }
    byte_ += bytes;
    line_ += ends ? 1 : 0;
    at_line_start_ = ends;
  }

  void take_text(std::string_view line) {
    if (at_line_start_ && !separated_ &&
        std::any_of(options_.split_before.begin(), options_.split_before.end(),
                    [&](const std::string& start) { return line.starts_with(start); })) {
      emit();
    }
    for (size_t at = line.find(kSeparator); at != line.npos; at = line.find(kSeparator)) {
      document_.append(line.substr(0, at));
      line.remove_prefix(at + kSeparator.size());
      separated_ = true;
      emit();
    }
    if (document_.size() + line.size() > kMostDocumentBytes) emit();
    document_.append(line);
  }

  void take_object(std::string_view line) {
    if (line.find_first_not_of(" \t\r\n") == line.npos) return;
    const std::string place = concat(name_, ", line ", line_);
    Json object = parse_json(line, place);
    if (!object.is_object()) fail(place, ": expected a JSON object, found ", object.type_name());
    const auto at = object.find(options_.field);
    if (at == object.end())
      fail(place, ": no field \"", options_.field, "\"; name the one that holds the text (--field)");
    if (!at->is_string()) fail(place, ": expected text under \"", options_.field, "\", found ", at->type_name());
    document_ = std::move(at->get_ref<std::string&>());
    emit();
  }

  // Gives the document without the line ends around it, unless it is blank.
  void emit() {
    const size_t begin = document_.find_first_not_of("\r\n");
    if (!ended_ && document_.find_first_not_of(" \t\r\n") != document_.npos) {
      const size_t end = document_.find_last_not_of("\r\n") + 1;
      const bool whole = begin == 0 && end == document_.size();
      ended_ = !each_(whole ? std::move(document_) : document_.substr(begin, end - begin));
    }
    document_.clear();
  }

  [[noreturn]] void refuse_encoding(std::string_view line) const {
    size_t at = 0;
    for (Utf8Step step = utf8_step(line, at); step.valid; step = utf8_step(line, at)) {
      at += static_cast<size_t>(step.length);
    }
    fail(name_, ", line ", line_, ": not UTF-8 at byte ", byte_ + static_cast<int64_t>(at),
         " of the text; convert the file (iconv -t utf-8)");
  }

  const std::string& name_;
  const CorpusOptions& options_;
  const bool lines_;
  const size_t most_ = lines_ ? kMostLineBytes : kMostDocumentBytes;  // of a line held in memory
  const EachDocument& each_;
  std::string pending_;   // of a line whose end has not come
  std::string document_;  // so far
  int64_t line_ = 1;
  int64_t byte_ = 0;  // before the current line
  bool at_line_start_ = true;
  bool separated_ = false;  // a separator was seen
  bool ended_ = false;
};

bool decompress(std::string_view bytes, const std::string& name, Splitter& splitter,
                const std::function<bool(int64_t)>& progress) {
  const std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream(ZSTD_createDStream(), ZSTD_freeDStream);
  CHECK(stream != nullptr, "zstd: no memory");
  std::string chunk(ZSTD_DStreamOutSize(), '\0');
  const size_t step = ZSTD_DStreamInSize();
  int64_t produced = 0;
  size_t more = 0;  // 0 at the end of a frame
  ZSTD_inBuffer in{bytes.data(), 0, 0};
  bool full = false;  // the last call filled its output, so there may be more without further input
  while (in.pos < bytes.size() || full) {
    in.size = std::min(bytes.size(), in.pos + step);
    ZSTD_outBuffer out{chunk.data(), chunk.size(), 0};
    more = ZSTD_decompressStream(stream.get(), &out, &in);
    if (ZSTD_isError(more) != 0) fail(name, ": invalid zstd data near byte ", in.pos, ": ", ZSTD_getErrorName(more));
    produced += static_cast<int64_t>(out.pos);
    if (produced > kFreeExpansion && produced / kMostExpansion > static_cast<int64_t>(in.pos)) {
      fail(name, ": ", in.pos, " bytes expand to more than ", produced, "; refused as a decompression bomb");
    }
    splitter.push({chunk.data(), out.pos});
    full = more != 0 && out.pos == out.size;
    if (splitter.ended() || (progress && !progress(static_cast<int64_t>(in.pos)))) return false;
  }
  if (more != 0) fail(name, ": truncated: the zstd data end inside a frame");
  return true;
}

[[noreturn]] void refuse_empty(const CorpusOptions& options, const std::vector<Path>& files) {
  std::string names;
  for (const Path& input : options.inputs) names += (names.empty() ? "" : ", ") + input.string();
  fail("corpus ", names.empty() ? "(no files given)" : names, ": empty; ", files.size(), " files hold no text");
}

}  // namespace

std::vector<Path> corpus_files(const CorpusOptions& options) {
  std::vector<Path> files;
  for (const Path& input : options.inputs) {
    if (!is_dir(input)) {
      if (!is_there(input)) fail("corpus ", input.string(), ": no such file or directory");
      if (!format_of(input.string()).known) fail("corpus ", input.string(), ": expected a name in ", kSuffixes);
      files.push_back(input);
      continue;
    }
    if (same_place(input, options.leave_out))
      fail("corpus ", input.string(), ": the result is written there; give it a directory of its own (--out)");
    const size_t before = files.size();
    std::error_code error;
    for (auto at = std::filesystem::recursive_directory_iterator(input, error);
         !error && at != std::filesystem::recursive_directory_iterator(); at.increment(error)) {
      std::error_code ignored;
      if (at->is_directory(ignored) && same_place(at->path(), options.leave_out)) at.disable_recursion_pending();
      if (at->is_regular_file(ignored) && format_of(at->path().string()).known) files.push_back(at->path());
    }
    if (error) fail("corpus ", input.string(), ": ", error.message());
    if (files.size() == before) fail("corpus ", input.string(), ": the directory holds no file in ", kSuffixes);
    std::sort(files.begin() + static_cast<std::ptrdiff_t>(before), files.end());
  }
  return files;
}

int64_t estimate_tokens(const CorpusOptions& options) {
  // Three bytes of text a token (small vocabularies have 2.5, large ones 4 to 5); zstd makes text about four times
  // smaller.
  int64_t tokens = 0;
  for (const Path& file : corpus_files(options)) {
    const int64_t bytes = bytes_under(file);
    tokens += format_of(file.string()).compressed ? (bytes + 2) / 3 * 4 : (bytes + 2) / 3;
  }
  return tokens;
}

bool read_documents(std::string_view bytes, const std::string& name, const CorpusOptions& options,
                    const EachDocument& each, const std::function<bool(int64_t)>& progress) {
  const Format format = format_of(name);
  Splitter splitter(name, options, format.lines, each);
  if (format.compressed) {
    if (!decompress(bytes, name, splitter, progress)) return false;
  } else {
    constexpr size_t kStep = size_t{1} << 20;
    for (size_t at = 0; at < bytes.size(); at += kStep) {
      splitter.push(bytes.substr(at, kStep));
      if (splitter.ended() || (progress && !progress(static_cast<int64_t>(std::min(at + kStep, bytes.size())))))
        return false;
    }
  }
  splitter.finish();
  return !splitter.ended();
}

bool read_corpus(const CorpusOptions& options, const std::vector<Path>& files, const EachDocument& each,
                 const std::function<void(int64_t, int64_t)>& progress) {
  int64_t total = 0, before = 0;
  if (progress) {
    for (const Path& file : files) total += MappedFile(file).size();
  }
  bool any = false;
  auto counted = [&](std::string&& document) {
    any = true;
    return each(std::move(document));
  };
  for (const Path& path : files) {
    const MappedFile file(path);
    std::function<bool(int64_t)> here;
    if (progress) here = [&](int64_t done) { return progress(before + done, total), true; };
    if (!read_documents(file.bytes(), path.string(), options, counted, here)) return false;
    before += file.size();
  }
  if (!any) refuse_empty(options, files);
  return true;
}

void check_corpus(const CorpusOptions& options) {
  constexpr int64_t kBeginning = int64_t{1} << 20, kMost = int64_t{256} << 20;
  const std::vector<Path> files = corpus_files(options);
  bool any = false;
  int64_t seen = 0;
  for (const Path& path : files) {
    const MappedFile file(path);
    int64_t here = 0;
    const bool whole = read_documents(
        file.bytes(), path.string(), options, [&](std::string&&) { return any = true; },
        [&](int64_t done) {
          here = done;
          return done < kBeginning || done >= file.size();
        });
    any = any || !whole;  // so much may be one document without an end yet
    seen += here;
    if (seen >= kMost) return;
  }
  if (!any) refuse_empty(options, files);
}

bool read_corpus(const CorpusOptions& options, const EachDocument& each) {
  return read_corpus(options, corpus_files(options), each, nullptr);
}

}  // namespace qwerky
