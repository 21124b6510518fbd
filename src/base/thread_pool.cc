// How a loop runs. Each worker has a mailbox, one cache line: the loop, its own run of chunks, and a phase. The caller fills the mailboxes,
// opens them, and works on its own run like any other thread. A worker that finds its mailbox open enters, by one exchange of the phase;
// when the caller is through it closes the mailboxes that nobody has entered, and waits for the others alone: a worker that the system has
// not woken in time costs nothing.
//
// The runs are the same of every loop of the same size, so that what one loop writes on a core the next one finds in that core's cache;
// whoever is through with its own takes chunks from the others'.
//
// Between loops workers spin for some microseconds, because the layers of a network follow each other within one; then they sleep. A
// wake-up costs tens of microseconds, as much as a small layer.
#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace nibble {
namespace {

constexpr std::chrono::microseconds kSpinTime{100};
// Looked at the clock after so many pauses: a pause is 10 to 60 ns, by processor.
constexpr int kPauses = 32;
constexpr std::size_t kCacheLine = 64;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// True as soon as `done` holds; false after kSpinTime.
template <typename Done>
bool spin_until(Done done) {
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < kPauses; ++i) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() - start < kSpinTime);
  return false;
}

enum Phase : std::uint32_t {
  kClosed,  // nothing to do: the worker spins
  kAsleep,  // nothing to do: the worker sleeps
  kOpen,    // a loop to enter
  kInside,  // the worker works on it
};

}  // namespace

// All that a worker needs of a loop; the caller has one for its own run. Written by the caller while it is kClosed or kAsleep.
struct alignas(kCacheLine) ThreadPool::Mailbox {
  std::atomic<std::uint32_t> phase{kClosed};
  std::atomic<bool> stop{false};
  const Body* body = nullptr;
  std::int64_t n = 0;
  std::int64_t grain = 1;
  std::atomic<std::int64_t> next{0};  // chunks [next, end) are left
  std::int64_t end = 0;
};

struct ThreadPool::State {
  explicit State(int threads) : boxes(static_cast<std::size_t>(threads)) {}

  std::vector<Mailbox> boxes;  // [0]: the caller's
  std::mutex error_mutex;
  std::exception_ptr error;
  std::vector<std::thread> workers;
};

ThreadPool::ThreadPool(int threads) : threads_(std::max(1, threads)), state_(std::make_unique<State>(std::max(1, threads))) {
  for (int i = 1; i < threads_; ++i) state_->workers.emplace_back([this, i] { serve(i); });
}

void ThreadPool::serve(int thread) {
  Mailbox& box = state_->boxes[static_cast<std::size_t>(thread)];
  for (;;) {
    if (!spin_until([&] { return box.phase.load(std::memory_order_relaxed) == kOpen; })) {
      std::uint32_t closed = kClosed;
      if (box.phase.compare_exchange_strong(closed, kAsleep)) box.phase.wait(kAsleep);
    }
    std::uint32_t open = kOpen;
    if (!box.phase.compare_exchange_strong(open, kInside)) continue;
    if (box.stop.load(std::memory_order_relaxed)) return;
    work(thread);
    box.phase.store(kClosed, std::memory_order_release);
    box.phase.notify_one();  // a caller that has waited for long
  }
}

void ThreadPool::open(Mailbox& box) {
  if (box.phase.exchange(kOpen) == kAsleep) box.phase.notify_one();
}

ThreadPool::~ThreadPool() {
  for (std::size_t i = 1; i < state_->boxes.size(); ++i) {
    state_->boxes[i].stop.store(true, std::memory_order_relaxed);
    open(state_->boxes[i]);
  }
  for (auto& worker : state_->workers) worker.join();
}

void ThreadPool::work(int thread) {
  const Mailbox& mine = state_->boxes[static_cast<std::size_t>(thread)];
  const std::size_t count = state_->boxes.size();
  for (std::size_t i = 0; i < count; ++i) {
    Mailbox& box = state_->boxes[(static_cast<std::size_t>(thread) + i) % count];
    for (;;) {
      // A look first: what is used up is not written to.
      if (box.next.load(std::memory_order_relaxed) >= box.end) break;
      const std::int64_t chunk = box.next.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= box.end) break;
      const std::int64_t begin = chunk * mine.grain;
      try {
        (*mine.body)(begin, std::min(mine.n, begin + mine.grain), thread);
      } catch (...) {
        const std::lock_guard lock(state_->error_mutex);
        if (!state_->error) state_->error = std::current_exception();
      }
    }
  }
}

void ThreadPool::parallel_for(std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body) {
  parallel_for(n, grain, [&body](std::int64_t begin, std::int64_t end, int) { body(begin, end); });
}

void ThreadPool::parallel_for(std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t, int)>& body) {
  if (n <= 0) return;
  grain = std::max<std::int64_t>(1, grain);
  if (threads_ == 1 || n <= grain) {
    for (std::int64_t begin = 0; begin < n; begin += grain) body(begin, std::min(n, begin + grain), 0);
    return;
  }
  State& state = *state_;
  state.error = nullptr;
  const std::int64_t chunks = (n - 1) / grain + 1;
  const auto share = [&](std::int64_t t) { return chunks / threads_ * t + std::min<std::int64_t>(t, chunks % threads_); };
  for (int t = 0; t < threads_; ++t) {
    Mailbox& box = state.boxes[static_cast<std::size_t>(t)];
    box.body = &body;
    box.n = n;
    box.grain = grain;
    box.next.store(share(t), std::memory_order_relaxed);
    box.end = share(t + 1);
  }
  // All of them are filled before one is opened: who is inside takes chunks from any.
  for (std::size_t t = 1; t < state.boxes.size(); ++t) open(state.boxes[t]);
  work(0);
  for (std::size_t t = 1; t < state.boxes.size(); ++t) {
    Mailbox& box = state.boxes[t];
    std::uint32_t phase = kOpen;
    if (box.phase.compare_exchange_strong(phase, kClosed)) continue;
    const auto is_out = [&] { return (phase = box.phase.load(std::memory_order_acquire)) != kInside; };
    if (spin_until(is_out)) continue;
    while (!is_out()) box.phase.wait(kInside);
  }
  if (state.error) std::rethrow_exception(state.error);
}

void parallel_for(ThreadPool* pool, std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (pool != nullptr) {
    pool->parallel_for(n, grain, body);
    return;
  }
  grain = std::max<std::int64_t>(1, grain);
  for (std::int64_t begin = 0; begin < n; begin += grain) body(begin, std::min(n, begin + grain));
}

}  // namespace nibble
