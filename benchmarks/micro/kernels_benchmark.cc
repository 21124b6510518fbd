// Kernels on the shapes of real networks: GOPS (two operations a multiply-add) and percent of the peak of the instruction set's
// dot-product, measured in the same run. One thread; pin it: taskset -c 1 nibble_kernels_benchmark --benchmark_filter=qgemm
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/lut/lut.h"
#include "kernels/peak/peak.h"
#include "kernels/qadd/qadd.h"
#include "kernels/qconv/qconv.h"
#include "kernels/qconv_depthwise/qconv_depthwise.h"
#include "kernels/qpool/qpool.h"
#include "kernels/quantize_linear/quantize_linear.h"

namespace nibble::kernels {
namespace {

constexpr OutputGrid kGrid{.zero_point = 3, .qmin = 0, .qmax = 255};
constexpr OutputGrid kReluGrid{.zero_point = 0, .qmin = 0, .qmax = 255};  // what follows a depthwise convolution

// Aligned as the runtime's memory is.
template <typename T>
class Values {
 public:
  explicit Values(std::int64_t n) : memory_(allocate_aligned(n * static_cast<std::int64_t>(sizeof(T)))) {
    std::mt19937 engine(1);
    for (std::int64_t i = 0; i < n; ++i) data()[i] = static_cast<T>(engine());
  }
  T* data() const { return reinterpret_cast<T*>(memory_.get()); }

 private:
  std::shared_ptr<std::byte> memory_;
};

template <typename T>
Values<T> random_values(std::int64_t n) {
  return Values<T>(n);
}

double peak_of(Isa isa) {
  static std::vector<double> peaks = [] {
    std::vector<double> all;
    for (const Isa each : available_isas()) {
      all.resize(static_cast<std::size_t>(each) + 1);
      all.back() = measured_peak(each);
    }
    return all;
  }();
  return peaks[static_cast<std::size_t>(isa)];
}

// Runs and times `body`. The figures are those of the fastest run: on a machine with other work the mean says little.
template <typename Body>
double best_ns(benchmark::State& state, Body body) {
  double best = 1e30;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
    best = std::min(best, time.count());
  }
  return best;
}

void report(benchmark::State& state, Isa isa, double macs, double ns) {
  state.counters["us"] = ns / 1000;
  state.counters["GOPS"] = 2 * macs / ns;
  if (peak_of(isa) > 0) state.counters["%peak"] = 200 * macs / ns / peak_of(isa);
}

void gemm(benchmark::State& state, Isa isa, std::int64_t m, std::int64_t n, std::int64_t k) {
  const auto src = random_values<std::uint8_t>(m * k);
  const auto wei = random_values<std::int8_t>(n * k);
  const Values<std::uint8_t> dst(m * n);
  const PackedGemm packed = pack_gemm({.n = n, .k = k, .wei = wei.data(), .stride_k = n}, isa);
  const float multiplier = 1e-4F;
  const RequantizeTable table(std::span<const float>(&multiplier, 1), n, kGrid);
  const double ns = best_ns(state, [&] {
    qgemm(packed, {.src = src.data(), .ld_src = k, .dst = dst.data(), .ld_dst = n, .rows = m, .requantize = table.view()}, 0, m);
  });
  report(state, isa, static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k), ns);
}

void conv(benchmark::State& state, Isa isa, ConvShape shape, std::int64_t image) {
  const std::int64_t out = (image + 2 * shape.pad_top - shape.kernel_h) / shape.stride_h + 1;
  const auto src = random_values<std::uint8_t>(image * image * shape.in_channels);
  const std::int64_t weights = shape.out_channels * shape.in_channels / shape.groups * shape.kernel_h * shape.kernel_w;
  const auto wei = random_values<std::int8_t>(weights);
  const Values<std::uint8_t> dst(out * out * shape.out_channels);
  const float multiplier = 1e-4F;
  const bool depthwise = shape.groups == shape.in_channels && shape.groups > 1;
  const RequantizeTable table(std::span<const float>(&multiplier, 1), shape.out_channels, depthwise ? kReluGrid : kGrid);
  const ConvCall call{.src = src.data(),
                      .ld_src = shape.in_channels,
                      .dst = dst.data(),
                      .ld_dst = shape.out_channels,
                      .in_h = image,
                      .in_w = image,
                      .out_h = out,
                      .out_w = out,
                      .requantize = table.view()};
  double ns = 0;
  if (depthwise) {
    const PackedDepthwise packed = pack_depthwise(shape, {.wei = wei.data()}, isa, &call.requantize);
    const Values<std::byte> memory(depthwise_scratch_bytes(packed, image, out));
    const std::span<std::byte> scratch(memory.data(), static_cast<std::size_t>(depthwise_scratch_bytes(packed, image, out)));
    ns = best_ns(state, [&] { qconv_depthwise(packed, call, 0, out, scratch); });
  } else {
    const PackedConv packed = pack_conv(shape, {.wei = wei.data()}, isa);
    const Values<std::byte> memory(conv_scratch_bytes(packed));
    const std::span<std::byte> scratch(memory.data(), static_cast<std::size_t>(conv_scratch_bytes(packed)));
    ns = best_ns(state, [&] { qconv(packed, call, 0, out * out, scratch); });
  }
  report(state, isa, static_cast<double>(out * out * weights), ns);
}

template <typename Body>
void bytes(benchmark::State& state, std::int64_t n, Body body) {
  const double ns = best_ns(state, body);
  state.counters["us"] = ns / 1000;
  state.counters["elements/ns"] = static_cast<double>(n) / ns;
}

void register_all() {
  struct Gemm {
    std::int64_t m, n, k;
  };
  struct Conv {
    const char* name;
    ConvShape shape;
    std::int64_t image;
  };
  const Gemm gemms[] = {{128, 128, 128},  {512, 512, 512}, {12544, 64, 32},  {3136, 128, 128}, {196, 512, 512},
                        {49, 1024, 1024}, {1, 4096, 4096}, {16, 4096, 4096}, {3136, 24, 144},  {784, 192, 32}};
  const Conv convs[] = {
      {"first_224",
       {.in_channels = 3, .out_channels = 32, .kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .pad_top = 1, .pad_left = 1},
       224},
      {"first7_224",
       {.in_channels = 3, .out_channels = 64, .kernel_h = 7, .kernel_w = 7, .stride_h = 2, .stride_w = 2, .pad_top = 3, .pad_left = 3},
       224},
      {"3x3_56x64", {.in_channels = 64, .out_channels = 64, .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1}, 56},
      {"3x3_14x256", {.in_channels = 256, .out_channels = 256, .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1}, 14},
      {"3x3_7x512", {.in_channels = 512, .out_channels = 512, .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1}, 7},
      {"3x3_32x16", {.in_channels = 16, .out_channels = 16, .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1}, 32},
  };
  const Conv depthwise[] = {
      {"112x32", {.in_channels = 32, .kernel_h = 3, .kernel_w = 3}, 112},
      {"112x96s2", {.in_channels = 96, .kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2}, 112},
      {"56x144", {.in_channels = 144, .kernel_h = 3, .kernel_w = 3}, 56},
      {"56x144s2", {.in_channels = 144, .kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2}, 56},
      {"28x192", {.in_channels = 192, .kernel_h = 3, .kernel_w = 3}, 28},
      {"28x256s2", {.in_channels = 256, .kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2}, 28},
      {"112x64s2", {.in_channels = 64, .kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2}, 112},
      {"56x128", {.in_channels = 128, .kernel_h = 3, .kernel_w = 3}, 56},
      {"14x512", {.in_channels = 512, .kernel_h = 3, .kernel_w = 3}, 14},
      {"7x960", {.in_channels = 960, .kernel_h = 3, .kernel_w = 3}, 7},
      {"28x128k5", {.in_channels = 128, .kernel_h = 5, .kernel_w = 5}, 28},
  };
  for (const Isa isa : available_isas()) {
    const std::string end = std::string("/") + std::string(to_string(isa));
    for (const Gemm& g : gemms)
      benchmark::RegisterBenchmark(fmt::format("qgemm/{}x{}x{}{}", g.m, g.n, g.k, end).c_str(), gemm, isa, g.m, g.n, g.k)
          ->Unit(benchmark::kMicrosecond);
    for (const Conv& c : convs)
      benchmark::RegisterBenchmark(("qconv/" + std::string(c.name) + end).c_str(), conv, isa, c.shape, c.image)
          ->Unit(benchmark::kMicrosecond);
    for (Conv c : depthwise) {
      c.shape.out_channels = c.shape.groups = c.shape.in_channels;
      c.shape.pad_top = c.shape.pad_left = c.shape.kernel_h / 2;
      benchmark::RegisterBenchmark(("depthwise/" + std::string(c.name) + end).c_str(), conv, isa, c.shape, c.image)
          ->Unit(benchmark::kMicrosecond);
    }
    constexpr std::int64_t kN = 56 * 56 * 24;
    const auto a = std::make_shared<Values<std::uint8_t>>(kN);
    const auto dst = std::make_shared<Values<std::uint8_t>>(kN);
    const auto real = std::make_shared<std::vector<float>>(3 * 224 * 224, 0.7F);
    benchmark::RegisterBenchmark(("qadd/75264" + end).c_str(), [=](benchmark::State& state) {
      const auto adder = make_adder(RequantizeLaw::kFloat32, AddKind::kAdd, 0.047F, 10, 0.032F, 12, 0.055F, 7);
      bytes(state, kN, [&] {
        qadd(isa, *adder,
             {.a = a->data(), .ld_a = kN, .b = dst->data(), .ld_b = kN, .dst = dst->data(), .ld_dst = kN, .columns = kN, .grid = kGrid}, 0,
             1);
      });
    })->Unit(benchmark::kMicrosecond);
    benchmark::RegisterBenchmark(("lut/75264" + end).c_str(), [=](benchmark::State& state) {
      bytes(state, kN, [&] { lut(isa, a->data(), a->data(), dst->data(), kN); });
    })->Unit(benchmark::kMicrosecond);
    benchmark::RegisterBenchmark(("quantize_nchw/3x224x224" + end).c_str(), [=](benchmark::State& state) {
      std::vector<std::uint8_t> out(3 * 224 * 224);
      bytes(state, 3 * 224 * 224, [&] {
        quantize_nchw_to_nhwc(isa, {.scale = 0.018F, .zero_point = 114}, real->data(), 3, 224 * 224, out.data(), 3, 0, 224 * 224);
      });
    })->Unit(benchmark::kMicrosecond);
    benchmark::RegisterBenchmark(("global_average/7x7x1280" + end).c_str(), [=](benchmark::State& state) {
      std::vector<std::uint8_t> out(1280);
      const float multiplier = 0.02F;
      const RequantizeTable table(std::span<const float>(&multiplier, 1), 49, kGrid);
      const PoolCall call{.src = a->data(),
                          .ld_src = 1280,
                          .dst = out.data(),
                          .ld_dst = 1280,
                          .in_h = 7,
                          .in_w = 7,
                          .channels = 1280,
                          .kernel_h = 7,
                          .kernel_w = 7};
      bytes(state, 49 * 1280, [&] { qpool_average(isa, call, 0, PadCount::kExclude, table.view(), 0, 1); });
    })->Unit(benchmark::kMicrosecond);
    benchmark::RegisterBenchmark(("max_pool3s2/56x24" + end).c_str(), [=](benchmark::State& state) {
      std::vector<std::uint8_t> out(28 * 28 * 24);
      const PoolCall call{.src = a->data(),
                          .ld_src = 24,
                          .dst = out.data(),
                          .ld_dst = 24,
                          .in_h = 56,
                          .in_w = 56,
                          .out_h = 27,
                          .out_w = 27,
                          .channels = 24,
                          .kernel_h = 3,
                          .kernel_w = 3,
                          .stride_h = 2,
                          .stride_w = 2};
      bytes(state, kN, [&] { qpool_max(isa, call, 0, 255, 0, 27); });
    })->Unit(benchmark::kMicrosecond);
  }
}

}  // namespace
}  // namespace nibble::kernels

int main(int argc, char** argv) {
  using namespace nibble::kernels;
  for (const Isa isa : available_isas())
    if (isa >= Isa::kAvx2) fmt::print("peak of one core, {}: {:.0f} GOPS\n", to_string(isa), measured_peak(isa));
  register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
