#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace nibble {

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable done;
  std::uint64_t generation = 0;  // counts loops; a worker joins each loop once
  bool stop = false;
  int active = 0;  // workers still inside the current loop

  const std::function<void(std::int64_t, std::int64_t, int)>* body = nullptr;
  std::int64_t n = 0;
  std::int64_t grain = 1;
  std::atomic<std::int64_t> next{0};
  std::exception_ptr error;

  std::vector<std::thread> workers;
};

ThreadPool::ThreadPool(int threads) : threads_(std::max(1, threads)), state_(std::make_unique<State>()) {
  State& state = *state_;
  for (int i = 1; i < threads_; ++i) {
    state.workers.emplace_back([this, &state, i] {
      std::uint64_t seen = 0;
      for (;;) {
        {
          std::unique_lock lock(state.mutex);
          state.wake.wait(lock, [&] { return state.stop || state.generation != seen; });
          if (state.stop) return;
          seen = state.generation;
        }
        work(state, i);
        const std::lock_guard lock(state.mutex);
        if (--state.active == 0) state.done.notify_one();
      }
    });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_all();
  for (auto& worker : state_->workers) worker.join();
}

void ThreadPool::work(State& state, int thread) {
  for (;;) {
    const std::int64_t begin = state.next.fetch_add(state.grain, std::memory_order_relaxed);
    if (begin >= state.n) return;
    try {
      (*state.body)(begin, std::min(state.n, begin + state.grain), thread);
    } catch (...) {
      const std::lock_guard lock(state.mutex);
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
  {
    const std::lock_guard lock(state.mutex);
    state.body = &body;
    state.n = n;
    state.grain = grain;
    state.next.store(0, std::memory_order_relaxed);
    state.error = nullptr;
    state.active = threads_ - 1;
    ++state.generation;
  }
  state.wake.notify_all();
  work(state, 0);
  std::unique_lock lock(state.mutex);
  state.done.wait(lock, [&] { return state.active == 0; });
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
