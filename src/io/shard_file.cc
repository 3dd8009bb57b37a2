// SPDX-License-Identifier: MIT
#include "io/shard_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/random.h"
#include "io/shards.h"

namespace qwerky {
namespace {

// A shard file: 64 bytes of head, int32 tokens (little-endian), then a foot, because the count and the hash are
// known last: count (8 bytes), SHA-256 of the token bytes in hex (64), the magic again (8).
constexpr std::string_view kMagic = "QWKSHARD";
constexpr size_t kHead = 64, kFoot = 80;
constexpr size_t kTokenBytes = sizeof(int32_t);
static_assert(std::endian::native == std::endian::little, "shards are mapped as they are");

/// A bijection on [0, n): four Feistel rounds on the bits that n needs, walked until inside (expected < 4 times).
uint64_t permute(uint64_t i, uint64_t n, const Random& random) {
  const int half = std::max(1, static_cast<int>(std::bit_width(n - 1) + 1) / 2);
  const uint64_t mask = (uint64_t{1} << half) - 1;
  do {
    uint64_t left = i >> half, right = i & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      const uint64_t mixed = left ^ (random.bits((round << 32) + right) & mask);
      left = right;
      right = mixed;
    }
    i = left << half | right;
  } while (i >= n);
  return i;
}

}  // namespace

ShardView view_shard(std::string_view file) {
  if (file.size() < kHead + kFoot || !file.starts_with(kMagic)) return {{}, {}, "not a shard"};
  uint32_t version = 0;
  std::memcpy(&version, file.data() + kMagic.size(), sizeof version);
  if (version != kShardVersion) return {{}, {}, concat("shard version ", version, ", expected ", kShardVersion)};
  const std::string_view data = file.substr(kHead, file.size() - kHead - kFoot);
  const std::string_view foot = file.substr(file.size() - kFoot);
  uint64_t count = 0;
  std::memcpy(&count, foot.data(), sizeof count);
  if (!foot.ends_with(kMagic) || data.size() % kTokenBytes != 0 || count != data.size() / kTokenBytes) {
    return {{}, {}, "truncated shard"};
  }
  std::string hash(foot.substr(sizeof count, 64));
  if (sha256(data) != hash) return {{}, {}, "damaged shard: its SHA-256 does not hold"};
  return {{reinterpret_cast<const int32_t*>(data.data()), count}, std::move(hash), {}};
}

std::string_view bytes_of(std::span<const int32_t> tokens) {
  return {reinterpret_cast<const char*>(tokens.data()), tokens.size() * kTokenBytes};
}

ShardWriter::ShardWriter(const Path& path) : file_(path) {
  std::array<char, kHead> head{};
  std::memcpy(head.data(), kMagic.data(), kMagic.size());
  std::memcpy(head.data() + kMagic.size(), &kShardVersion, sizeof kShardVersion);
  file_.write(head.data(), kHead);
}

void ShardWriter::write(std::span<const int32_t> tokens) {
  hash_.update(bytes_of(tokens));
  file_.write(bytes_of(tokens));
  count_ += tokens.size();
}

void ShardWriter::commit() {
  file_.write(&count_, sizeof count_);
  file_.write(hash_.hex());
  file_.write(kMagic);
  file_.commit();
}

TokenStream::TokenStream(const Path& file) : file_(std::make_unique<MappedFile>(file)) {
  ShardView view = view_shard(file_->bytes());
  if (!view.problem.empty()) fail(file.string(), ": ", view.problem, "; delete it, and it is made again");
  tokens_ = view.tokens;
  hash_ = std::move(view.hash);
}

std::unique_ptr<TokenStream> TokenStream::open(const Path& file) {
  auto mapped = std::make_unique<MappedFile>(file);
  ShardView view = view_shard(mapped->bytes());
  if (!view.problem.empty()) return nullptr;
  std::unique_ptr<TokenStream> stream(new TokenStream(std::vector<int32_t>()));
  stream->file_ = std::move(mapped);
  stream->tokens_ = view.tokens;
  stream->hash_ = std::move(view.hash);
  return stream;
}

TokenStream::TokenStream(std::vector<int32_t> tokens)
    : own_(std::move(tokens)), tokens_(own_), hash_(sha256(bytes_of(own_))) {}

void TokenStream::windows(uint64_t seed, int64_t step, int64_t count, int64_t length, int32_t* out) const {
  CHECK(step >= 0 && count > 0 && length > 0, "windows of step ", step, ": ", count, " of ", length);
  if (size() < length) fail("training text: ", size(), " tokens, fewer than one window of ", length);
  const auto per_epoch = static_cast<uint64_t>(size() / length);
  for (int64_t j = 0; j < count; ++j) {
    const uint64_t sample = static_cast<uint64_t>(step) * static_cast<uint64_t>(count) + static_cast<uint64_t>(j);
    const Random random(seed, sample / per_epoch);
    const auto offset = static_cast<int64_t>(random.below(~uint64_t{0}, static_cast<uint64_t>(size())));
    const auto window = static_cast<int64_t>(permute(sample % per_epoch, per_epoch, random));
    const int64_t begin = (offset + window * length) % size();
    const int64_t first = std::min(length, size() - begin);  // the rest lies at the start of the ring
    std::copy_n(tokens_.data() + begin, first, out + j * length);
    std::copy_n(tokens_.data(), length - first, out + j * length + first);
  }
}

std::vector<std::vector<int32_t>> read_token_lines(const Path& file, int64_t vocab_size) {
  return parse_token_lines(read_file(file), vocab_size, file.string());
}

std::vector<std::vector<int32_t>> parse_token_lines(std::string_view text, int64_t vocab_size,
                                                    const std::string& name) {
  std::vector<std::vector<int32_t>> lines;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    ++number;
    std::vector<int32_t> ids;
    const char* at = text.data() + begin;
    const char* const stop = text.data() + end;
    while (true) {
      while (at != stop && (*at == ' ' || *at == ',' || *at == '\t' || *at == '\r')) ++at;
      if (at == stop) break;
      int32_t id = 0;
      const auto [next, code] = std::from_chars(at, stop, id);
      if (code == std::errc::invalid_argument) {
        fail(name, ", line ", number, ": expected token ids separated by spaces or commas, found byte ",
             static_cast<int>(static_cast<unsigned char>(*at)));
      }
      if (code != std::errc() || id < 0 || id >= vocab_size) {
        fail(name, ", line ", number, ": token ", std::string_view(at, static_cast<size_t>(next - at)),
             " is outside the vocabulary of ", vocab_size);
      }
      ids.push_back(id);
      at = next;
    }
    if (ids.size() == 1)
      fail(name, ", line ", number, ": expected at least 2 tokens, found the token ", ids[0],
           " alone: there is nothing it predicts");
    if (!ids.empty()) lines.push_back(std::move(ids));
    begin = end + 1;
  }
  if (lines.empty()) fail(name, ": empty; expected one sequence of token ids a line");
  return lines;
}

}  // namespace qwerky
