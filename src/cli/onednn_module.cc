// SPDX-License-Identifier: MIT
// The module behind onednn_peer.h; written against versions 2 and 3 of oneDNN's C++ API.
#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "cli/onednn_peer.h"

namespace qwerky {
namespace {

using dnnl::memory;

struct Multiplier {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul product;
  memory x, y;
  std::vector<memory> weights;
  int threads = 1;
};

void fill(const memory& m, float scale) {
  auto* values = static_cast<float*>(m.get_data_handle());
  for (size_t i = 0; i < m.get_desc().get_size() / sizeof(float); ++i)
    values[i] = scale * (static_cast<float>(i * 7919 % 251) / 125 - 1);
}

/// Memory in the layout of `wanted`, converted from f32 numbers in plain rows (`plain`).
memory filled(Multiplier& m, const memory::desc& wanted, const memory::desc& plain, float scale) {
  memory from(plain, m.engine), to(wanted, m.engine);
  fill(from, scale);
  dnnl::reorder(from, to).execute(m.stream, from, to);
  m.stream.wait();
  return to;
}

std::function<void(int64_t)> product(const OneDnnProduct& p) try {
  using Type = memory::data_type;
  using Tag = memory::format_tag;
  const bool bytes = p.type == OneDnnProduct::Type::int8;
  const Type wide = p.type == OneDnnProduct::Type::f32 ? Type::f32 : bytes ? Type::u8 : Type::bf16;
  omp_set_num_threads(p.threads);
  auto m = std::make_shared<Multiplier>();
  m->threads = p.threads;
  const memory::desc x({p.rows, p.inputs}, wide, Tag::ab),
      y({p.rows, p.outputs}, bytes ? Type::s32 : Type::f32, Tag::ab);
  const memory::desc w({p.inputs, p.outputs}, bytes ? Type::s8 : wide, Tag::any);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc how(m->engine, x, w, y);
#else
  const dnnl::matmul::primitive_desc how(dnnl::matmul::desc(x, w, y), m->engine);
#endif
  m->product = dnnl::matmul(how);
  const float scale = bytes ? 100 : 1;
  m->x = filled(*m, x, {{p.rows, p.inputs}, Type::f32, Tag::ab}, scale);
  m->y = memory(y, m->engine);
  for (int64_t i = 0; i < p.copies; ++i)
    m->weights.push_back(filled(*m, how.weights_desc(), {{p.inputs, p.outputs}, Type::f32, Tag::ba}, scale));
  return [m](int64_t i) {
    omp_set_num_threads(m->threads);
    m->product.execute(
        m->stream,
        {{DNNL_ARG_SRC, m->x}, {DNNL_ARG_WEIGHTS, m->weights[static_cast<size_t>(i)]}, {DNNL_ARG_DST, m->y}});
    m->stream.wait();
  };
} catch (const dnnl::error&) {
  return nullptr;  // not implemented for this type on this CPU
}

}  // namespace
}  // namespace qwerky

extern "C" void qwerky_onednn(qwerky::OneDnn& out) {
  const dnnl_version_t& v = *dnnl_version();
  out.about = "oneDNN " + std::to_string(v.major) + "." + std::to_string(v.minor) + "." + std::to_string(v.patch);
  if (v.cpu_runtime != DNNL_RUNTIME_OMP) {
    out.about += " does not run on OpenMP, so its threads cannot be set: not measured";
    return;
  }
  out.product = qwerky::product;
}
