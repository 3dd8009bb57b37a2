// SPDX-License-Identifier: MIT
// Steps that come again and again, such as decoding with one number of sequences. While such a step runs, its calls are
// written down instead of queued, and at its end they are queued together: by themselves the first time, captured as a
// CUDA graph the second time, and from then on as that graph. A graph stands for calls that are equal in every byte:
// kernel, grid, shared memory, arguments. So nothing in it can be out of date, whatever memory moved or sizes changed:
// calls that differ are not its calls, and are queued by themselves. What changes from step to step (tokens, positions,
// states) has to lie in memory whose address stays: Device::upload sees to that.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <list>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace qwerky::cuda {

class Device;

template <size_t I, class P>
struct Argument {
  P value;
};
template <class I, class... P>
struct ArgumentsOf;
template <size_t... I, class... P>
struct ArgumentsOf<std::index_sequence<I...>, P...> : Argument<I, P>... {
  template <class F>
  void give_to(const F& f) const {
    f(static_cast<const Argument<I, P>&>(*this).value...);
  }
};
/// What a kernel is given: a tuple that is trivially copyable where its members are.
template <class... P>
using Arguments = ArgumentsOf<std::index_sequence_for<P...>, P...>;

/// Calls one behind the other, as bytes. A call is a trivially copyable object; call(device) queues its work, and does
/// nothing else to the device.
class Calls {
 public:
  template <class Call>
  void add(const Call& call) {
    static_assert(std::is_trivially_copyable_v<Call> && alignof(Call) <= alignof(Word));
    constexpr size_t words = (sizeof(Call) + sizeof(Word) - 1) / sizeof(Word);
    const size_t at = words_.size();
    words_.resize(at + 1 + words);
    new (&words_[at]) Header{[](Device& on, const void* it) { (*static_cast<const Call*>(it))(on); }, words};
    auto* kept = new (&words_[at + 1]) Call(call);
    __builtin_clear_padding(kept);  // equal calls, equal bytes
  }
  void queue(Device& on) const;
  void clear() { words_.clear(); }
  bool empty() const { return words_.empty(); }
  bool operator==(const Calls& other) const;

 private:
  struct alignas(16) Word {
    std::byte bytes[16];
  };
  struct Header {
    void (*queue)(Device& on, const void* call);
    size_t words;  ///< of the call, which follow
  };
  static_assert(sizeof(Header) == sizeof(Word));
  std::vector<Word> words_;
};

class Graphs {
 public:
  /// Steps that are remembered: two (layers, logits) of each number of sequences that a server runs at once by default,
  /// and as many again where softmax changes its grid.
  static constexpr size_t kMost = 256;
  /// Queues the calls, which may be those of a graph, or become one.
  void queue(Device& on, const Calls& calls);

 private:
  struct Known {
    Calls calls;
    cudaGraphExec_t graph = nullptr;  ///< from the second time on
  };
  std::list<Known> known_;  ///< the last used first
};

}  // namespace qwerky::cuda
