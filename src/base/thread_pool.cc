// How a loop runs. The caller publishes it (`open` holds its number), wakes sleepers and works on it like any other thread: chunks are handed out by one
// counter. A worker that comes enters (`inside`), looks whether the loop is still open, and helps. When no chunk is left the caller closes the loop and
// waits for those inside alone: a worker that the system has not woken in time costs nothing.
//
// Between loops workers spin for some microseconds, because the layers of a network follow each other within one; then they sleep. A wake-up costs tens of
// microseconds, as much as a small layer.
#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace nibble {
namespace {

constexpr int kSpins = 4000;  // about 50 us

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

struct ThreadPool::State {
  std::atomic<std::uint32_t> generation{0};  // counts loops; workers wait for it to change
  std::atomic<std::uint32_t> open{0};        // 1 while a loop may be entered
  std::atomic<std::int32_t> inside{0};       // workers that have entered, or are about to find the loop closed
  std::atomic<bool> stop{false};

  // The loop; written by the caller while none is open and nobody is inside.
  const std::function<void(std::int64_t, std::int64_t, int)>* body = nullptr;
  std::int64_t n = 0;
  std::int64_t grain = 1;
  std::atomic<std::int64_t> next{0};
  std::mutex error_mutex;
  std::exception_ptr error;

  std::vector<std::thread> workers;
};

ThreadPool::ThreadPool(int threads) : threads_(std::max(1, threads)), state_(std::make_unique<State>()) {
  State& state = *state_;
  for (int i = 1; i < threads_; ++i) {
    state.workers.emplace_back([this, &state, i] {
      std::uint32_t seen = 0;
      for (;;) {
        for (int spin = 0; spin < kSpins && state.generation.load(std::memory_order_acquire) == seen; ++spin) pause();
        state.generation.wait(seen, std::memory_order_acquire);
        seen = state.generation.load(std::memory_order_acquire);
        if (state.stop.load(std::memory_order_acquire)) return;
        // Sequentially consistent, as is the caller's pair in the other order: either we see the loop closed, or the caller sees us inside.
        state.inside.fetch_add(1);
        if (state.open.load() != 0) work(state, i);
        if (state.inside.fetch_sub(1) == 1) state.inside.notify_one();
      }
    });
  }
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_release);
  state_->generation.fetch_add(1, std::memory_order_release);
  state_->generation.notify_all();
  for (auto& worker : state_->workers) worker.join();
}

void ThreadPool::work(State& state, int thread) {
  for (;;) {
    const std::int64_t begin = state.next.fetch_add(state.grain, std::memory_order_relaxed);
    if (begin >= state.n) return;
    try {
      (*state.body)(begin, std::min(state.n, begin + state.grain), thread);
    } catch (...) {
      const std::lock_guard lock(state.error_mutex);
      if (!state.error) state.error = std::current_exception();
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
  state.body = &body;
  state.n = n;
  state.grain = grain;
  state.next.store(0, std::memory_order_relaxed);
  state.error = nullptr;
  state.open.store(1);
  state.generation.fetch_add(1, std::memory_order_release);
  state.generation.notify_all();
  work(state, 0);
  state.open.store(0);
  for (int spin = 0; spin < kSpins && state.inside.load() != 0; ++spin) pause();
  for (std::int32_t count = state.inside.load(); count != 0; count = state.inside.load()) state.inside.wait(count);
  if (state.error) std::rethrow_exception(state.error);
}

void parallel_for(ThreadPool* pool, std::int64_t n, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (pool != nullptr) {
    pool->parallel_for(n, grain, body);
    return;
  }
  grain = std::max<std::int64_t>(1, grain);
  for (std::int64_t begin = 0; begin < n; begin += grain) body(begin, std::min(n, begin + grain));
}

}  // namespace nibble
