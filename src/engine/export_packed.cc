// SPDX-License-Identifier: MIT
#include "engine/export_packed.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/parallel.h"
#include "tensor/panels.h"

namespace qwerky {
namespace {

/// The last part of a path.
std::string last_part(const Path& path) {
  return (path.has_filename() ? path.filename() : path.parent_path().filename()).string();
}

/// A scale beyond f16 became infinite.
void check_scales(const Param& p) {
  if (p.weight.layout != Layout::panels || p.weight.panels.group == 0) return;
  const int64_t stack = p.weight.shape.rank == 3 ? p.weight.dim(0) : 1;
  for (int64_t i = 0; i < stack; ++i) {
    const PanelView view(p.weight.shape.rank == 3 ? p.weight.matrix(i) : p.weight);
    for (int64_t n = 0; n < view.of().outputs; ++n)
      for (int64_t g = 0; g < view.of().groups(); ++g)
        if (!std::isfinite(view.scale(n, g)) || !std::isfinite(view.minimum(n, g)))
          fail("tensor ", p.name, ": weights of output ", n, " are too large for ", name_of(p.weight.panels));
  }
}

}  // namespace

DType weight_type(const std::string& name, const std::string& flag) {
  for (const DType type : {DType::f32, DType::bf16, DType::i8, DType::i4})
    if (name == name_of(type)) return type;
  fail(flag, ": expected f32, bf16, int8 or int4, found \"", name, "\"");
}

Json origin(const Checkpoint& checkpoint) {
  const TensorSource& source = *checkpoint.tensors;
  const std::vector<std::string> names = source.names();
  std::vector<std::string> sums(names.size());
  // Some at a time: a source may make tensors on demand and keep them until they are forgotten.
  const size_t together = static_cast<size_t>(threads());
  for (size_t first = 0; first < names.size(); first += together) {
    const std::span part = std::span(names).subspan(first, std::min(together, names.size() - first));
    std::vector<Tensor> tensors;
    for (const std::string& name : part) tensors.push_back(source.find(name));
    parallel_for(static_cast<int64_t>(part.size()), 1, [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
        sums[first + i] = sha256({static_cast<const char*>(tensors[i].data), static_cast<size_t>(tensors[i].bytes())});
    });
    for (const std::string& name : part) source.forget(name);
  }
  Sha256 all;
  all.update(checkpoint.config.dump());
  for (size_t i = 0; i < names.size(); ++i) all.update(names[i] + " " + sums[i] + "\n");
  return {{"model", last_part(checkpoint.path)}, {"sha256", all.hex()}};
}

int64_t write_packed_model(const Model& model, const Json& card, const std::string& out) {
  PackedContents contents{write_config(model.config()), card, {}, {}};
  model.params.each([&](const Param& p) {
    if (!p.weight) return;
    check_scales(p);
    contents.tensors.emplace_back(p.name, p.weight);
  });
  if (!model.tokenizer_path.empty()) contents.files = tokenizer_contents(model.tokenizer_path);
  return write_packed(out, contents);
}

int64_t export_packed(const std::string& model, const std::string& out, const std::string& type) {
  const Checkpoint checkpoint = open_model(model);
  const DType weights = type == "auto" ? stored_matrix_type(*checkpoint.tensors) : weight_type(type, "--type");
  const auto backend = make_backend("auto", Precision::f32);
  LoadOptions options{.need_tokenizer = false, .rows = true};
  const PackFormats formats = PackFormats::for_file(weights);
  options.pack_for = backend.get();
  const std::vector<std::string> names = checkpoint.tensors->names();
  const bool blocks = type == "auto" && std::any_of(names.begin(), names.end(), [&](const std::string& name) {
                        return checkpoint.tensors->info(name)->codes;
                      });
  if (!blocks) options.formats = &formats;  // else as a GGUF file's blocks are run
  const auto packed = load_model(checkpoint, options);
  const Json card{
      {"from", origin(checkpoint)}, {"type", blocks ? "GGUF blocks" : name_of(weights)}, {"calibration", "none"}};
  return write_packed_model(*packed, card, out);
}

}  // namespace qwerky
