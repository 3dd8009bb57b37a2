// SPDX-License-Identifier: MIT
// Token ids on disk. First byte odd: lines of ids; even: a shard, also with its checksum mended, so that what lies
// behind that check is reached.
#include "base/error.h"
#include "io/shard_file.h"
#include "io/shards.h"

namespace {

using namespace qwerky;

void lines(std::string_view text) {
  constexpr int64_t kVocab = 1000;
  for (const auto& ids : parse_token_lines(text, kVocab, "fuzz")) {
    CHECK(ids.size() > 1, "a sequence of ", ids.size());
    for (int32_t id : ids) CHECK(id >= 0 && id < kVocab, "id ", id);
  }
}

void shard(std::string_view file) {
  const ShardView view = view_shard(file);
  if (!view.problem.empty()) return;
  TokenStream stream(std::vector<int32_t>(view.tokens.begin(), view.tokens.end()));
  CHECK(stream.hash() == view.hash, "another hash");
  if (stream.size() < 3) return;
  std::vector<int32_t> windows(5 * 3);
  for (int64_t step : {int64_t{0}, int64_t{1} << 40}) stream.windows(7, step, 5, 3, windows.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] % 2 == 1) {
      lines(bytes);
    } else {
      shard(bytes);
      constexpr size_t kHead = 64, kFoot = 80, kHash = 72;  // from the end
      if (bytes.size() >= kHead + kFoot)
        bytes.replace(bytes.size() - kHash, 64,
                      sha256(std::string_view(bytes).substr(kHead, bytes.size() - kHead - kFoot)));
      shard(bytes);
    }
  } catch (const Error&) {
  }
  return 0;
}
