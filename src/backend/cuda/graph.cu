// SPDX-License-Identifier: MIT
#include "backend/cuda/graph.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/device.h"

namespace qwerky::cuda {
namespace {

cudaGraphExec_t capture(Device& on, const Calls& calls) {
  cudaGraph_t graph = nullptr;
  // Of this thread: others may allocate meanwhile.
  check(cudaStreamBeginCapture(on.stream(), cudaStreamCaptureModeThreadLocal), "capturing a step");
  try {
    calls.queue(on);
  } catch (...) {
    cudaStreamEndCapture(on.stream(), &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(on.stream(), &graph), "capturing a step");
  cudaGraphExec_t made = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&made, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "making a graph of a step");
  return made;
}

}  // namespace

void Calls::queue(Device& on) const {
  for (size_t at = 0; at < words_.size();) {
    const auto* header = reinterpret_cast<const Header*>(&words_[at]);
    header->queue(on, &words_[at + 1]);
    at += 1 + header->words;
  }
}

bool Calls::operator==(const Calls& other) const {
  return words_.size() == other.words_.size() &&
         std::memcmp(words_.data(), other.words_.data(), words_.size() * sizeof(Word)) == 0;
}

void Graphs::queue(Device& on, const Calls& calls) {
  if (calls.empty()) return;
  const auto found = std::ranges::find(known_, calls, &Known::calls);
  if (found == known_.end()) {
    if (known_.size() == kMost) {
      on.wait();  // it may be running
      if (known_.back().graph != nullptr) check(cudaGraphExecDestroy(known_.back().graph), "dropping a graph");
      known_.pop_back();
    }
    known_.push_front({calls});
    return calls.queue(on);
  }
  known_.splice(known_.begin(), known_, found);
  if (found->graph == nullptr) found->graph = capture(on, calls);
  check(cudaGraphLaunch(found->graph, on.stream()), "launch of a graph");
}

}  // namespace qwerky::cuda
