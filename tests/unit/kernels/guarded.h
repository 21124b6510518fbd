// Helpers of the kernels' tests: buffers between pages that nobody may touch, random integers with many extremes.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "kernels/isa.h"
#include "kernels/requantize/requantize.h"

namespace nibble::kernels {

// n elements that end where a forbidden page begins, or begin where one ends: an access past that side crashes the test.
template <typename T>
class Guarded {
 public:
  enum class Side { kEnd, kBegin };
  explicit Guarded(std::int64_t n, Side side = Side::kEnd) : n_(n) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(T);
    const std::size_t body = (bytes + page) / page * page;
    size_ = body + 2 * page;
    void* map = mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) std::abort();
    base_ = static_cast<std::byte*>(map);
    if (mprotect(base_ + page, body, PROT_READ | PROT_WRITE) != 0) std::abort();
    data_ = reinterpret_cast<T*>(side == Side::kEnd ? base_ + page + body - bytes : base_ + page);
  }
  ~Guarded() { munmap(base_, size_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](std::int64_t i) { return data_[i]; }
  const T& operator[](std::int64_t i) const { return data_[i]; }
  std::int64_t size() const { return n_; }
  void fill(const std::vector<T>& from) { std::memcpy(data_, from.data(), from.size() * sizeof(T)); }

 private:
  std::int64_t n_;
  std::byte* base_;
  std::size_t size_;
  T* data_;
};

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  std::int64_t in(std::int64_t low, std::int64_t high) { return std::uniform_int_distribution<std::int64_t>(low, high)(engine_); }
  float real(float low, float high) { return std::uniform_real_distribution<float>(low, high)(engine_); }
  // Half of the values are the ends of the range: sums of products reach their extremes.
  std::int64_t extreme(std::int64_t low, std::int64_t high) {
    const std::int64_t pick = in(0, 3);
    return pick == 0 ? low : pick == 1 ? high : in(low, high);
  }
  std::vector<std::uint8_t> bytes(std::int64_t n) {
    std::vector<std::uint8_t> v(static_cast<std::size_t>(n));
    for (auto& x : v) x = static_cast<std::uint8_t>(extreme(0, 255));
    return v;
  }
  std::vector<std::int8_t> weights(std::int64_t n) {
    std::vector<std::int8_t> v(static_cast<std::size_t>(n));
    for (auto& x : v) x = static_cast<std::int8_t>(extreme(-128, 127));
    return v;
  }
  std::vector<std::int32_t> integers(std::int64_t n, std::int64_t low, std::int64_t high) {
    std::vector<std::int32_t> v(static_cast<std::size_t>(n));
    for (auto& x : v) x = static_cast<std::int32_t>(in(low, high));
    return v;
  }

 private:
  std::mt19937 engine_;
};

// Multipliers that spread accumulators of about `magnitude` over the grid and beyond.
inline std::vector<Requantizer> random_requantizers(Random& random, RequantizeLaw law, std::int64_t n, float magnitude) {
  std::vector<Requantizer> result;
  for (std::int64_t i = 0; i < n; ++i) {
    Requantizer r{.law = law, .multiplier = random.real(20.0F, 400.0F) / magnitude, .fixed = {}, .shift = 0};
    if (law == RequantizeLaw::kFixedPoint) r.fixed = *fixed_point_multiplier(static_cast<double>(r.multiplier));
    if (law == RequantizeLaw::kShift) r.shift = static_cast<int>(random.in(-2, 20));
    result.push_back(r);
  }
  return result;
}

inline OutputGrid random_grid(Random& random) {
  const auto low = random.in(0, 60);
  return {.zero_point = static_cast<std::int32_t>(random.in(0, 255)),
          .qmin = random.in(0, 1) == 0 ? 0 : low,
          .qmax = random.in(0, 1) == 0 ? 255 : random.in(low, 255)};
}

// An addition to fuse: the adder itself, and the view of it without a tensor.
struct RandomAddition {
  Adder adder;
  ResidualRole role = ResidualRole::kSecond;
  ResidualOffsets offsets;
  OutputGrid grid;
  ResidualAdd view;

  // Of stored integers.
  std::uint8_t operator()(std::int64_t requantized, std::int64_t other) const {
    const std::int64_t q = requantized - offsets.requantized, s = other - offsets.other;
    const std::int64_t sum = role == ResidualRole::kFirst ? adder(s, q, grid) : adder(q, s, grid);
    return static_cast<std::uint8_t>(sum + offsets.dst);
  }
};

// Ratios around 1, some tiny (a shift above 30), some huge (sums that leave int32); int8 tensors and uint8 ones.
inline RandomAddition random_addition(Random& random, RequantizeLaw law) {
  RandomAddition a;
  const auto offset = [&] { return random.in(0, 1) == 0 ? 0 : 128; };
  a.offsets = {.requantized = offset(), .other = offset(), .dst = offset()};
  a.role = random.in(0, 1) == 0 ? ResidualRole::kSecond : ResidualRole::kFirst;
  const auto scale = [&] { return random.in(0, 9) == 0 ? random.real(1e-6F, 1e-4F) : random.real(0.01F, 0.2F); };
  const auto zero = [&](int of) { return static_cast<std::int32_t>(random.extreme(-of, 255 - of)); };
  const bool first = a.role == ResidualRole::kFirst;
  const int of_a = first ? a.offsets.other : a.offsets.requantized, of_b = first ? a.offsets.requantized : a.offsets.other;
  const auto kind = random.in(0, 1) == 0 ? AddKind::kAdd : AddKind::kSub;
  a.grid = random_grid(random);
  a.grid.qmin -= a.offsets.dst;
  a.grid.qmax -= a.offsets.dst;
  a.grid.zero_point -= a.offsets.dst;
  std::optional<Adder> adder;
  while (!adder) adder = make_adder(law, kind, scale(), zero(of_a), scale(), zero(of_b), scale(), a.grid.zero_point);
  a.adder = *adder;
  a.view = residual_add(a.adder, a.role, a.offsets, a.grid);
  return a;
}

inline constexpr RequantizeLaw kLaws[] = {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint, RequantizeLaw::kShift};

inline std::string isa_name(const ::testing::TestParamInfo<Isa>& info) { return std::string(to_string(info.param)); }

}  // namespace nibble::kernels
