// The pool: every index once, at any number of threads; errors; many small loops; use from several callers, each with its own pool.
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <stdexcept>
#include <thread>
#include <vector>

namespace nibble {
namespace {

TEST(ThreadPool, CoversEveryIndexOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (const std::int64_t n : {0, 1, 2, 7, 64, 1000}) {
      for (const std::int64_t grain : {0, 1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> hits(static_cast<std::size_t>(n));
        pool.parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
          EXPECT_LT(begin, end);
          for (std::int64_t i = begin; i < end; ++i) ++hits[static_cast<std::size_t>(i)];
        });
        for (const auto& hit : hits) EXPECT_EQ(hit.load(), 1) << threads << " threads, n " << n << ", grain " << grain;
      }
    }
  }
}

TEST(ThreadPool, ChunksDoNotDependOnTheNumberOfThreads) {
  const auto chunks = [](int threads) {
    ThreadPool pool(threads);
    std::vector<std::atomic<std::int64_t>> ends(100);
    pool.parallel_for(100, 7, [&](std::int64_t begin, std::int64_t end) { ends[static_cast<std::size_t>(begin)] = end; });
    return std::vector<std::int64_t>(ends.begin(), ends.end());
  };
  EXPECT_EQ(chunks(1), chunks(2));
  EXPECT_EQ(chunks(1), chunks(5));
}

TEST(ThreadPool, TellsTheThread) {
  ThreadPool pool(3);
  std::vector<std::atomic<int>> busy(3);
  std::atomic<bool> wrong = false;
  for (int round = 0; round < 200; ++round) {
    pool.parallel_for(16, 1, [&](std::int64_t, std::int64_t, int thread) {
      if (thread < 0 || thread >= 3) {
        wrong = true;
        return;
      }
      // Scratch memory belongs to one chunk at a time.
      if (busy[static_cast<std::size_t>(thread)].fetch_add(1) != 0) wrong = true;
      busy[static_cast<std::size_t>(thread)].fetch_sub(1);
    });
  }
  EXPECT_FALSE(wrong);
}

TEST(ThreadPool, ManyLoopsOneAfterTheOther) {
  ThreadPool pool(4);
  std::int64_t expected = 0;
  std::atomic<std::int64_t> sum = 0;
  for (std::int64_t round = 0; round < 5000; ++round) {
    // Plain data of this round: a worker that is late must never see the next round's, nor this one after it ended.
    std::vector<std::int64_t> data(static_cast<std::size_t>(1 + round % 9), round);
    pool.parallel_for(static_cast<std::int64_t>(data.size()), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) sum += data[static_cast<std::size_t>(i)];
    });
    expected += round * static_cast<std::int64_t>(data.size());
  }
  EXPECT_EQ(sum.load(), expected);
}

TEST(ThreadPool, TheFirstErrorComesOutAndThePoolLivesOn) {
  for (const int threads : {1, 4}) {
    ThreadPool pool(threads);
    EXPECT_THROW(pool.parallel_for(100, 1, [](std::int64_t begin, std::int64_t) {
      if (begin == 42) throw std::runtime_error("42");
    }), std::runtime_error);
    std::atomic<int> count = 0;
    pool.parallel_for(100, 1, [&](std::int64_t, std::int64_t) { ++count; });
    EXPECT_EQ(count.load(), 100);
  }
}

TEST(ThreadPool, SleepsWhenIdle) {
  ThreadPool pool(4);
  pool.parallel_for(4, 1, [](std::int64_t, std::int64_t) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::clock_t before = std::clock();  // processor time of all threads
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const double used = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(used, 0.1) << "three idle workers used " << used << " s of 0.2 s";
}

TEST(ThreadPool, PoolsAreIndependent) {
  std::vector<std::thread> callers;
  std::atomic<std::int64_t> sum = 0;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      ThreadPool pool(2);
      for (int round = 0; round < 300; ++round)
        pool.parallel_for(10, 1, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(sum.load(), 3 * 300 * 10);
}

TEST(ParallelFor, WithoutAPool) {
  std::vector<int> hits(10, 0);
  parallel_for(nullptr, 10, 3, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) ++hits[static_cast<std::size_t>(i)];
  });
  EXPECT_EQ(hits, std::vector<int>(10, 1));
}

}  // namespace
}  // namespace nibble
