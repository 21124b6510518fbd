// What every observer promises: merging, saving, sane answers for odd data.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "nibble/calibrate.h"
#include "nibble/error.h"
#include "sample_data.h"

namespace nibble {
namespace {

constexpr ObserverTarget kU8{.type = {.bit_width = 8, .is_signed = false}, .symmetric = false};
constexpr ObserverTarget kS8{.type = {.bit_width = 8, .is_signed = true, .narrow_range = true}, .symmetric = true};
constexpr ObserverTarget kS8Affine{.type = {.bit_width = 8, .is_signed = true}, .symmetric = false};
constexpr ObserverTarget kU8Symmetric{.type = {.bit_width = 8, .is_signed = false}, .symmetric = true};
constexpr ObserverTarget kU4{.type = {.bit_width = 4, .is_signed = false}, .symmetric = false};
constexpr ObserverTarget kS2{.type = {.bit_width = 2, .is_signed = true, .narrow_range = true}, .symmetric = true};
constexpr ObserverTarget kU1{.type = {.bit_width = 1, .is_signed = false}, .symmetric = false};
constexpr ObserverTarget kU16{.type = {.bit_width = 16, .is_signed = false}, .symmetric = false};
constexpr ObserverTarget kTargets[] = {kU8, kS8, kS8Affine, kU8Symmetric, kU4, kS2, kU1, kU16};

std::vector<std::string> methods() {
  std::vector<std::string> names;
  for (const ObserverInfo& info : observer_table()) names.emplace_back(info.name);
  return names;
}

class EveryObserver : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Observer> make() const { return make_observer(GetParam()); }
};

bool exact(const std::string& method) { return method != "average" && method != "moving_average" && method != "mean_std"; }

// How far a range may reach beyond the data: a power-of-two scale is raised by less than twice.
double reach(const std::string& method) { return method == "power_of_two" ? 2 : 1; }

// Sums: each addition is exact to 2^-106, so only the answer's own roundings show. 1e-12 of the range's size is what the contract says.
void expect_equal(const Range& a, const Range& b, const std::string& method, const std::string& what) {
  if (exact(method)) {
    EXPECT_EQ(a, b) << what;
    return;
  }
  const double size = std::max({std::abs(a.lo), std::abs(a.hi), std::abs(b.lo), std::abs(b.hi)});
  EXPECT_NEAR(a.lo, b.lo, 1e-12 * size) << what;
  EXPECT_NEAR(a.hi, b.hi, 1e-12 * size) << what;
}

TEST_P(EveryObserver, MergedShardsEqualOnePass) {
  for (std::uint64_t seed = 100; seed < 103; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    for (const auto& data : testing::sample_data(seed, 4000)) {
      const auto whole = make(), merged = make();
      auto shard = make();
      for (std::size_t begin = 0; begin < data.values.size();) {
        const std::size_t n = std::min<std::size_t>(data.values.size() - begin, random() % 400);
        const auto batch = std::span(data.values).subspan(begin, n);
        whole->observe(batch);
        shard->observe(batch);
        begin += n;
        if (random() % 4 == 0) {
          const auto reloaded = make();
          reloaded->load(shard->save());
          merged->merge(*reloaded);
          shard = make();  // may stay empty: an empty shard merges as nothing
        }
      }
      merged->merge(*shard);
      for (const ObserverTarget& target : {kU8, kS8}) expect_equal(merged->range(target), whole->range(target), GetParam(), data.name);
    }
  }
}

TEST_P(EveryObserver, SaveAndLoadAreExact) {
  for (const auto& data : testing::sample_data(5, 3000)) {
    const auto saved = make();
    for (std::size_t i = 0; i < 3; ++i) saved->observe(std::span(data.values).subspan(i * 1000, 1000));
    const auto loaded = make();
    loaded->load(saved->save());
    EXPECT_EQ(loaded->save(), saved->save()) << data.name;
    EXPECT_EQ(loaded->range(kU8), saved->range(kU8)) << data.name;
    EXPECT_EQ(loaded->range(kS8), saved->range(kS8)) << data.name;
    EXPECT_FALSE(loaded->empty());
    // And goes on as the other does.
    saved->observe(data.values);
    loaded->observe(data.values);
    EXPECT_EQ(loaded->save(), saved->save()) << data.name;
  }
}

TEST_P(EveryObserver, RangeIsFiniteOrderedAndInsideTheData) {
  for (const auto& data : testing::sample_data(6)) {
    const auto observer = make();
    observer->observe(data.values);
    const auto [lo, hi] = std::minmax_element(data.values.begin(), data.values.end());
    for (const ObserverTarget& target : kTargets) {
      const Range range = observer->range(target);
      EXPECT_TRUE(std::isfinite(range.lo) && std::isfinite(range.hi)) << data.name;
      EXPECT_LE(range.lo, range.hi) << data.name;
      EXPECT_GE(range.lo, static_cast<double>(*lo) * (*lo < 0 ? reach(GetParam()) : 1)) << data.name;
      EXPECT_LE(range.hi, static_cast<double>(*hi) * (*hi > 0 ? reach(GetParam()) : 1)) << data.name;
    }
  }
}

TEST_P(EveryObserver, Empty) {
  const auto observer = make();
  EXPECT_TRUE(observer->empty());
  observer->observe({});
  EXPECT_TRUE(observer->empty());
  EXPECT_EQ(observer->range(kU8), Range{});
  const auto loaded = make();
  loaded->load(observer->save());
  EXPECT_TRUE(loaded->empty());
  observer->merge(*loaded);
  EXPECT_TRUE(observer->empty());
}

TEST_P(EveryObserver, ConstantDataIsAPoint) {
  for (const float v : {0.0F, -0.0F, 1.0F, -3.5F, 1e30F, -1e30F, 1e-30F, 1e-42F}) {
    const auto observer = make();
    observer->observe(std::vector<float>(100, v));
    observer->observe(std::vector<float>(1, v));
    for (const ObserverTarget& target : kTargets) {
      const Range range = observer->range(target);
      const double tolerance = exact(GetParam()) ? 0 : 1e-12 * std::abs(static_cast<double>(v));
      EXPECT_NEAR(range.lo, static_cast<double>(v), tolerance);
      EXPECT_NEAR(range.hi, static_cast<double>(v), tolerance);
    }
  }
}

TEST_P(EveryObserver, OneValueAndTwo) {
  const auto observer = make();
  observer->observe(std::vector<float>{2.0F});
  EXPECT_EQ(observer->range(kU8), (Range{2, 2}));
  observer->observe(std::vector<float>{-2.0F});
  const Range range = observer->range(kU8);
  EXPECT_GE(range.lo, -2 * reach(GetParam()));
  EXPECT_LE(range.hi, 2 * reach(GetParam()));
  EXPECT_LE(range.lo, range.hi);
}

TEST_P(EveryObserver, RefusesNaNAndInfinity) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const auto observer = make();
    EXPECT_THROW(observer->observe(std::vector<float>{1.0F, bad, 2.0F}), Error);
    EXPECT_TRUE(observer->empty());
  }
}

TEST_P(EveryObserver, RefusesDamagedStates) {
  const auto observer = make();
  for (const char* state : {"", "{", "[]", "{}", "null", "3", "{\"lo\":1}", "\"x\"", "{\"unknown\":1}"}) {
    EXPECT_THROW(observer->load(state), Error) << state;
  }
  // Every key of a good state, taken away or made a string.
  observer->observe(std::vector<float>{1.0F, 2.0F});
  const std::string good = observer->save();
  for (std::size_t i = 0; i + 1 < good.size(); ++i) {
    EXPECT_THROW(make()->load(good.substr(0, i)), Error) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Observers, EveryObserver, ::testing::ValuesIn(methods()), [](const auto& instance) { return instance.param; });

// --- Those without a file of tests of their own ---

TEST(MinMax, IsExact) {
  const auto observer = make_observer("min_max");
  observer->observe(std::vector<float>{1, 2});
  observer->observe(std::vector<float>{-7, 0.5F});
  EXPECT_EQ(observer->range(kU8), (Range{-7, 2}));
}

TEST(Average, IsTheMeanOfTheEnds) {
  const auto observer = make_observer("average");
  observer->observe(std::vector<float>{0, 1});
  observer->observe(std::vector<float>{-2, 4});
  observer->observe(std::vector<float>{-1, 4});
  EXPECT_EQ(observer->range(kU8), (Range{-1, 3}));
}

TEST(MovingAverage, IsTheRecurrence) {
  std::mt19937_64 random(8);
  std::normal_distribution<float> normal(0, 1);
  for (const double momentum : {0.01, 0.1, 0.5, 1.0}) {
    const auto observer = make_observer("moving_average:momentum=" + std::to_string(momentum));
    double lo = 0, hi = 0;
    for (int i = 0; i < 200; ++i) {
      const float a = normal(random), b = a + std::abs(normal(random));
      observer->observe(std::vector<float>{a, b});
      lo = i == 0 ? static_cast<double>(a) : (1 - momentum) * lo + momentum * static_cast<double>(a);
      hi = i == 0 ? static_cast<double>(b) : (1 - momentum) * hi + momentum * static_cast<double>(b);
    }
    EXPECT_NEAR(observer->range(kU8).lo, lo, 1e-12);
    EXPECT_NEAR(observer->range(kU8).hi, hi, 1e-12);
  }
}

TEST(MeanStd, IsMeanAndDeviation) {
  const auto data = testing::sample_data(9).front().values;
  long double mean = 0, variance = 0;
  for (const float v : data) mean += static_cast<long double>(v);
  mean /= data.size();
  for (const float v : data) variance += (static_cast<long double>(v) - mean) * (static_cast<long double>(v) - mean);
  const double deviation = static_cast<double>(std::sqrt(variance / data.size()));
  const auto observer = make_observer("mean_std:n=2");
  observer->observe(data);
  EXPECT_NEAR(observer->range(kU8).lo, static_cast<double>(mean) - 2 * deviation, 1e-12);
  EXPECT_NEAR(observer->range(kU8).hi, static_cast<double>(mean) + 2 * deviation, 1e-12);
}

}  // namespace
}  // namespace nibble
