// SPDX-License-Identifier: MIT
#include "engine/model.h"

#include <cstring>

#include "base/parallel.h"
#include "base/units.h"
#include "engine/packing.h"

namespace qwerky {
namespace {

/// Throws Error when the machine lacks the memory for weights of so many bytes.
void check_memory(int64_t need) {
  if (const int64_t have = available_memory_bytes(); need > have)
    fail("the weights of this model need ", bytes_text(need), " of memory, this machine has ", bytes_text(have),
         " available");
}

void allocate(Model& model, const Params::Which& own, const Sharding& sharding) {
  check_memory(training_weight_bytes(model.params, model.config(), own, sharding));
  const auto product = [&](const Param& p) { return only_multiplied(model.config(), p); };
  model.params.allocate(*model.weights, DType::f32, own, product, sharding);
}

void allocate(Model& model, bool train, bool bf16) {
  if (train) return allocate(model, nullptr, {});
  const DType matrices = bf16 ? DType::bf16 : DType::f32;
  check_memory(model.params.count() * size_of(matrices));
  model.params.allocate(*model.weights, matrices, DType::f32);
}

/// A tensor of a packed file as the weight of p, in place or copied.
void borrow(Model& model, Param& p, Tensor stored, bool copy) {
  if (p.use == Use::elementwise && stored.type != DType::f32)
    fail("tensor ", p.name, ": expected f32, the packed file has ", name_of(stored.type));
  p.weight = stored;
  if (!copy) return;
  const bool panels = stored.layout == Layout::panels;
  p.weight =
      panels ? model.weights->panels(stored.panels, stored.shape) : model.weights->tensor(stored.type, stored.shape);
  constexpr int64_t kGrain = 1 << 20;
  parallel_for(stored.bytes(), kGrain, [&](int64_t begin, int64_t end) {
    std::memcpy(static_cast<char*>(p.weight.data) + begin, static_cast<const char*>(stored.data) + begin,
                static_cast<size_t>(end - begin));
  });
}

}  // namespace

bool is_matrix(const Shape& shape) {
  int wide = 0;
  for (int i = 0; i < shape.rank; ++i) wide += shape.dim[static_cast<size_t>(i)] > 1;
  return wide >= 2;
}

int64_t layer_number(const std::string& name) {
  constexpr std::string_view kLayers = "model.layers.";
  return name.starts_with(kLayers) ? std::stoll(name.substr(kLayers.size())) : -1;
}

bool only_multiplied(const Config& config, const Param& p) {
  return p.use == Use::product_in_out ||
         (p.use == Use::product && !(config.tied && p.name == "model.embed_tokens.weight"));
}

std::function<bool(std::string_view)> ignored_names(const Config& config) {
  return [tied = config.tied](std::string_view name) {
    return (tied && name == "lm_head.weight") || name.ends_with(".rotary_emb.inv_freq");  // recomputed from rope_theta
  };
}

DType stored_matrix_type(const TensorSource& source) {
  bool any = false;
  for (const std::string& name : source.names()) {
    const TensorSource::Info info = *source.info(name);
    if (!is_matrix(info.shape)) continue;
    if (info.type != DType::bf16 && info.type != DType::i8 && info.type != DType::i4) return DType::f32;
    any = true;
  }
  return any ? DType::bf16 : DType::f32;
}

int64_t Model::bytes_per_token() const {
  int64_t bytes = 0;
  params.each([&](const Param& p) {
    if (p.weight && (config().tied || p.name != "model.embed_tokens.weight")) bytes += p.weight.bytes();
  });
  return bytes;
}

std::unique_ptr<Model> declare_model(const Config& config) {
  auto model = std::make_unique<Model>();
  model->weights = std::make_unique<Arena>("weights");
  model->decoder = std::make_unique<Decoder>(config, model->params);
  return model;
}

std::unique_ptr<Model> make_model(const Config& config, bool train, bool bf16) {
  auto model = declare_model(config);
  allocate(*model, train, bf16);
  return model;
}

Checkpoint open_model(const Path& path) { return open_checkpoint(path, check_family); }

int64_t training_weight_bytes(const Params& declared, const Config& config, const Params::Which& own,
                              const Sharding& sharding) {
  int64_t all = 0, products = 0;
  declared.each([&](const Param& p) {
    if (own && !own(p)) return;
    all += p.count();
    products += only_multiplied(config, p) ? p.count() : 0;
  });
  return sharding.rounded ? 4 * all - 2 * products + 4 * all / sharding.ranks : 4 * all;
}

std::unique_ptr<Model> make_model(const Config& config, const Params::Which& own, const Sharding& sharding) {
  auto model = declare_model(config);
  allocate(*model, own, sharding);
  return model;
}

std::unique_ptr<Model> load_model(const Path& path, const LoadOptions& options) {
  return load_model(open_model(path), options);
}

std::unique_ptr<Model> load_model(const Checkpoint& checkpoint, const LoadOptions& options) {
  const Path& path = checkpoint.path;
  Config config = read_config(checkpoint.config, checkpoint.tensors.get(), checkpoint.config_name);
  if (options.edit) options.edit(config);
  const DType stored = stored_matrix_type(*checkpoint.tensors);
  const bool bf16 = options.bf16 || stored == DType::bf16;
  const auto ignore = ignored_names(config);
  auto model = declare_model(config);
  model->params.check(*checkpoint.tensors, ignore);  // before memory is taken for what config.json claims
  if (checkpoint.packed != nullptr) {
    if (options.train || options.rows)
      fail(path.string(), ": a packed model is for inference only; use the model it was made from");
    model->params.bind(
        *checkpoint.tensors,
        [&](Param& p, Tensor t) { borrow(*model, p, t, options.copy || device_memory() != nullptr); }, ignore);
    model->source = checkpoint.tensors;
  } else if (options.pack_for != nullptr && (options.formats != nullptr || options.pack_for->prefers_panels())) {
    std::optional<PackFormats> formats;
    if (options.formats != nullptr) {
      formats = *options.formats;
    } else if (options.bf16) {
      formats = PackFormats::of(DType::bf16);
    }
    const Packer packer(*options.pack_for, formats, *model->weights);
    // Blocks go over as they are only where no other format was asked for.
    const auto* blocks =
        options.formats == nullptr ? dynamic_cast<const GgufSource*>(checkpoint.tensors.get()) : nullptr;
    int64_t need = 0;
    model->params.each([&](const Param& p) {
      const Tensor codes = blocks == nullptr ? Tensor() : Packer::block_form(p, *blocks);
      need += (codes.shape.rank > 0 ? codes : packer.form(p, checkpoint.tensors->info(p.name)->type)).bytes();
    });
    check_memory(need);
    model->params.bind(
        *checkpoint.tensors, [&](Param& p, Tensor t) { packer.place(p, t); }, ignore,
        [&](Param& p) { return blocks != nullptr && packer.place_blocks(p, *blocks); });
  } else if (options.map) {
    model->source = checkpoint.tensors;
    const auto place = [&](Param& p, Tensor t) {
      if (!is_matrix(p.shape)) return convert(p.weight = model->weights->tensor(DType::f32, p.shape), t);
      if (t.type != (bf16 ? DType::bf16 : DType::f32) || !model->source->prefetch(p.name))
        fail(path.string(), ": tensor ", p.name, " is ", name_of(t.type),
             "; layers are read from their files only where these are safetensors with all matrices in f32 or bf16");
      p.weight = t;
      model->source->forget(p.name);
    };
    model->params.bind(*checkpoint.tensors, place, ignore);
  } else {
    allocate(*model, options.train, bf16);
    model->params.bind(*checkpoint.tensors, false, ignore);
  }
  model->path = path;
  model->stored = stored;
  model->config_json = checkpoint.config;
  model->tokenizer_path = checkpoint.tokenizer;
  if (!checkpoint.tokenizer.empty()) {
    if (options.need_tokenizer) model->tokenizer = load_tokenizer(checkpoint.tokenizer);
  } else if (options.need_tokenizer) {
    fail(path.string(),
         ": no tokenizer found beside the model; looked for tokenizer.json, vocab.json + merges.txt, tokenizer.model, "
         "tok*.bin");
  }
  if (model->tokenizer && model->tokenizer->size() > config.vocab)
    fail(path.string(), ": the tokenizer has ", model->tokenizer->size(), " ids but the model's vocabulary has ",
         config.vocab, ": it belongs to another model");
  return model;
}

void save_model(const Path& dir, const Config& config, const Params& params, DType type, const Path& tokenizer_from) {
  std::vector<NamedTensor> tensors;
  params.each([&](const Param& p) {
    if (p.weight && p.weight.layout != Layout::rows)
      fail(dir.string(), ": cannot save tensor ", p.name, ": it is packed for inference");
    if (p.weight) tensors.push_back({p.name, p.weight, is_matrix(p.shape) ? type : DType::f32});
  });
  Arena zeros("unused tensors");
  for (const auto& [name, shape] : params.unused())
    tensors.push_back({name, zeros.zeros(DType::f32, shape), is_matrix(shape) ? type : DType::f32});
  Json json = write_config(config);
  json.erase("dtype");  // newer name of the next key, of the model this one came from
  json["torch_dtype"] = type == DType::bf16 ? "bfloat16" : "float32";
  if (!tokenizer_from.empty()) copy_tokenizer(tokenizer_from, dir);
  write_checkpoint(dir, json, tensors);
}

}  // namespace qwerky
