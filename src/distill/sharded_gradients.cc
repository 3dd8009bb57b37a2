// SPDX-License-Identifier: MIT
#include "distill/sharded_gradients.h"

#include <algorithm>

#include "engine/model.h"

namespace qwerky {

ShardedGradients::ShardedGradients(const Backend& on, const Params& params, int64_t layers, Collective& ranks)
    : on_(on),
      params_(params),
      ranks_(ranks),
      owned_(params.owned(ranks.rank(), ranks.size())),
      rest_at_{params.product_count(), params.block_count() - params.product_count()},
      layers_(static_cast<size_t>(layers + 1), Range{params.product_count(), 0}) {
  params.each([&](const Param& p) {  // in order of layers, the head last
    if (p.offset < 0 || p.offset >= params.product_count()) return;
    const int64_t number = layer_number(p.name);
    Range& layer = layers_[static_cast<size_t>(number < 0 ? layers : number)];
    layer.begin = std::min(layer.begin, p.offset);
  });
  int64_t end = params.product_count(), largest = 0;
  for (size_t i = layers_.size(); i-- > 0; end = layers_[i].begin) {
    layers_[i].begin = std::min(layers_[i].begin, end);
    layers_[i].count = end - layers_[i].begin;
    largest = std::max(largest, layers_[i].count);
  }
  sums_ = memory_.zeros(on.scalar(), {owned_.count});
  rest_ = memory_.zeros(on.scalar(), {rest_at_.count});
  buffer_ = memory_.zeros(on.scalar(), {largest});
}

void ShardedGradients::train(std::vector<Range> ranges) {
  trains_ = std::move(ranges);
  zero();
}

Tensor ShardedGradients::of(const Param& p) {
  const Range at{p.offset, p.count()};
  if (at.begin >= rest_at_.begin) return rest_.rows(at.begin - rest_at_.begin, at.count).shaped(p.shape);
  const auto after = std::upper_bound(layers_.begin(), layers_.end(), at.begin,
                                      [](int64_t offset, const Range& layer) { return offset < layer.begin; });
  const int64_t layer = after - layers_.begin() - 1;
  CHECK(layer_ < 0 || layer_ == layer, p.name, ": gradients of layer ", layer_, " are still in memory");
  layer_ = layer;
  return buffer_.rows(at.begin - layers_[static_cast<size_t>(layer)].begin, at.count).shaped(p.shape);
}

void ShardedGradients::leave(int64_t layer) {
  CHECK(layer_ < 0 || layer_ == layer, "left layer ", layer, " while in ", layer_);
  give(layers_[static_cast<size_t>(layer)], buffer_);
  layer_ = -1;
}

void ShardedGradients::finish() { give(rest_at_, rest_); }

void ShardedGradients::give(Range at, Tensor from) {
  for (const Range& trains : trains_) {
    const Range part = overlap(trains, at), own = overlap(part, owned_);
    if (part.count == 0) continue;
    const Tensor gradients = from.rows(part.begin - at.begin, part.count);
    ranks_.reduce_scatter(gradients, params_.shares(part, ranks_.size()));
    if (own.count > 0)
      on_.add(sums_.rows(own.begin - owned_.begin, own.count), from.rows(own.begin - at.begin, own.count));
    on_.zero(gradients);
  }
}

}  // namespace qwerky
