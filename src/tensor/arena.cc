// SPDX-License-Identifier: MIT
#include "tensor/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace qwerky {
namespace {

constexpr int64_t kAlign = 64;
constexpr int64_t kHugePage = 2 << 20;
constexpr int64_t kSmallestBlock = 1 << 20;

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace

Block::Block(int64_t bytes, const std::string& purpose, bool on_host)
    : bytes_(round_up(std::max<int64_t>(bytes, 1), kAlign)) {
  if (bytes_ >= kHugePage) bytes_ = round_up(bytes_, kHugePage);
  if (from_ = device_memory(); from_ != nullptr) {
    data_ = static_cast<char*>(from_->allocate(bytes_, purpose, on_host));
    return;
  }
  void* memory = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("memory for ", purpose, ": the system refused ", bytes_ >> 20, " MiB");
  if (bytes_ >= kHugePage) madvise(memory, static_cast<size_t>(bytes_), MADV_HUGEPAGE);  // a hint: failure is harmless
  data_ = static_cast<char*>(memory);
}

Block& Block::operator=(Block&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(from_, other.from_);
  return *this;
}

Block::~Block() {
  if (data_ == nullptr) return;
  from_ != nullptr ? from_->release(data_) : static_cast<void>(munmap(data_, static_cast<size_t>(bytes_)));
}

struct Arena::Blocks {
  std::vector<Block> list;
};

Arena::Arena(std::string purpose, int64_t first_block_bytes, bool on_host)
    : purpose_(std::move(purpose)), on_host_(on_host), blocks_(std::make_shared<Blocks>()) {
  if (first_block_bytes > 0) blocks_->list.emplace_back(first_block_bytes, purpose_, on_host_);
}

char* Arena::take(int64_t bytes) {
  bytes = round_up(bytes, kAlign);
  auto& list = blocks_->list;
  while (block_ < list.size() && used_ + bytes > list[block_].bytes()) {
    filled_.push_back(used_);
    before_ += used_;
    ++block_;
    used_ = 0;
  }
  if (block_ == list.size()) {
    int64_t mapped = 0;
    for (const Block& block : list) mapped += block.bytes();
    list.emplace_back(std::max({bytes, mapped, kSmallestBlock}), purpose_, on_host_);
  }
  char* memory = list[block_].data() + used_;
  used_ += bytes;
  peak_ = std::max(peak_, before_ + used_);
  return memory;
}

Tensor Arena::tensor(DType type, Shape shape) { return Tensor(take(shape.count() * size_of(type)), type, shape); }

Tensor Arena::panels(const PanelFormat& format, Shape shape) {
  Tensor t(nullptr, format.type, shape);
  t.layout = Layout::panels;
  t.panels = format;
  t.data = take(t.bytes());
  return t;
}

Tensor Arena::zeros(DType type, Shape shape) {
  Tensor t = tensor(type, shape);
  wait_for_device();
  std::memset(t.data, 0, static_cast<size_t>(t.bytes()));
  return t;
}

void Arena::release(Mark m) {
  while (block_ > m.block) {
    --block_;
    before_ -= filled_.back();
    filled_.pop_back();
  }
  used_ = m.used;
}

}  // namespace qwerky
