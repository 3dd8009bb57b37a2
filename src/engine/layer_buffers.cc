// SPDX-License-Identifier: MIT
#include "engine/layer_buffers.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"

namespace qwerky {
namespace {

constexpr int64_t kAlign = 64;

int64_t aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

}  // namespace

LayerBuffers::LayerBuffers(Model& model, int ranks)
    : files_(*model.source), layers_(static_cast<size_t>(model.config().layers)) {
  std::vector<int64_t> used(layers_.size());
  const auto in_layer = [](const Param& p) { return is_matrix(p.shape) && layer_number(p.name) >= 0; };
  model.params.each([&](const Param& p) {
    if (!in_layer(p)) return;
    const auto layer = static_cast<size_t>(layer_number(p.name));
    layers_[layer].push_back({p.name, p.weight, used[layer]});
    used[layer] += aligned(p.weight.bytes());
    layer_bytes_ = std::max(layer_bytes_, used[layer]);
  });
  for (Tensor& buffer : buffers_)
    buffer = memory_.tensor(DType::f32, {ranks * part_bytes(ranks) / size_of(DType::f32)});
  std::vector<size_t> at(layers_.size());
  model.params.each([&](Param& p) {
    if (!is_matrix(p.shape)) return;
    if (!in_layer(p)) {
      tables_ += p.weight.bytes();
      if (device_memory() == nullptr) return;  // read where it is mapped
      const Tensor mapped = p.weight;
      p.weight = memory_.tensor(mapped.type, mapped.shape);
      std::memcpy(p.weight.data, mapped.data, static_cast<size_t>(mapped.bytes()));
      files_.forget(p.name);
      return;
    }
    const auto layer = static_cast<size_t>(layer_number(p.name));
    p.weight.data = static_cast<char*>(buffers_[layer % 2].data) + layers_[layer][at[layer]++].begin;
  });
  model.decoder->set_layer_weights(this);
}

LayerBuffers::~LayerBuffers() {
  if (ranks_ != nullptr && fetching()) {  // an error left a pass, and the other ranks may not come
    ranks_->give_up();
    new Arena(memory_);  // for good: the others may still read the buffers
  }
  forget();
}

/// Not where a device computes: fetch() waits for all that is queued on it, the layer that computes included. Nor where
/// threads that compute have all cores: a third thread on two cores costs more than it saves, since the others wait for
/// the one that it holds up.
bool LayerBuffers::ahead() const { return device_memory() == nullptr && !main_thread_alone_ && threads() < cores(); }

void LayerBuffers::read(int64_t layer, char* to, int64_t begin, int64_t end) {
  for (const Place& place : layers_[static_cast<size_t>(layer)]) {
    const int64_t from = std::max(begin, place.begin), until = std::min(end, place.begin + place.stored.bytes());
    if (from >= until) continue;
    constexpr int64_t kGrain = 1 << 20;
    const auto copy = [&](int64_t b, int64_t e) {
      std::memcpy(to + (b - begin), static_cast<const char*>(place.stored.data) + (b - place.begin),
                  static_cast<size_t>(e - b));
    };
    int64_t at = from;
    for (; at < until && !needed(); at += kGrain) copy(at, std::min(at + kGrain, until));
    if (at < until) parallel_for(until - at, kGrain, [&](int64_t b, int64_t e) { copy(at + b, at + e); });
    files_.forget(place.name);
  }
}

void LayerBuffers::fetch(int64_t layer, int64_t after) {
  const Tensor buffer = buffers_[layer % 2];
  wait_for_device();  // what was there is not read any more
  if (ranks_ != nullptr) {
    const Tensor mine = shards_[static_cast<size_t>(layer)];
    std::memcpy(buffer.rows(ranks_->rank() * mine.count(), mine.count()).data, mine.data,
                static_cast<size_t>(mine.bytes()));
    ranks_->all_gather(buffer.rows(0, ranks_->size() * mine.count()),
                       std::vector<int64_t>(static_cast<size_t>(ranks_->size()), mine.count()));
    return;
  }
  if (after >= 0 && after < static_cast<int64_t>(layers_.size()))
    for (const Place& place : layers_[static_cast<size_t>(after)]) files_.prefetch(place.name);
  read(layer, static_cast<char*>(buffer.data), 0, layer_bytes_);
}

int64_t LayerBuffers::part_bytes(int ranks) const { return aligned((layer_bytes_ + ranks - 1) / ranks); }

int64_t LayerBuffers::shard_bytes(int ranks) const { return static_cast<int64_t>(layers_.size()) * part_bytes(ranks); }

void LayerBuffers::shard(Collective& ranks) {
  forget();  // so that all ranks fetch the same layers
  const int64_t each = part_bytes(ranks.size());
  CHECK(ranks.size() * each <= buffers_[0].bytes(), "buffers for fewer than ", ranks.size(), " ranks");
  shard_memory_ = std::make_unique<Arena>("this rank's part of frozen weights");
  shards_.clear();
  for (int64_t layer = 0; layer < static_cast<int64_t>(layers_.size()); ++layer) {
    shards_.push_back(shard_memory_->zeros(DType::f32, {each / size_of(DType::f32)}));
    read(layer, static_cast<char*>(shards_.back().data), ranks.rank() * each, (ranks.rank() + 1) * each);
  }
  ranks_ = ranks.for_another_thread();
  main_thread_alone_ = ranks_ == nullptr;
  if (main_thread_alone_) ranks_ = &ranks;
}

void LayerBuffers::unshard() {
  forget();
  ranks_ = nullptr;
  main_thread_alone_ = false;
  shards_.clear();
  shard_memory_.reset();
}

int64_t LayerBuffers::bytes() const {
  return memory_.peak_bytes() + (shard_memory_ ? shard_memory_->peak_bytes() : 0) +
         (device_memory() == nullptr ? tables_ : 0);
}

}  // namespace qwerky
