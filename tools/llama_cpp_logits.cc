// SPDX-License-Identifier: MIT
// Logits of given token ids by llama.cpp, for tools/compare_llama_cpp.py. Built outside this project's build, against a
// built llama.cpp (public headers only):
//
//   g++ -O1 -std=c++17 -I LLAMA/include -I LLAMA/ggml/include tools/llama_cpp_logits.cc -o llama_cpp_logits
//       -L LLAMA/build/bin -lllama -lggml -lggml-base -Wl,-rpath,LLAMA/build/bin
//
// llama_cpp_logits MODEL.gguf OUT.f32 ID,ID,…   writes [ids, vocabulary] f32. Keys and values are kept in f32 and flash
// attention is off, so that what remains is the arithmetic of the weights' type.
#include <llama.h>

#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: llama_cpp_logits MODEL.gguf OUT.f32 ID,ID,...\n");
    return 1;
  }
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == nullptr) return 1;
  std::vector<llama_token> ids;
  std::istringstream list(argv[3]);
  for (std::string item; std::getline(list, item, ',');) ids.push_back(std::stoi(item));
  const auto count = static_cast<int32_t>(ids.size());

  llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = static_cast<uint32_t>(count) + 256;
  params.type_k = params.type_v = GGML_TYPE_F32;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  llama_context* context = llama_init_from_model(model, params);
  if (context == nullptr) return 1;
  llama_batch batch = llama_batch_init(count, 0, 1);
  batch.n_tokens = count;
  for (int32_t i = 0; i < count; ++i) {
    batch.token[i] = ids[static_cast<size_t>(i)];
    batch.pos[i] = i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  if (llama_decode(context, batch) != 0) return 1;
  const auto vocabulary = static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model)));
  std::FILE* out = std::fopen(argv[2], "wb");
  if (out == nullptr) return 1;
  for (int32_t i = 0; i < count; ++i) std::fwrite(llama_get_logits_ith(context, i), 4, vocabulary, out);
  return std::fclose(out) == 0 ? 0 : 1;
}
