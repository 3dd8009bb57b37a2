// SPDX-License-Identifier: MIT
#include "io/tokenizer_bpe.h"

#include <algorithm>

#include "base/error.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {

namespace {

/// Real vocabularies end below 300,000.
constexpr int64_t kLargestId = 1 << 22;

std::string printable(std::string_view bytes) {
  std::string storage;
  return std::string(valid_utf8(bytes.substr(0, 64), storage));
}

}  // namespace

ByteLevelTokenizer::ByteLevelTokenizer(std::string name, size_t file_bytes)
    : name_(std::move(name)), largest_id_(std::min(kLargestId, static_cast<int64_t>(file_bytes) + 4096)) {}

void ByteLevelTokenizer::add_piece(std::string bytes, int64_t id, bool mergeable) {
  if (id < 0 || id > largest_id_)
    fail(name_, ": token \"", printable(bytes), "\" has id ", id, ", expected 0 to ", largest_id_);
  const auto index = static_cast<size_t>(id);
  if (index >= pieces_.size()) pieces_.resize(index + 1);
  if (!pieces_[index].empty())
    fail(name_, ": id ", id, " stands for both \"", printable(pieces_[index]), "\" and \"", printable(bytes), "\"");
  if (bytes.empty()) return;
  if (mergeable) {
    const auto [it, fresh] = ids_.emplace(bytes, static_cast<int32_t>(id));
    if (!fresh) fail(name_, ": token \"", printable(bytes), "\" has two ids, ", it->second, " and ", id);
  }
  pieces_[index] = std::move(bytes);
}

void ByteLevelTokenizer::add_merge(std::string_view left, std::string_view right, int32_t rank) {
  const auto find = [&](std::string_view part) {
    const auto it = ids_.find(part);
    if (it == ids_.end())
      fail(name_, ": merge ", rank, " (\"", printable(left), "\", \"", printable(right), "\") needs token \"",
           printable(part), "\", which the vocabulary lacks");
    return it->second;
  };
  const int32_t l = find(left), r = find(right);
  std::string both(left);
  both += right;
  bpe_.add_merge(l, r, rank, find(both));
}

void ByteLevelTokenizer::add_merge_line(std::string_view line, int32_t rank, const std::string& where) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos)
    fail(where, ": merge ", rank, " is \"", printable(line), "\", expected two tokens and a space between");
  const auto bytes_of = [&](std::string_view part) {
    auto bytes = alphabet_to_bytes(part);
    if (!bytes || bytes->empty())
      fail(where, ": merge ", rank, ": \"", printable(part), "\" is not in the byte alphabet");
    return std::move(*bytes);
  };
  add_merge(bytes_of(line.substr(0, space)), bytes_of(line.substr(space + 1)), rank);
}

void ByteLevelTokenizer::add_all_merges() {
  std::vector<std::string_view> views(pieces_.begin(), pieces_.end());
  std::vector<int32_t> ranks(views.size());
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(views.size());
  for (size_t i = 0; i < views.size(); ++i) {
    ranks[i] = static_cast<int32_t>(i);
    if (!views[i].empty()) ids.emplace(views[i], static_cast<int32_t>(i));
  }
  bpe_.add_all_splits(views, ranks, ids);
}

void ByteLevelTokenizer::finish(const TokenizerConfig& config) {
  for (int b = 0; b < 256; ++b) {
    const char c = static_cast<char>(b);
    const auto it = ids_.find(std::string_view(&c, 1));
    byte_id_[static_cast<size_t>(b)] = it == ids_.end() ? -1 : it->second;
  }
  add_listed(config, largest_id_, name_);
  for (const AddedToken& token : added_.all()) {
    const std::string& piece = pieces_[static_cast<size_t>(token.id)];
    if (!piece.empty() && piece != token.text && bytes_to_alphabet(piece) != token.text)
      fail(name_, ": id ", token.id, " stands for both \"", printable(piece), "\" and the added token \"",
           printable(token.text), "\"");
  }
  apply(config, name_);
}

Vocabulary ByteLevelTokenizer::vocabulary() const {
  Vocabulary out;
  for (const std::string& piece : pieces_) {
    out.tokens.push_back(bytes_to_alphabet(piece));
    out.types.push_back(piece.empty() ? Vocabulary::unused : Vocabulary::normal);
  }
  for (const AddedToken& token : added_.all()) {
    out.tokens[static_cast<size_t>(token.id)] = token.text;
    out.types[static_cast<size_t>(token.id)] = token.special ? Vocabulary::control : Vocabulary::user_defined;
  }
  out.pre_tokenizer = pre_tokenizer.description();
  out.ignore_merges = ignore_merges;
  out.nfc = use_nfc;
  for (const auto& [left, right] : bpe_.merges())
    out.merges.push_back(bytes_to_alphabet(pieces_[static_cast<size_t>(left)]) + ' ' +
                         bytes_to_alphabet(pieces_[static_cast<size_t>(right)]));
  return out;
}

std::optional<int32_t> ByteLevelTokenizer::find_ordinary(std::string_view text) const {
  const auto it = ids_.find(text);
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

std::string ByteLevelTokenizer::normalise(std::string_view text) const {
  if (pre_tokenizer.prefixes_space()) return decode(encode(text, false));
  std::string valid, normal;
  const std::string_view clean = valid_utf8(text, valid);
  return std::string(normal_form(clean, normal));
}

std::string_view ByteLevelTokenizer::normal_form(std::string_view text, std::string& storage) const {
  return use_nfc ? nfc(text, storage) : text;
}

void ByteLevelTokenizer::encode_text(std::string_view text, bool, std::vector<int32_t>& out) const {
  WordCache& cache = WordCache::of(cache_owner_);
  const auto encode = [this](std::string_view word, std::vector<int32_t>& to) { encode_word(word, to); };
  pre_tokenizer.run(text, [&](std::string_view word) { cache.encode(word, out, encode); });
}

void ByteLevelTokenizer::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  if (ignore_merges) {
    const auto it = ids_.find(word);
    if (it != ids_.end()) return out.push_back(it->second);
  }
  thread_local std::vector<int32_t> symbols;
  symbols.clear();
  bool was_unknown = false;
  for (char c : word) {
    const int32_t id = byte_id_[static_cast<unsigned char>(c)];
    if (id < 0 && !unknown)
      fail(name_, ": byte ", static_cast<int>(static_cast<unsigned char>(c)), " of \"", printable(word),
           "\" has no token, and the vocabulary has no unknown token");
    if (id >= 0) {
      symbols.push_back(id);
    } else if (!was_unknown || !fuse_unknown) {
      symbols.push_back(*unknown);
    }
    was_unknown = id < 0;
  }
  bpe_.merge(symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
  if (symbols.capacity() > (size_t{1} << 16)) std::vector<int32_t>().swap(symbols);
}

}  // namespace qwerky
