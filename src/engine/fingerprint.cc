// SPDX-License-Identifier: MIT
#include "engine/fingerprint.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/parallel.h"
#include "base/random.h"

namespace qwerky {
namespace {

constexpr int64_t kPart = 1 << 20;  ///< bytes hashed as one: what is hashed does not depend on the threads

/// 64 bits of some bytes, as fast as memory gives them. Each word of 8 bytes, the last filled up with zeros, passes
/// through a bijection of its lane, so a change of one word is never missed. It is not made to withstand an attacker:
/// who can write the weights needs none.
uint64_t hash_of(std::string_view bytes) {
  constexpr size_t kLanes = 8, kStep = kLanes * sizeof(uint64_t);
  std::array<uint64_t, kLanes> lanes{}, words{};
  const auto add = [&](const char* from, size_t n) {
    std::memcpy(words.data(), from, n);
    for (size_t k = 0; k < kLanes; ++k) lanes[k] = std::rotl((lanes[k] ^ words[k]) * 0x9e3779b97f4a7c15ULL, 32);
  };
  size_t at = 0;
  for (; at + kStep <= bytes.size(); at += kStep) add(bytes.data() + at, kStep);
  words.fill(0);
  if (at < bytes.size()) add(bytes.data() + at, bytes.size() - at);
  uint64_t all = bytes.size();
  for (const uint64_t lane : lanes) all = mix64(all ^ lane);
  return all;
}

/// SHA-256 of what the ids stand for, and of how a text with a bit of everything is split.
std::string tokenizer_fingerprint(const Tokenizer& t) {
  std::string all;
  const auto add = [&](int64_t number) { all += std::to_string(number) + " "; };
  for (int32_t id = 0; id < t.size(); ++id) all += t.piece(id) + '\0';
  for (const int32_t id : t.encode("It's 2,048 keys:\n\n  x**2\t= Überraschung — Привет, 你好 \U0001F600 unbelievably"))
    add(id);
  add(t.bos.value_or(-1));
  for (const int32_t id : t.eos) add(id);
  return sha256(all);
}

}  // namespace

std::string model_fingerprint(const Engine& engine) {
  const Model& model = *engine.internals().model;
  Sha256 all;
  all.update(model.config_json.dump() + engine.internals().backend->name() +
             (engine.internals().precision == Precision::bf16 ? " bf16" : " f32"));
  if (model.tokenizer) all.update(" tokenizer " + tokenizer_fingerprint(*model.tokenizer));
  if (const auto* packed = dynamic_cast<const PackedFile*>(model.source.get())) {
    all.update(packed->checksums());
    return all.hex();
  }
  std::vector<std::string_view> parts;
  const auto add = [&](const std::string& label, std::string_view bytes) {
    all.update(concat(label, ' ', bytes.size(), '\n'));
    for (; !bytes.empty(); bytes.remove_prefix(std::min<size_t>(kPart, bytes.size())))
      parts.push_back(bytes.substr(0, kPart));
  };
  model.params.each([&](const Param& p) {
    if (p.weight)
      add(concat(p.name, p.shape.str(), name_of(p.weight.type)),
          {static_cast<const char*>(p.weight.data), static_cast<size_t>(p.weight.bytes())});
  });
  std::vector<uint64_t> hashes(parts.size());
  parallel_for(static_cast<int64_t>(parts.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) hashes[i] = hash_of(parts[i]);
  });
  all.update({reinterpret_cast<const char*>(hashes.data()), hashes.size() * sizeof(uint64_t)});
  return all.hex();
}

}  // namespace qwerky
