// SPDX-License-Identifier: MIT
#include <algorithm>
#include <numeric>
#include <vector>

#include "backend/cuda/kernel.h"
#include "backend/cuda/operations.h"

namespace qwerky::cuda {
namespace {

/// Rows of a call that have the same token: a range of a list of rows.
struct Occurrences {
  int32_t token, first, last;
};

/// A token a block: its rows are added one after another.
__global__ void embed_vjp_kernel(float* dtable, const float* dy, const Occurrences* tokens, const int32_t* rows,
                                 int64_t D) {
  const Occurrences o = tokens[blockIdx.x];
  for (int64_t i = threadIdx.x; i < D; i += blockDim.x) {
    float sum = dtable[o.token * D + i];
    for (int32_t n = o.first; n < o.last; ++n) sum += dy[rows[n] * D + i];
    dtable[o.token * D + i] = sum;
  }
}

}  // namespace

void embed(Device& on, Tensor y, Tensor table, std::span<const int32_t> tokens) {
  if (table.layout == Layout::panels) return embed_panels(on, y, table, tokens);
  const int64_t D = y.cols();
  each(on, static_cast<int64_t>(tokens.size()) * D,
       [=, to = y.as<float>(), from = Values(table), ids = on.upload(tokens)] __device__(int64_t i) {
         to[i] = from[ids[i / D] * D + i % D];
       });
}

void embed_vjp(Device& on, Tensor dtable, Tensor dy, std::span<const int32_t> tokens) {
  std::vector<int32_t> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0);
  std::ranges::stable_sort(rows, {}, [&](int32_t r) { return tokens[static_cast<size_t>(r)]; });
  std::vector<Occurrences> found;
  for (size_t i = 0; i < rows.size(); ++i) {
    const int32_t token = tokens[static_cast<size_t>(rows[i])];
    if (found.empty() || found.back().token != token) found.push_back({token, static_cast<int32_t>(i), 0});
    found.back().last = static_cast<int32_t>(i) + 1;
  }
  launch(on, static_cast<unsigned>(found.size()), row_threads(dy.cols()), 0, embed_vjp_kernel, dtable.as<float>(),
         dy.as<float>(), on.upload(std::span<const Occurrences>(found)), on.upload(std::span<const int32_t>(rows)),
         dy.cols());
}

}  // namespace qwerky::cuda
