// SPDX-License-Identifier: MIT
#include <charconv>

#include "base/error.h"
#include "io/tokenizer_bpe.h"

namespace qwerky {

namespace {

constexpr int64_t kLlama3Ranks = 128000;
constexpr int kLlama3Specials = 256;

int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/// Nothing when `text` is not padded base64.
std::optional<std::string> from_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  size_t digits = text.size();
  while (digits + 2 > text.size() && text[digits - 1] == '=') --digits;
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (size_t i = 0; i < digits; ++i) {
    const int value = base64_value(text[i]);
    if (value < 0) return std::nullopt;
    bits = (bits << 6) | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out += static_cast<char>((bits >> count) & 0xFF);
    }
  }
  return out;
}

struct RankLine {
  std::string bytes;
  int64_t rank = 0;
};

std::optional<RankLine> parse_rank_line(std::string_view line) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  auto bytes = from_base64(line.substr(0, space));
  if (!bytes || bytes->empty()) return std::nullopt;
  RankLine out{std::move(*bytes), 0};
  const std::string_view number = line.substr(space + 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), out.rank);
  if (error != std::errc() || end != number.data() + number.size()) return std::nullopt;
  return out;
}

/// Ids 128000 to 128255 in the order Meta's tokenizer code gives them.
std::vector<std::string> llama3_specials() {
  const auto reserved = [](int n) { return "<|reserved_special_token_" + std::to_string(n) + "|>"; };
  std::vector<std::string> out = {"<|begin_of_text|>", "<|end_of_text|>", reserved(0),           reserved(1),
                                  reserved(2),         reserved(3),       "<|start_header_id|>", "<|end_header_id|>",
                                  reserved(4),         "<|eot_id|>"};
  for (int n = 5; out.size() < kLlama3Specials; ++n) out.push_back(reserved(n));
  return out;
}

}  // namespace

bool is_tiktoken(std::string_view bytes) {
  std::string_view line = bytes.substr(0, std::min(bytes.find('\n'), bytes.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line.size() < 4096 && parse_rank_line(line).has_value();
}

std::unique_ptr<Tokenizer> tokenizer_from_tiktoken(std::string_view text, const TokenizerConfig& config,
                                                   const std::string& name) {
  auto out = std::make_unique<ByteLevelTokenizer>(name, text.size());
  int64_t line_number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    at = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    auto parsed = parse_rank_line(line);
    if (!parsed)
      fail(name, ": line ", line_number, ": expected base64, a space and a rank, found ", line.size(), " other bytes");
    out->add_piece(std::move(parsed->bytes), parsed->rank);
  }
  if (out->pieces() == 0) fail(name, ": holds no ranks");
  if (out->pieces() > kLlama3Ranks)
    fail(name, ": has ", out->pieces(), " ranks; only Llama-3's pattern is supported, which has ", kLlama3Ranks);
  out->add_all_merges();
  out->ignore_merges = true;
  out->pre_tokenizer.add_split(kLlama3Pattern, false, true, name);
  if (out->pieces() == kLlama3Ranks && out->size() == kLlama3Ranks) {
    int32_t id = kLlama3Ranks;
    for (const std::string& special : llama3_specials()) out->add({.id = id++, .text = special, .special = true});
    out->bos = out->id_of("<|begin_of_text|>");
    out->adds_bos = true;
    out->eos = {*out->id_of("<|end_of_text|>"), *out->id_of("<|eot_id|>")};
  }
  out->finish(config);
  return out;
}

}  // namespace qwerky
