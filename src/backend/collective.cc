// SPDX-License-Identifier: MIT
#include "backend/collective.h"

#include <cstdlib>

namespace qwerky {
namespace {

class OneProcess final : public Collective {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void reduce_scatter(Tensor, std::span<const int64_t>) override {}
  void all_gather(Tensor, std::span<const int64_t>) override {}
  void sum(std::span<double>) override {}
  void broadcast(void*, int64_t) override {}
  int on_this_machine() const override { return 1; }
  void abort(int status) override { std::_Exit(status); }
};

}  // namespace

Collective& one_process() {
  static OneProcess alone;
  return alone;
}

}  // namespace qwerky
