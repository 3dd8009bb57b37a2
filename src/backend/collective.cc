// SPDX-License-Identifier: MIT
#include "backend/collective.h"

#include <cstdlib>

namespace qwerky {
namespace {

class FirstAlone final : public Collective {
 public:
  explicit FirstAlone(int size) : size_(size) {}
  int rank() const override { return 0; }
  int size() const override { return size_; }
  void reduce_scatter(Tensor, std::span<const int64_t>) override {}
  void all_gather(Tensor, std::span<const int64_t>) override {}
  void sum(std::span<double>) override {}
  void broadcast(void*, int64_t) override {}
  int on_this_machine() const override { return 1; }
  void abort(int status) override { std::_Exit(status); }

 private:
  const int size_;
};

}  // namespace

Collective& one_process() {
  static FirstAlone alone(1);
  return alone;
}

std::unique_ptr<Collective> first_of(int size) { return std::make_unique<FirstAlone>(size); }

}  // namespace qwerky
