// SPDX-License-Identifier: MIT
// `inspect` (what a model is) and `logits` (its raw output, for anyone who checks parity).
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>

#include "base/units.h"
#include "cli/command.h"
#include "engine/engine.h"
#include "engine/footprint.h"
#include "engine/packing.h"
#include "io/gguf_model.h"
#include "tensor/panels.h"

namespace qwerky {
namespace {

struct Options {
  std::string model, tokens, out, backend = "auto", precision = "auto";
  bool tensors = false, verify = false;
};

/// A tensor's type as the file has it.
std::string stored_type(const TensorSource& source, const std::string& name) {
  const TensorSource::Info info = *source.info(name);
  if (info.layout == Layout::panels) return "panels of " + name_of(source.find(name).panels);
  if (const auto* gguf = dynamic_cast<const GgufSource*>(&source); gguf && info.codes)
    if (const auto rows = gguf->stored_rows(name)) return format_of(rows->type).name;
  return name_of(info.type);
}

/// Which of a GGUF file's blocks are rounded when a backend with panels loads them, a line for each type.
void print_rounded(const Checkpoint& checkpoint, const Params& params) {
  const auto* gguf = dynamic_cast<const GgufSource*>(checkpoint.tensors.get());
  if (gguf == nullptr) return;
  std::map<BlockType, int64_t> matrices;
  params.each([&](const Param& p) {
    if (Packer::block_form(p, *gguf).shape.rank > 0) ++matrices[gguf->stored_rows(p.name)->type];
  });
  for (const auto& [type, count] : matrices)
    if (const std::string what = Packer::rounding(type); !what.empty())
      std::cout << "rounded        " << format_of(type).name << " " << what << ": " << count
                << (count == 1 ? " matrix\n" : " matrices\n");
}

int inspect(const Options& o) {
  const Checkpoint checkpoint = open_model(o.model);
  if (o.verify && checkpoint.packed == nullptr) fail("--verify: ", o.model, " is not a packed file: it has no hashes");
  const Config c = read_config(checkpoint.config, checkpoint.tensors.get(), checkpoint.config_name);
  const auto backend = backend_for(checkpoint, "auto", "auto");
  const int64_t tokens = std::min<int64_t>(c.max_positions, 4096);
  const Footprint need = footprint(checkpoint, c, *backend, tokens);
  std::cout << "architecture   " << c.model_type << ", " << c.layers << " layers, hidden " << c.hidden << ", MLP "
            << c.intermediate << ", vocabulary " << c.vocab << (c.tied ? ", tied head" : "") << "\n"
            << "mixers        ";
  for (size_t i = 0; i < c.mixers.size();) {
    size_t end = i;
    while (end < c.mixers.size() && c.mixers[end] == c.mixers[i] && c.windows[end] == c.windows[i]) ++end;
    std::cout << " " << name_of(c.mixers[i]) << " × " << end - i;
    if (c.mixers[i] == MixerKind::softmax && c.windows[i] > 0)
      std::cout << " (window " << c.windows[i] << ", sinks " << c.sinks << ")";
    std::cout << (end < c.mixers.size() ? "," : "\n");
    i = end;
  }
  std::cout << "heads          " << c.heads << " query, " << c.kv_heads << " key/value, size " << c.head_dim
            << (c.qkv_bias ? ", biases" : "") << (c.qk_norm ? ", per-head norms" : "") << "\n"
            << "positions      RoPE theta " << c.rope.theta << ", scaling " << c.rope.type << ", " << c.max_positions
            << " allowed by config.json\n"
            << "norm epsilon   " << c.norm_eps << "\n";
  if (c.linear_kind() != MixerKind::softmax)
    std::cout << "linear mixers  balance_state " << c.balance << ", group norm " << c.groupnorm << ", token shift "
              << c.token_shift << ", RoPE " << c.rope_in_rwkv << ", gate type " << static_cast<int>(c.gate)
              << ", ranks: decay " << c.rank_decay << ", shift " << c.rank_shift << ", iclr " << c.rank_iclr
              << ", value mix " << c.rank_mix << ", gate " << c.rank_gate << "\n";
  std::cout << "parameters     " << need.parameters << "\nweights        " << bytes_text(need.weights) << " as backend "
            << backend->name() << " holds them\n";
  const auto shape = declare_model(c);
  if (backend->prefers_panels()) print_rounded(checkpoint, shape->params);
  for (int64_t length : {int64_t{0}, int64_t{1024}, int64_t{32768}})
    if (length == 0 || length <= c.max_positions || c.linear_kind() != MixerKind::softmax)
      std::cout << "state          " << bytes_text(shape->decoder->state_scalars(length) * size_of(backend->scalar()))
                << " per sequence at " << length << " tokens\n";
  std::cout << "to run         " << bytes_text(need.bytes()) << " with one sequence of " << tokens
            << " tokens: weights " << bytes_text(need.weights) << ", state " << bytes_text(need.state)
            << ", activations " << bytes_text(need.scratch) << "\n";
  if (o.tensors)
    shape->params.each([&](const Param& p) {
      const auto info = checkpoint.tensors->info(p.name);
      if (info) std::cout << p.name << " " << p.shape.str() << " " << stored_type(*checkpoint.tensors, p.name) << "\n";
    });
  if (checkpoint.packed != nullptr)
    std::cout << "packed file    " << bytes_text(checkpoint.packed->bytes()) << "\ncard           "
              << checkpoint.packed->card().dump() << "\n";
  if (o.verify) {
    checkpoint.packed->verify();
    std::cout << "verified       every hash is right\n";
  }
  return 0;
}

int write_logits(const Options& o) {
  const Checkpoint checkpoint = open_model(o.model);
  const auto backend = backend_for(checkpoint, o.backend, o.precision);
  const auto model = load_model(checkpoint, {.need_tokenizer = false, .pack_for = backend.get()});
  std::vector<int32_t> ids;
  std::istringstream list(o.tokens);
  for (std::string item; std::getline(list, item, ',');) {
    size_t used = 0;
    int64_t id = -1;
    try {
      id = std::stoll(item, &used);
    } catch (const std::logic_error&) {
    }
    if (used != item.size() || id < 0 || id >= model->config().vocab)
      fail("--tokens: expected ids from 0 to ", model->config().vocab - 1, " separated by commas, found \"", item,
           "\"");
    ids.push_back(static_cast<int32_t>(id));
  }
  if (ids.empty()) fail("--tokens: expected at least one id");
  Arena scratch;
  const Exec ex{*backend, scratch};
  const int64_t rows = static_cast<int64_t>(ids.size());
  const Segment segment{nullptr, 0, rows};
  const Tensor hidden = ex.make(rows, model->config().hidden), logits = ex.make(rows, model->config().vocab);
  model->decoder->forward(ex, ids, {&segment, 1}, hidden);
  model->decoder->logits(ex, hidden, logits);
  write_safetensors(o.out, {{"logits", logits, DType::f32}},
                    {{"model", o.model}, {"tokens", o.tokens}, {"backend", backend->name()}});
  std::cout << "logits [" << rows << ", " << model->config().vocab << "] written to " << o.out << "\n";
  return 0;
}

}  // namespace

void register_inspect(Flags flags, Run& run) {
  const auto o = std::make_shared<Options>();
  flags.add_option("model", o->model, "model directory or file").required();
  flags.add_flag("--tensors", o->tensors, "also list every tensor");
  flags.add_flag("--verify", o->verify, "read all of a packed file and compare it with its SHA-256 sums");
  flags.callback([o, &run] { run = [o] { return inspect(*o); }; });
}

void register_logits(Flags flags, Run& run) {
  const auto o = std::make_shared<Options>();
  flags.add_option("model", o->model, "model directory or file").required();
  flags.add_option("--tokens", o->tokens, "ids separated by commas").required();
  flags.add_option("--out", o->out, "safetensors file with tensor `logits` [T, V] in f32").required();
  add_backend_flags(flags, o->backend, o->precision);
  flags.callback([o, &run] { run = [o] { return write_logits(*o); }; });
}

}  // namespace qwerky
