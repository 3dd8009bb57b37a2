// SPDX-License-Identifier: MIT
#include "engine/quantize.h"

#include <algorithm>
#include <unordered_map>

#include "engine/engine.h"
#include "engine/export_packed.h"

namespace qwerky {
namespace {

constexpr int64_t kCallRows = 2048;          // of one forward while calibrating
constexpr int64_t kSmallModel = 50'000'000;  // parameters: passes over the text cost little
constexpr int64_t kHeadLayer = int64_t{1} << 40;

PanelFormat format(const QuantizeOptions& o, const std::string& type, const std::string& flag, int64_t group) {
  const DType element = weight_type(type, flag);
  if (element == DType::f32 || element == DType::bf16) return {.type = element};
  return {element, static_cast<uint8_t>(group), o.minimum && element == DType::i4};
}

/// Layer of a parameter: -1 before all, kHeadLayer behind all.
int64_t layer_of(const std::string& name) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (name.starts_with(kPrefix)) return std::stoll(name.substr(kPrefix.size()));
  return name == "lm_head.weight" || name == "model.norm.weight" ? kHeadLayer : -1;
}

/// Σ x xᵀ of the inputs of chosen products. Products of one call that read the same rows share a sum.
class Watched {
 public:
  Watched() : on_(make_backend("auto", Precision::f32)) {}

  /// `weight`: a matrix in rows.
  void watch(Tensor weight) { sums_.emplace(weight.data, nullptr); }

  void see(std::span<const Product> products) {
    std::unordered_map<const void*, std::shared_ptr<std::vector<double>>> seen;
    for (const Product& p : products) {
      const auto at = sums_.find(p.weight.data);
      if (at == sums_.end()) continue;
      auto& sum = seen[p.x.data];
      if (!sum) {
        if (!at->second)
          at->second = std::make_shared<std::vector<double>>(static_cast<size_t>(p.x.cols() * p.x.cols()));
        sum = at->second;
        add(p.x, *sum);
      } else if (!at->second) {
        at->second = sum;
      }
    }
  }
  void see(Tensor weight, Tensor x) {
    const Product p{x, weight, {}, {}};
    see({&p, 1});
  }
  /// Empty when the product was never called.
  std::vector<double> sum(Tensor weight) const {
    const auto at = sums_.find(weight.data);
    return at == sums_.end() || !at->second ? std::vector<double>() : *at->second;
  }

 private:
  /// sum += xᵀ x, f32 within a call and f64 between calls.
  void add(Tensor x, std::vector<double>& sum) {
    Scope scope(scratch_);
    const int64_t K = x.cols();
    const Tensor part = scratch_.zeros(DType::f32, {K, K});
    const ProductVjp product{.weight = {}, .dweight = part, .dbias = {}, .dy = x};
    on_->linear_vjp(x, {}, {&product, 1}, Into::overwrite);
    wait_for_device();
    const float* p = part.as<float>();
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(p[i]);
  }

  std::unique_ptr<Backend> on_;
  Arena scratch_{"calibration"};
  std::unordered_map<const void*, std::shared_ptr<std::vector<double>>> sums_;
};

/// W [out, in] as f32 from rows [out, in] or [in, out].
std::vector<float> matrix_of(Tensor rows, bool in_out) {
  std::vector<float> w(static_cast<size_t>(rows.count()));
  const Tensor wide(w.data(), DType::f32, rows.shape);
  convert(wide, rows);
  if (!in_out) return w;
  const int64_t K = rows.dim(0), N = rows.dim(1);
  std::vector<float> turned(w.size());
  for (int64_t k = 0; k < K; ++k)
    for (int64_t n = 0; n < N; ++n) turned[static_cast<size_t>(n * K + k)] = w[static_cast<size_t>(k * N + n)];
  return turned;
}

class Quantizer {
 public:
  Quantizer(const Model& original, const Backend& on, const QuantizeOptions& options, const PackFormats& formats,
            Calibration calibration)
      : on_(on), formats_(formats), how_(calibration), layers_at_once_(options.layers_at_once) {
    model = declare_model(original.config());
    model->params.each([&](Param& p) { p.weight = original.params.find(p.name)->weight; });
    model->tokenizer_path = original.tokenizer_path;
  }

  void run(const Windows& text, const Progress& progress) {
    const int64_t layers = model->config().layers, step = layers_in_a_pass();
    std::vector<std::pair<int64_t, int64_t>> passes{{-1, -1}};
    for (int64_t first = 0; first < layers; first += step)
      passes.emplace_back(first, std::min(first + step, layers) - 1);
    passes.emplace_back(layers, kHeadLayer);
    for (size_t i = 0; i < passes.size(); ++i) {
      quantize_layers(passes[i].first, passes[i].second, text);
      if (progress) progress(static_cast<int64_t>(i) + 1, static_cast<int64_t>(passes.size()));
    }
  }

  std::unique_ptr<Model> model;  ///< weights of the original's memory until they are quantized

 private:
  /// In what order parameters are quantized: a tied embedding goes with the head, whose inputs come last.
  int64_t stage_of(const Param& p) const {
    return p.use == Use::product && layer_of(p.name) == -1 ? kHeadLayer : layer_of(p.name);
  }

  /// The sums of a large model's layers may take half of the free memory.
  int64_t layers_in_a_pass() const {
    if (layers_at_once_ > 0) return layers_at_once_;
    if (model->params.count() < kSmallModel) return 1;
    int64_t bytes = 0;
    model->params.each([&](const Param& p) {
      if (layer_of(p.name) != 0 || p.use == Use::elementwise || !p.weight) return;
      const int64_t K = p.panel_shape().dim[static_cast<size_t>(p.shape.rank - 1)];
      bytes += K * K * 8 * (p.shape.rank == 3 ? p.shape.dim[0] : 1);
    });
    return std::clamp<int64_t>(available_memory_bytes() / 2 / std::max<int64_t>(bytes, 1), 1, model->config().layers);
  }

  template <class F>
  static void each_matrix(Tensor weight, const F& f) {
    if (weight.shape.rank != 3) return f(weight, 0);
    for (int64_t i = 0; i < weight.dim(0); ++i) f(weight.matrix(i), i);
  }

  void quantize_layers(int64_t first, int64_t last, const Windows& text) {
    Watched watched;
    bool any = false;
    const auto each = [&](const auto& f) {
      model->params.each([&](Param& p) {
        if (const int64_t stage = stage_of(p); p.weight && stage >= first && stage <= last) f(p);
      });
    };
    each([&](Param& p) {
      if (p.use != Use::product && p.use != Use::product_in_out) return;
      if (const DType type = formats_(p).type; type != DType::i8 && type != DType::i4) return;
      any = true;
      each_matrix(p.weight, [&](Tensor w, int64_t) { watched.watch(w); });
    });
    if (any && how_ != Calibration::none) read(text, watched, last);
    const Packer packer(on_, formats_, *model->weights);
    each([&](Param& p) {
      const Tensor rows = p.weight;
      packer.place(p, rows);
      if (p.weight.layout != Layout::panels || p.weight.panels.group == 0 || how_ == Calibration::none) return;
      each_matrix(rows, [&](Tensor w, int64_t i) {
        const bool stack = rows.shape.rank == 3;
        quantize_matrix(stack ? p.weight.matrix(i) : p.weight, matrix_of(w, p.use == Use::product_in_out),
                        watched.sum(w), how_);
      });
    });
  }

  /// Runs the model, as far as it is quantized, over the text up to layer `last`.
  void read(const Windows& text, Watched& watched, int64_t last) {
    const std::function<void(std::span<const Product>)> see = [&](auto products) { watched.see(products); };
    const bool head = last >= model->config().layers;
    Arena scratch("calibration");
    for (int64_t next = 0; next < text.count();) {
      Scope scope(scratch);
      const Exec ex{on_, scratch, {}, &see};
      std::vector<int32_t> ids;
      std::vector<Segment> batch;
      do {
        const auto window = text.inputs(next++);
        batch.push_back({nullptr, static_cast<int64_t>(ids.size()), static_cast<int64_t>(window.size())});
        ids.insert(ids.end(), window.begin(), window.end());
      } while (next < text.count() && static_cast<int64_t>(ids.size()) + text.length <= kCallRows);
      const Tensor hidden = ex.make(static_cast<int64_t>(ids.size()), model->config().hidden);
      model->decoder->forward(ex, ids, batch, hidden, nullptr, last + 1);
      if (head) watched.see(model->params.find(head_name())->weight, hidden);
    }
  }

  const char* head_name() const { return model->config().tied ? "model.embed_tokens.weight" : "lm_head.weight"; }

  const Backend& on_;
  const PackFormats& formats_;
  Calibration how_;
  int64_t layers_at_once_;
};

}  // namespace

PackFormats quantized_formats(const QuantizeOptions& o, const Config& config) {
  if (o.type != "int8" && o.type != "int4") fail("--type: expected int8 or int4, found \"", o.type, "\"");
  if (o.group != 0 && o.group != 32 && o.group != 64 && o.group != 128)
    fail("--group: expected 32, 64 or 128, found ", o.group);
  if (o.minimum && o.type != "int4") fail("--minimum: minima are for int4, found --type ", o.type);
  constexpr int64_t kNarrow = 1024;  // hidden sizes below have few groups to a row: a scale costs little
  const int64_t group = o.group != 0 ? o.group : config.hidden < kNarrow ? 32 : 64;
  PackFormats formats{format(o, o.type, "--type", group), format(o, o.head, "--head", group),
                      format(o, o.low_rank, "--low-rank", group)};
  if (!config.tied) {
    const PanelFormat table = format(o, o.embedding.empty() ? "int8" : o.embedding, "--embedding", group);
    formats.table = table;
  } else if (!o.embedding.empty()) {
    fail("--embedding: the embedding is the head of this model; use --head");
  }
  return formats;
}

Quantized quantize(const Checkpoint& checkpoint, const QuantizeOptions& options, const Windows& calibrate,
                   const Windows& measure, const Json& card, const std::string& out, const Progress& progress,
                   const Improve& improve) {
  if (checkpoint.packed != nullptr)
    fail(checkpoint.path.string(), ": is a packed model already; quantize the model it was made from");
  const auto backend = backend_for(checkpoint, "auto", "auto");
  const auto original = load_model(checkpoint, {.need_tokenizer = false, .rows = true});
  const PackFormats formats = quantized_formats(options, original->config());

  Quantized done;
  done.calibration = calibrate.count() > 0 ? options.calibration : Calibration::none;
  done.format = name_of(formats.weights);
  Quantizer quantizer(*original, *backend, options, formats, done.calibration);
  quantizer.run(calibrate, progress);
  if (improve) improve(*original, *quantizer.model);

  Json facts = card;
  facts["from"] = origin(checkpoint);
  facts["type"] = done.format;
  facts["head"] = name_of(formats.head);
  facts["low_rank"] = name_of(formats.small);
  if (formats.table) facts["embedding"] = name_of(*formats.table);
  facts["calibration"] = done.calibration == Calibration::gptq    ? "gptq"
                         : done.calibration == Calibration::scale ? "scale"
                                                                  : "none";
  if (measure.count() > 0) {
    done.cost = compare(*backend, *original->decoder, *quantizer.model->decoder, measure, false);
    done.measured = true;
    facts["measured"] = {{"tokens", done.cost.teacher.tokens},
                         {"window", measure.length},
                         {"perplexity_before", done.cost.teacher.perplexity()},
                         {"perplexity", done.cost.student.perplexity()},
                         {"perplexity_ratio", done.cost.ratio()},
                         {"kl", done.cost.kl},
                         {"top1", done.cost.top1}};
  }
  done.bytes = write_packed_model(*quantizer.model, facts, out);
  return done;
}

}  // namespace qwerky
