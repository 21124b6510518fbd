#include "report/for_each_sample.h"

#include <gtest/gtest.h>

#include "fake_dataset.h"
#include "nibble/error.h"

namespace nibble {
namespace {

FakeDataset numbers(std::int64_t count) {
  std::vector<Sample> samples;
  for (std::int64_t i = 0; i < count; ++i)
    samples.push_back({.inputs = {Tensor::scalar<std::int64_t>(i)}, .label = std::nullopt, .name = ""});
  return FakeDataset(std::move(samples));
}

TEST(ForEachSample, EverySampleOnceAtAnyThreadCount) {
  for (const int threads : {1, 2, 7, 40}) {
    const FakeDataset dataset = numbers(23);
    std::vector<std::int64_t> seen(23, 0);
    Stage stage(nullptr, "test", 23);
    for_each_sample(dataset, threads, stage, [&]() -> SampleWorker {
      return [&](std::int64_t index, const Sample& sample) {
        seen[static_cast<std::size_t>(index)] += sample.inputs[0].data<std::int64_t>()[0] + 1;
      };
    });
    for (std::int64_t i = 0; i < 23; ++i) EXPECT_EQ(seen[static_cast<std::size_t>(i)], i + 1) << threads;
  }
}

TEST(ForEachSample, NoSamplesNoWork) {
  const FakeDataset dataset = numbers(0);
  Stage stage(nullptr, "test", 0);
  for_each_sample(dataset, 4, stage, []() -> SampleWorker { return [](std::int64_t, const Sample&) { FAIL(); }; });
}

TEST(ForEachSample, TheLowestErrorComesOut) {
  for (int round = 0; round < 20; ++round) {
    FakeDataset dataset = numbers(30);
    dataset.broken_from = 11;
    Stage stage(nullptr, "test", 30);
    try {
      for_each_sample(dataset, 5, stage, []() -> SampleWorker { return [](std::int64_t, const Sample&) {}; });
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "sample 11 is broken");
    }
  }
}

TEST(ForEachSample, AWorkerThatCannotBeMade) {
  const FakeDataset dataset = numbers(3);
  Stage stage(nullptr, "test", 3);
  EXPECT_THROW(for_each_sample(dataset, 2, stage, []() -> SampleWorker { fail(ErrorCode::kUnsupported, "no"); }), Error);
}

class Impatient final : public ProgressSink {
 public:
  bool cancelled() override { return true; }
};

TEST(ForEachSample, StopsWhenAsked) {
  const FakeDataset dataset = numbers(1000);
  Impatient sink;
  Stage stage(&sink, "test", 1000);
  try {
    for_each_sample(dataset, 2, stage, []() -> SampleWorker { return [](std::int64_t, const Sample&) {}; });
    FAIL() << "went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  }
}

}  // namespace
}  // namespace nibble
