// A pool of threads that share loops; sleeps when idle.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace nibble {

// Runs loops over [0, n) on `threads` threads, the caller among them. The split into chunks depends on n and `grain` alone, never on the
// number of threads, so a loop whose chunks are independent gives the same bits at any count. Not reentrant: one loop at a time.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }
  // Calls body(begin, end) for chunks of at most `grain` indices that cover [0, n) once. Waits for all of them. The first exception thrown is
  // rethrown here after the others have ended.
  void parallel_for(std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body);
  // The same with the index of the thread that runs the chunk, 0..threads()-1, for scratch memory of its own.
  void parallel_for(std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t, int)>& body);

 private:
  using Body = std::function<void(std::int64_t, std::int64_t, int)>;
  struct Mailbox;
  struct State;
  static void open(Mailbox& box);
  void serve(int thread);
  void work(int thread);
  int threads_;
  std::unique_ptr<State> state_;
};

// The same without a pool: `pool` may be null.
void parallel_for(ThreadPool* pool, std::int64_t n, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace nibble
