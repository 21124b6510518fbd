// nibble's kernels and oneDNN's on the same shapes, one thread: in every round the peak loop, nibble and oneDNN run in turn, so that a
// change of the machine's speed meets them all alike; figures are medians over the rounds, ratios are medians of the rounds' ratios. Pin
// it:
//
//   taskset -c 0 nibble_micro                      a table of the best instruction set, oneDNN held to the same one
//   taskset -c 0 nibble_micro --isa avxvnni --filter "dw" --seconds 1 --json
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "cases.h"
#include "kernels/peak/peak.h"
#include "kernels/qconv_depthwise/qconv_depthwise.h"
#include "nibble/error.h"
#include "onednn.h"

namespace nibble::kernels {
namespace {

using Clock = std::chrono::steady_clock;

constexpr OutputGrid kGrid{.zero_point = 3, .qmin = 0, .qmax = 255};

struct Case {
  std::string name;
  std::string kernel;
  double macs = 0;
  std::int64_t streamed_bytes = 0;  // weights that are read once: the case is measured against the bandwidth
  std::function<void(DstType)> ours;
  PeerKernel theirs_u8, theirs_s32;
};

Case gemm_case(Isa isa, const GemmCase& g) {
  const Values<std::uint8_t> src(g.m * g.k);
  const Values<std::int8_t> wei(g.n * g.k);
  const Values<std::int32_t> dst(g.m * g.n);
  const PackedGemm packed = pack_gemm({.n = g.n, .k = g.k, .wei = wei.data(), .stride_k = g.n}, isa);
  const std::vector<float> multipliers(static_cast<std::size_t>(g.n), 1e-4F);
  const RequantizeTable table(multipliers, g.n, kGrid);
  return {.name = fmt::format("{}x{}x{}", g.m, g.n, g.k),
          .kernel = gemm_kernel_name(isa, g.m, g.n, g.k),
          .macs = static_cast<double>(g.m * g.n * g.k),
          .streamed_bytes = g.m == 1 ? g.n * g.k : 0,
          .ours =
              [=](DstType type) {
                qgemm(packed,
                      {.src = src.data(),
                       .ld_src = g.k,
                       .dst = dst.data(),
                       .ld_dst = g.n,
                       .rows = g.m,
                       .dst_type = type,
                       .requantize = table.view()},
                      0, g.m);
              },
          .theirs_u8 = onednn_gemm(g.m, g.n, g.k, DstType::kUint8),
          .theirs_s32 = onednn_gemm(g.m, g.n, g.k, DstType::kInt32)};
}

Case conv_case(Isa isa, const ConvCase& c) {
  const ConvShape shape = c.shape();
  const std::int64_t out = c.out_image();
  const ImageSizes sizes{.in_h = c.image, .in_w = c.image, .out_h = out, .out_w = out};
  const Values<std::uint8_t> src(c.image * c.image * c.in);
  const Values<std::int8_t> wei(c.out * c.in / c.groups * c.kernel * c.kernel);
  const Values<std::int32_t> dst(out * out * c.out);
  const std::vector<float> multipliers(static_cast<std::size_t>(c.out), 1e-4F);
  const RequantizeTable table(multipliers, c.out, kGrid);
  const ConvCall call{.src = src.data(),
                      .ld_src = c.in,
                      .dst = dst.data(),
                      .ld_dst = c.out,
                      .in_h = c.image,
                      .in_w = c.image,
                      .out_h = out,
                      .out_w = out,
                      .requantize = table.view()};
  Case result{.name = c.name,
              .kernel = {},
              .macs = static_cast<double>(c.macs()),
              .ours = {},
              .theirs_u8 = onednn_conv(shape, sizes, DstType::kUint8),
              .theirs_s32 = onednn_conv(shape, sizes, DstType::kInt32)};
  // The lambdas own what `call` points to.
  if (c.groups > 1) {
    const PackedDepthwise packed = pack_depthwise(shape, {.wei = wei.data()}, isa, &call.requantize);
    const std::int64_t bytes = depthwise_scratch_bytes(packed, c.image, out);
    const Values<std::byte> memory(bytes);
    result.kernel = depthwise_kernel_name(packed);
    result.ours = [=, keep = std::make_tuple(src, dst, table)](DstType type) {
      ConvCall typed = call;
      typed.dst_type = type;
      qconv_depthwise(packed, typed, 0, out, {memory.data(), static_cast<std::size_t>(bytes)});
    };
  } else {
    const PackedConv packed = pack_conv(shape, {.wei = wei.data()}, isa);
    const std::int64_t bytes = conv_scratch_bytes(packed);
    const Values<std::byte> memory(bytes);
    result.kernel = conv_kernel_name(packed, out * out);
    result.ours = [=, keep = std::make_tuple(src, dst, table)](DstType type) {
      ConvCall typed = call;
      typed.dst_type = type;
      qconv(packed, typed, 0, out * out, {memory.data(), static_cast<std::size_t>(bytes)});
    };
  }
  return result;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Nanoseconds of one `run`, over as many as fill about 200 us.
class Timed {
 public:
  explicit Timed(std::function<void()> run) : run_(std::move(run)) {
    run_();
    const double once = time(1);
    repeats_ = std::clamp<std::int64_t>(static_cast<std::int64_t>(200e3 / std::max(once, 1.0)), 1, 1000);
    time(repeats_);
  }
  // With `warm`, once untimed first: what ran before has driven this one's data out of the near caches.
  double operator()(bool warm) {
    if (warm) run_();
    times_.push_back(time(repeats_) / static_cast<double>(repeats_));
    return times_.back();
  }
  double median_ns() const { return median(times_); }
  const std::vector<double>& times() const { return times_; }

 private:
  double time(std::int64_t count) {
    const auto start = Clock::now();
    for (std::int64_t i = 0; i < count; ++i) run_();
    return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
  }
  std::function<void()> run_;
  std::int64_t repeats_ = 1;
  std::vector<double> times_;
};

double ratio(const Timed& a, const Timed& b) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < a.times().size(); ++i) ratios.push_back(a.times()[i] / b.times()[i]);
  return median(ratios);
}

struct Figures {
  std::string name, kernel, peer;
  double u8_gops = 0, s32_gops = 0;
  double u8_peak = 0, s32_peak = 0;                             // percent of the peak
  std::optional<double> bandwidth_percent = {}, read_gbs = {};  // of one row times a matrix
  std::optional<double> peer_u8_gops = {}, peer_s32_gops = {}, u8_ratio = {},
                        s32_ratio = {};  // ratio: oneDNN's time by ours; above 1 we are faster
};

// One round: the peak, then each in turn.
Figures measure(Isa isa, const Case& c, double seconds) {
  constexpr std::int64_t kPeakRounds = 10000;
  std::int64_t peak_macs = 0;
  Timed peak([&] { peak_macs = run_peak_loop(isa, kPeakRounds); });
  Timed u8([&] { c.ours(DstType::kUint8); }), s32([&] { c.ours(DstType::kInt32); });
  std::optional<Timed> peer_u8, peer_s32, read;
  if (c.theirs_u8.run) peer_u8.emplace(c.theirs_u8.run);
  if (c.theirs_s32.run) peer_s32.emplace(c.theirs_s32.run);
  const Values<std::byte> buffer(c.streamed_bytes > 0 ? c.streamed_bytes : 1);
  volatile std::uint64_t sink = 0;
  if (c.streamed_bytes > 0)
    read.emplace([&] { sink = sink ^ read_all(available_isas().back(), {buffer.data(), static_cast<std::size_t>(c.streamed_bytes)}); });
  constexpr int kMinRounds = 9;
  const auto start = Clock::now();
  for (int round = 0; round < kMinRounds || Clock::now() - start < std::chrono::duration<double>(seconds); ++round) {
    const bool warm = c.streamed_bytes > 0;
    peak(warm);
    u8(warm);
    if (peer_u8) (*peer_u8)(warm);
    if (read) (*read)(warm);
    s32(warm);
    if (peer_s32) (*peer_s32)(warm);
  }
  const auto gops = [&](const Timed& t) { return 2 * c.macs / t.median_ns(); };
  const auto of_peak = [&](const Timed& t) { return peak_macs == 0 ? 0 : 100 * c.macs / static_cast<double>(peak_macs) / ratio(t, peak); };
  Figures f{.name = c.name,
            .kernel = c.kernel,
            .peer = c.theirs_u8.name,
            .u8_gops = gops(u8),
            .s32_gops = gops(s32),
            .u8_peak = of_peak(u8),
            .s32_peak = of_peak(s32)};
  if (peer_u8) f.peer_u8_gops = gops(*peer_u8), f.u8_ratio = ratio(*peer_u8, u8);
  if (peer_s32) f.peer_s32_gops = gops(*peer_s32), f.s32_ratio = ratio(*peer_s32, s32);
  if (read) f.read_gbs = static_cast<double>(c.streamed_bytes) / read->median_ns(), f.bandwidth_percent = 100 * ratio(*read, u8);
  return f;
}

std::string cell(const std::optional<double>& value, int digits = 0) { return value ? fmt::format("{:.{}f}", *value, digits) : "-"; }

void print_text(const std::vector<Figures>& all) {
  fmt::print("{:<26} {:>6} {:>7} {:>6} {:>7} | {:>10} {:>6} {:>10} {:>6}  {}\n", "shape", "u8", "% peak", "s32", "% peak", "oneDNN u8",
             "ratio", "oneDNN s32", "ratio", "kernel (oneDNN's)");
  for (const Figures& f : all) {
    fmt::print("{:<26} {:>6.0f} {:>7.1f} {:>6.0f} {:>7.1f} | {:>10} {:>6} {:>10} {:>6}  {} ({})\n", f.name, f.u8_gops, f.u8_peak,
               f.s32_gops, f.s32_peak, cell(f.peer_u8_gops), cell(f.u8_ratio, 2), cell(f.peer_s32_gops), cell(f.s32_ratio, 2), f.kernel,
               f.peer.empty() ? "declines" : f.peer);
    if (f.bandwidth_percent)
      fmt::print("{:<26} {:.1f} % of the read bandwidth of a buffer as large as the matrix, {:.1f} GB/s\n", "", *f.bandwidth_percent,
                 *f.read_gbs);
  }
}

void print_json(Isa isa, double peak, const std::vector<Figures>& all) {
  nlohmann::ordered_json json{{"isa", to_string(isa)}, {"peak_gops", peak}, {"cases", nlohmann::ordered_json::array()}};
  const auto number = [](const std::optional<double>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
  };
  for (const Figures& f : all)
    json["cases"].push_back({{"shape", f.name},
                             {"kernel", f.kernel},
                             {"u8_gops", f.u8_gops},
                             {"u8_peak_percent", f.u8_peak},
                             {"s32_gops", f.s32_gops},
                             {"s32_peak_percent", f.s32_peak},
                             {"onednn", f.peer},
                             {"onednn_u8_gops", number(f.peer_u8_gops)},
                             {"onednn_s32_gops", number(f.peer_s32_gops)},
                             {"u8_times_onednn", number(f.u8_ratio)},
                             {"s32_times_onednn", number(f.s32_ratio)},
                             {"read_gbs", number(f.read_gbs)},
                             {"read_bandwidth_percent", number(f.bandwidth_percent)}});
  std::cout << json.dump(2) << '\n';
}

int run(int argc, char** argv) {
  CLI::App app(
      "nibble's kernels beside oneDNN's, one thread. GOPS (two operations a multiply-add), percent of the peak of the dot-product "
      "instruction; ratio above 1: nibble is faster");
  std::string isa_name, filter;
  double seconds = 0.25;
  bool json = false;
  app.add_option("--isa", isa_name, "instruction set, for oneDNN too [the best]");
  app.add_option("--filter", filter, "only shapes whose name holds this");
  app.add_option("--seconds", seconds, "of each shape")->capture_default_str();
  app.add_flag("--json", json, "one JSON object");
  CLI11_PARSE(app, argc, argv);
  Isa isa = best_isa();
  if (!isa_name.empty()) {
    const auto available = available_isas();
    const auto found = std::find_if(available.begin(), available.end(), [&](Isa each) { return to_string(each) == isa_name; });
    if (found == available.end()) {
      fmt::print(stderr, "error: --isa {}: this processor has", isa_name);
      for (const Isa each : available) fmt::print(stderr, " {}", to_string(each));
      fmt::print(stderr, "\n");
      return 2;
    }
    isa = *found;
  }
  if (!limit_onednn(isa, 1)) fmt::print(stderr, "note: oneDNN could not be held to {}\n", to_string(isa));
  const double peak = measured_peak(isa);
  if (!json) fmt::print("{}, peak of one core {:.0f} GOPS; GOPS are medians\n", to_string(isa), peak);
  std::vector<Figures> all;
  const auto add = [&](const std::string& name, auto make) {
    if (name.find(filter) != std::string::npos) all.push_back(measure(isa, make(), seconds));
  };
  for (const GemmCase& g : kGemmCases) add(fmt::format("{}x{}x{}", g.m, g.n, g.k), [&] { return gemm_case(isa, g); });
  for (const ConvCase& c : kConvCases) add(c.name, [&] { return conv_case(isa, c); });
  for (const ConvCase& c : kDepthwiseCases) add(c.name, [&] { return conv_case(isa, c); });
  if (json)
    print_json(isa, peak, all);
  else
    print_text(all);
  return 0;
}

}  // namespace
}  // namespace nibble::kernels

int main(int argc, char** argv) {
  try {
    return nibble::kernels::run(argc, argv);
  } catch (const nibble::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
