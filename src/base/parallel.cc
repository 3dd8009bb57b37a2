// SPDX-License-Identifier: MIT
#include "base/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"

namespace qwerky {
namespace {

/// How long an idle thread watches for work before it sleeps: the gaps between the operations of a token are shorter.
constexpr auto kSpin = std::chrono::microseconds(100);

int available_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return 1;
}

std::atomic<int> thread_count{available_cores()};
thread_local bool inside = false;  ///< this thread runs a body

void relax() { __builtin_ia32_pause(); }

/// What is left of one thread's share: [begin, end) in one word, so that owner and thieves agree by one exchange.
class Share {
 public:
  void set(int64_t begin, int64_t end) { left_.store(word(begin, end)); }
  /// The owner takes from the front, a thief from the back: half of what is left, at least `grain`.
  bool take(int64_t grain, bool front, int64_t& begin, int64_t& end) {
    uint64_t seen = left_.load();
    while (true) {
      const auto b = static_cast<int64_t>(seen >> 32), e = static_cast<int64_t>(seen & 0xffffffffu);
      if (b >= e) return false;
      int64_t size = std::max((e - b + 1) / 2, grain);
      if (e - b - size < grain) size = e - b;
      const uint64_t rest = front ? word(b + size, e) : word(b, e - size);
      if (!left_.compare_exchange_weak(seen, rest)) continue;
      begin = front ? b : e - size;
      end = front ? b + size : e;
      return true;
    }
  }

 private:
  static uint64_t word(int64_t begin, int64_t end) {
    return static_cast<uint64_t>(begin) << 32 | static_cast<uint64_t>(end);
  }
  alignas(64) std::atomic<uint64_t> left_{0};
};

/// One job at a time. Counters are sequentially consistent: a worker says that it is `active` before it looks whether
/// the job is still open, the caller closes the job before it looks for active workers.
class Pool {
 public:
  ~Pool() {
    stop_ = true;
    announce();
    for (std::thread& t : workers_) t.join();
  }

  void run(int team, int64_t n, int64_t grain, const void* context, internal::Body body) noexcept {
    grow(team);
    // Shares count items of `unit` so that both ends fit in a word.
    const int64_t unit = n / (int64_t{1} << 31) + 1, items = (n + unit - 1) / unit;
    job_ = {context, body, n, unit, (grain + unit - 1) / unit, team};
    for (int t = 0; t < team; ++t) shares_[static_cast<size_t>(t)].set(items * t / team, items * (t + 1) / team);
    open_ = true;
    announce();
    work(0);
    open_ = false;
    for (int spins = 0; active_.load() != 0; ++spins) spins < 4096 ? relax() : std::this_thread::yield();
  }

  std::mutex busy;

 private:
  struct Job {
    const void* context = nullptr;
    internal::Body body = nullptr;
    int64_t n = 0, unit = 1, grain = 1;
    int team = 1;
  };

  void grow(int team) {
    while (static_cast<int>(workers_.size()) + 1 < team) {
      const int me = static_cast<int>(workers_.size()) + 1;
      workers_.emplace_back([this, me, seen = epoch_.load()] { serve(me, seen); });
    }
    if (share_count_ < team) {
      shares_ = std::make_unique<Share[]>(static_cast<size_t>(team));
      share_count_ = team;
    }
  }

  void announce() {
    epoch_.fetch_add(1);
    if (sleeping_.load() > 0) epoch_.notify_all();
  }

  void work(int me) {
    const Job job = job_;
    inside = true;
    for (int i = 0; i < job.team; ++i) {
      Share& share = shares_[static_cast<size_t>((me + i) % job.team)];
      int64_t begin, end;
      while (share.take(job.grain, i == 0, begin, end))
        job.body(job.context, begin * job.unit, std::min(job.n, end * job.unit));
    }
    inside = false;
  }

  void serve(int me, uint32_t seen) {
    while (true) {
      wait_for_change(seen);
      if (stop_) return;
      active_.fetch_add(1);
      seen = epoch_.load();
      if (open_ && me < job_.team) work(me);
      active_.fetch_sub(1);
    }
  }

  void wait_for_change(uint32_t seen) {
    const auto start = std::chrono::steady_clock::now();
    while (true) {
      for (int i = 0; i < 64; ++i) {
        if (epoch_.load() != seen) return;
        relax();
      }
      if (std::chrono::steady_clock::now() - start < kSpin) continue;
      sleeping_.fetch_add(1);
      epoch_.wait(seen);
      sleeping_.fetch_sub(1);
    }
  }

  std::vector<std::thread> workers_;
  std::unique_ptr<Share[]> shares_;
  int share_count_ = 0;
  Job job_;
  alignas(64) std::atomic<uint32_t> epoch_{0};
  alignas(64) std::atomic<bool> open_{false}, stop_{false};
  std::atomic<int> sleeping_{0};
  alignas(64) std::atomic<int> active_{0};
};

Pool& pool() {
  static Pool instance;
  return instance;
}

}  // namespace

void set_threads(int n) {
  if (n < 1) fail("threads: expected a number of at least 1, got ", n);
  thread_count = n;
}

int threads() { return thread_count; }

int cores() { return available_cores(); }

namespace internal {

void run_parallel(int64_t n, int64_t grain, const void* context, Body body) noexcept {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t wanted = std::min<int64_t>(thread_count.load(std::memory_order_relaxed), n / grain);
  if (wanted <= 1 || inside) return body(context, 0, n);
  std::unique_lock<std::mutex> alone(pool().busy, std::try_to_lock);
  if (!alone) return body(context, 0, n);
  pool().run(static_cast<int>(wanted), n, grain, context, body);
}

}  // namespace internal
}  // namespace qwerky
