#include "report/for_each_sample.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

namespace nibble {

void for_each_sample(const Dataset& dataset, int threads, Stage& stage, const std::function<SampleWorker()>& make_worker) {
  const std::int64_t size = dataset.size();
  std::mutex mutex;
  std::condition_variable changed;
  std::int64_t next = 0;
  std::int64_t done = 0;
  int running = static_cast<int>(std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(size, 1)));
  std::int64_t failed_at = std::numeric_limits<std::int64_t>::max();
  std::exception_ptr error;

  const auto fail_at = [&](std::int64_t index) {  // with the mutex held
    if (index < failed_at) {
      failed_at = index;
      error = std::current_exception();
    }
  };
  const auto work = [&] {
    std::unique_lock lock(mutex);
    try {
      lock.unlock();
      const SampleWorker worker = make_worker();
      lock.lock();
      while (next < size && next < failed_at) {
        const std::int64_t index = next++;
        lock.unlock();
        try {
          worker(index, dataset.sample(index));
          lock.lock();
        } catch (...) {
          lock.lock();
          fail_at(index);
        }
        ++done;
        changed.notify_all();
      }
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      fail_at(-1);
    }
    --running;
    changed.notify_all();
  };

  std::vector<std::thread> workers;
  for (int i = 0, count = running; i < count; ++i) workers.emplace_back(work);
  const auto join = [&] {
    for (std::thread& worker : workers) worker.join();
  };
  try {
    std::unique_lock lock(mutex);
    while (running > 0) {
      changed.wait_for(lock, std::chrono::milliseconds(100));  // so that a wish to stop is seen soon
      const std::int64_t now = done;
      lock.unlock();
      stage.advance(now);
      lock.lock();
    }
  } catch (...) {
    {
      const std::lock_guard lock(mutex);
      failed_at = std::min<std::int64_t>(failed_at, -1);
    }
    join();
    throw;
  }
  join();
  if (error) std::rethrow_exception(error);
  stage.advance(done);  // a wish that came while the last samples ran
}

}  // namespace nibble
