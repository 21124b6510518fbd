// The driver: pointers to the rows under a row of output, then the kernel of each block of channels.
#include "kernels/qconv_depthwise/qconv_depthwise.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/kernel_name.h"
#include "kernels/qconv_depthwise/order.h"
#include "kernels/qconv_depthwise/select.h"

namespace nibble::kernels {
namespace {

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

std::int64_t bias_bytes(const PackedDepthwise& conv) {
  return round_up((conv.shape.in_channels + kChannelSlack) * static_cast<std::int64_t>(sizeof(std::int32_t)), 64);
}

Requantize from_channel(Requantize r, std::int64_t channel) {
  if (r.multiplier != nullptr) r.multiplier += channel;
  if (r.m0 != nullptr) {
    r.m0 += channel;
    r.shift += channel;
  }
  return r;
}

// --- 3x3: two rows of outputs at a time
// ----------------------------------------------------------------------------------------------------

bool same(const Requantize& a, const Requantize& b) {
  return a.multiplier == b.multiplier && a.zero_point == b.zero_point && a.qmin == b.qmin && a.qmax == b.qmax;
}

struct Rows {
  std::int64_t begin, end;  // of batch x out_h
};

// scratch: biases in the vectors' order, then that of the kernels.
void run_bands(const PackedDepthwise& conv, const ConvCall& call, const std::int32_t* bias, std::int32_t zx, Rows range,
               std::span<std::byte> scratch) {
  const ConvShape& s = conv.shape;
  const bool bytes = call.dst_type == DstType::kUint8;
  const bool fused = bytes && conv.fused.bias != nullptr && !call.dynamic_zero_point && same(conv.fused.requantize, call.requantize);
  auto* const biases = reinterpret_cast<std::int32_t*>(scratch.data());
  if (!fused) put_in_order(conv, bias, biases);
  alignas(64) std::array<std::uint8_t, 64> zeros;
  zeros.fill(static_cast<std::uint8_t>(zx));
  std::array<const std::uint8_t*, band_rows(kBandPairs, 2)> rows;
  std::array<std::int64_t, band_rows(kBandPairs, 2)> steps;

  DepthwiseBand band;
  band.rows = rows.data();
  band.steps = steps.data();
  band.zeros = zeros.data();
  band.pad_left = s.pad_left;
  band.in_w = call.in_w;
  band.out_w = call.out_w;
  band.ld_dst = call.ld_dst;
  band.scratch = scratch.data() + round_up(ordered_channels(conv.blocks) * static_cast<std::int64_t>(sizeof(std::int32_t)), 64);
  // As many pairs as a kernel does at a time: their inputs stay in the first-level cache for all of a block's work.
  const std::int64_t pairs = std::clamp<std::int64_t>(band_vectors(s.stride_w) / std::max<std::int64_t>(call.out_w, 1), 1, kBandPairs);
  for (std::int64_t r = range.begin; r < range.end;) {
    const std::int64_t oh = r % call.out_h;
    const std::int64_t count = std::min({2 * pairs, range.end - r, call.out_h - oh});
    band.pairs = (count + 1) / 2;
    band.last_is_single = count % 2 != 0;
    for (std::int64_t i = 0; i < band_rows(band.pairs, s.stride_h); ++i) {
      const std::int64_t ih = oh * s.stride_h - s.pad_top + i;
      // Of a row that is not there no tap counts, but the kernels read as if it did.
      const bool inside = ih >= 0 && ih < call.in_h;
      const auto at = static_cast<std::size_t>(i);
      rows[at] = inside ? call.src + (r / call.out_h * call.in_h + ih) * call.in_w * call.ld_src : zeros.data();
      steps[at] = inside ? call.ld_src : 0;
    }
    std::int64_t done = 0;  // constants of the blocks so far
    for (const PackedDepthwise::Block& block : conv.blocks) {
      band.first = block.first;
      band.wei = block.wei;
      band.bias = (fused ? conv.fused.bias : biases) + done;
      if (fused) {
        band.multiplier = conv.fused.multiplier + done;
        band.offset = conv.fused.offset + done;
      }
      done += block.width;
      band.requantize = from_channel(call.requantize, block.first);
      if (bytes)
        band.dst = static_cast<std::uint8_t*>(call.dst) + r * call.out_w * call.ld_dst;
      else
        band.acc = static_cast<std::int32_t*>(call.dst) + r * call.out_w * call.ld_dst;
      depthwise_band_fn(conv.isa, block.width, s.stride_w)(band);
    }
    r += count;
  }
}

}  // namespace

std::int64_t depthwise_scratch_bytes(const PackedDepthwise& conv, std::int64_t /*in_w*/, std::int64_t /*out_w*/) {
  if (conv.blocks.empty()) return 0;
  const std::int64_t rows = conv.row_groups * 4;
  return bias_bytes(conv) + ordered_channels(conv.blocks) * static_cast<std::int64_t>(sizeof(std::int32_t) + sizeof(float)) +
         round_up(rows * static_cast<std::int64_t>(2 * sizeof(void*) + sizeof(std::int64_t)), 64) + kBandScratch;
}

void qconv_depthwise(const PackedDepthwise& conv, const ConvCall& call, std::int64_t row_begin, std::int64_t row_end,
                     std::span<std::byte> scratch) {
  if (conv.blocks.empty()) {
    depthwise_reference(conv, call, row_begin, row_end);
    return;
  }
  const ConvShape& s = conv.shape;
  const std::int32_t zx = call.dynamic_zero_point ? call.src_zero_point : conv.src_zero_point;
  const std::int32_t* bias = conv.bias;
  if (call.dynamic_zero_point) {
    auto* const folded = reinterpret_cast<std::int32_t*>(scratch.data());
    for (std::int64_t c = 0; c < s.in_channels; ++c)
      folded[c] = static_cast<std::int32_t>(static_cast<std::uint32_t>(conv.raw_bias[c]) -
                                            static_cast<std::uint32_t>(zx) * static_cast<std::uint32_t>(conv.tap_sums[c]));
    bias = folded;
  }
  if (has_bands(conv))
    return run_bands(conv, call, bias, zx, {row_begin, row_end}, scratch.subspan(static_cast<std::size_t>(bias_bytes(conv))));
  const std::int64_t total = ordered_channels(conv.blocks);
  auto* const biases = reinterpret_cast<std::int32_t*>(scratch.data() + bias_bytes(conv));
  auto* const multipliers = reinterpret_cast<float*>(biases + total);
  put_in_order(conv, bias, biases);
  const bool float32 = call.dst_type == DstType::kUint8 && call.requantize.multiplier != nullptr;
  if (float32) put_in_order(conv, call.requantize.multiplier, multipliers);
  const std::int64_t count = conv.row_groups * 4;
  auto** const rows = reinterpret_cast<const std::uint8_t**>(multipliers + total);  // at the image's channel 0
  const std::uint8_t** const block_rows = rows + count;
  auto* const steps = reinterpret_cast<std::int64_t*>(block_rows + count);
  alignas(64) std::array<std::uint8_t, 64> zeros;
  zeros.fill(static_cast<std::uint8_t>(zx));

  DepthwiseRow row{.rows = block_rows,
                   .steps = steps,
                   .zeros = zeros.data(),
                   .row_groups = conv.row_groups,
                   .kernel_h = s.kernel_h,
                   .kernel_w = s.kernel_w,
                   .stride_w = s.stride_w,
                   .dilation_w = s.dilation_w,
                   .pad_left = s.pad_left,
                   .in_w = call.in_w,
                   .out_w = call.out_w,
                   .requantize = {},
                   .ld_dst = call.ld_dst};
  for (std::int64_t r = row_begin; r < row_end; ++r) {
    const std::int64_t oh = r % call.out_h;
    const std::int64_t b = r / call.out_h;
    for (std::int64_t kh = 0; kh < count; ++kh) {
      const std::int64_t ih = oh * s.stride_h + kh * s.dilation_h - s.pad_top;
      const bool inside = kh < s.kernel_h && ih >= 0 && ih < call.in_h;
      rows[kh] = inside ? call.src + (b * call.in_h + ih) * call.in_w * call.ld_src : nullptr;
      steps[kh] = inside ? call.ld_src : 0;
    }
    std::int64_t done = 0;  // constants of the blocks so far
    for (const PackedDepthwise::Block& block : conv.blocks) {
      for (std::int64_t kh = 0; kh < count; ++kh) block_rows[kh] = rows[kh] != nullptr ? rows[kh] + block.first : zeros.data();
      row.wei = block.wei;
      row.bias = biases + done;
      row.multiplier = float32 ? multipliers + done : nullptr;
      done += block.width;
      row.zero_points = conv.zero_points == nullptr ? nullptr : conv.zero_points + block.first;
      row.requantize = from_channel(call.requantize, block.first);
      const std::int64_t offset = r * call.out_w * call.ld_dst + block.first;
      if (call.dst_type == DstType::kInt32)
        row.acc = static_cast<std::int32_t*>(call.dst) + offset;
      else
        row.dst = static_cast<std::uint8_t*>(call.dst) + offset;
      depthwise_row_fn(conv.isa, block.width)(row);
    }
  }
}

std::string depthwise_kernel_name(const PackedDepthwise& conv) {
  if (conv.blocks.empty()) return kernel_name("qconv_depthwise", "u8s8s32", 1, 1, 1, Isa::kReference);
  const int width = static_cast<int>(conv.blocks.front().width);
  if (has_bands(conv))
    return kernel_name(conv.shape.stride_w == 1 ? "qconv_depthwise_3x3s1" : "qconv_depthwise_3x3s2", "u8s8s32", 2, width,
                       conv.isa == Isa::kAvx2 ? 2 : 4, conv.isa);
  return kernel_name("qconv_depthwise", "u8s8s32", conv.isa == Isa::kAvx512Vnni ? 4 : 2, width, conv.isa == Isa::kAvx2 ? 2 : 4, conv.isa);
}

}  // namespace nibble::kernels
