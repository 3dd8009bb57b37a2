// SPDX-License-Identifier: MIT
// The shard index, over a directory with two real shards: "a" in s1.safetensors, "b" in s2.safetensors.
#include "io/checkpoint.h"

#include <stdlib.h>

#include "base/error.h"
#include "walk.h"

namespace {

const qwerky::Path& directory() {
  static const struct Directory {
    qwerky::Path path;
    Directory() {
      std::string name = (std::filesystem::temp_directory_path() / "qwerky-fuzz-XXXXXX").string();
      CHECK(mkdtemp(name.data()) != nullptr, "no directory ", name);
      path = name;
      float values[] = {1, 2, 3, 4};
      const qwerky::Tensor t(values, qwerky::DType::f32, {2, 2});
      qwerky::write_safetensors(path / "s1.safetensors", {{"a", t, qwerky::DType::f32}});
      qwerky::write_safetensors(path / "s2.safetensors", {{"b", t, qwerky::DType::bf16}});
    }
    ~Directory() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  } made;
  return made.path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qwerky;
  try {
    walk(ShardedTensors(directory(), parse_json({reinterpret_cast<const char*>(data), size}, "index")));
  } catch (const Error&) {
  }
  return 0;
}
