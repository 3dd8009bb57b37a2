// SPDX-License-Identifier: MIT
// One GGUF file: as metadata, as a model, as a vocabulary.
#include "base/error.h"
#include "io/gguf_model.h"
#include "io/tokenizer_gguf.h"
#include "walk.h"

namespace {

void read_values(const qwerky::GgufFile& file) {
  using qwerky::Error;
  for (const std::string& key : file.keys()) {
    // Each kind in turn: all but one refuse.
    const auto attempt = [&](auto&& read) {
      try {
        read();
      } catch (const Error&) {
      }
    };
    attempt([&] { file.integer(key, INT64_MIN, INT64_MAX); });
    attempt([&] { file.number(key); });
    attempt([&] { file.flag(key); });
    attempt([&] { file.text(key); });
    attempt([&] { file.texts(key); });
    attempt([&] { file.integers(key); });
    attempt([&] { file.numbers(key); });
  }
}

void run_model(std::string_view bytes) {
  const qwerky::GgufSource source(bytes, "fuzz");
  for (const std::string& name : source.names())
    if (const auto rows = source.stored_rows(name)) {
      std::vector<float> row(static_cast<size_t>(rows->cols));
      for (int64_t r = 0; r < rows->rows; ++r) qwerky::dequantise_row(rows->type, rows->row(r), rows->cols, row.data());
    }
  source.config();
  qwerky::walk(source);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qwerky;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const GgufFile file(bytes, "fuzz");
    read_values(file);
    try {
      run_model(bytes);
    } catch (const Error&) {
    }
    const auto tokenizer = tokenizer_from_gguf(file);
    for (const int32_t id : tokenizer->encode(" a wave's 12\n caf\xC3\xA9 \xFF<|endoftext|>")) {
      CHECK(id >= 0 && id < tokenizer->size(), "encoded id ", id);
      tokenizer->piece(id);
    }
  } catch (const Error&) {
  }
  return 0;
}
