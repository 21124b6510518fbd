#include "data/loader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "base/fail.h"

namespace nibble {
namespace {

// Counts how many samples are alive between their making and the consumer's acknowledgement.
class Counting final : public Dataset {
 public:
  explicit Counting(std::int64_t size) : size_(size) {}
  std::int64_t size() const override { return size_; }
  bool has_labels() const override { return true; }
  std::string description() const override { return "counting"; }
  std::string hash() const override { return ""; }
  Sample sample(std::int64_t index) const override {
    const std::int64_t alive = ++alive_;
    std::int64_t most = most_.load();
    while (alive > most && !most_.compare_exchange_weak(most, alive)) {
    }
    if (index % 7 == 3) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // out of order on purpose
    if (index == fails_at) {
      --alive_;
      fail(ErrorCode::kInvalidData, "sample {} is broken", index);
    }
    Sample sample;
    sample.label = index;
    return sample;
  }
  void taken() const { --alive_; }
  std::int64_t most() const { return most_; }
  std::int64_t fails_at = -1;

 private:
  std::int64_t size_;
  mutable std::atomic<std::int64_t> alive_{0};
  mutable std::atomic<std::int64_t> most_{0};
};

TEST(DataLoader, GivesEverySampleInOrder) {
  for (const int threads : {0, 1, 2, 5}) {
    for (const std::int64_t size : {0, 1, 2, 50}) {
      const Counting data(size);
      DataLoader loader(data, {.threads = threads});
      for (std::int64_t i = 0; i < size; ++i) {
        ASSERT_FALSE(loader.done());
        ASSERT_EQ(loader.next().label, i);
      }
      EXPECT_TRUE(loader.done());
      EXPECT_THROW(loader.next(), Error);
    }
  }
}

TEST(DataLoader, HoldsNoMoreThanItMay) {
  const Counting data(300);
  DataLoader loader(data, {.threads = 3, .ahead = 4});
  for (std::int64_t i = 0; i < 300; ++i) {
    loader.next();
    data.taken();
    if (i % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  // Four in the loader, and the one in the consumer's hand.
  EXPECT_LE(data.most(), 5);
}

TEST(DataLoader, AnExceptionComesInItsTurn) {
  for (const int threads : {0, 1, 3}) {
    Counting data(20);
    data.fails_at = 5;
    DataLoader loader(data, {.threads = threads});
    for (std::int64_t i = 0; i < 20; ++i) {
      if (i == 5)
        EXPECT_THROW(loader.next(), Error);
      else
        EXPECT_EQ(loader.next().label, i);
    }
  }
}

TEST(DataLoader, CanBeLeftAtAnyTime) {
  for (std::int64_t taken = 0; taken < 10; ++taken) {
    const Counting data(100);
    DataLoader loader(data, {.threads = 2, .ahead = 3});
    for (std::int64_t i = 0; i < taken; ++i) loader.next();
  }
}

}  // namespace
}  // namespace nibble
