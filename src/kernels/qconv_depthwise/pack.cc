// Packing for the row kernels. A block of `width` channels holds, for each column kw, each group of four rows and each quarter j of the
// lanes' sixteen channels, one vector: lane l, channel 16 l + 4 j + c, tap t. That is the order in which unpacking four rows of bytes
// leaves them. int8: [kw][group][4 j][width/16 l][4 c][4 t]; AVX2, int16: [kw][group][4 j][2 h][width/16 l][4 c][2], h = t % 2 (see
// qgemm/pack.cc).

#include <algorithm>
#include <cstring>

#include "base/aligned_buffer.h"
#include "kernels/qconv_depthwise/order.h"
#include "kernels/qconv_depthwise/select.h"
#include "kernels/requantize/fused.h"

namespace nibble::kernels {
namespace {

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

// Fills conv.fused from `memory`, three arrays of ordered_channels(), if every channel has a fused form.
void fuse(PackedDepthwise& conv, const Requantize& r, std::int32_t* memory) {
  if (r.multiplier == nullptr || !has_bands(conv)) return;
  const std::int64_t channels = conv.shape.in_channels;
  const std::int64_t taps = conv.shape.kernel_h * conv.shape.kernel_w;
  const std::int32_t low = r.qmin - r.zero_point;
  const std::int32_t high = r.qmax - r.zero_point;
  std::vector<std::int32_t> bias(static_cast<std::size_t>(channels));
  std::vector<float> multiplier(bias.size()), offset(bias.size());
  for (std::int64_t c = 0; c < channels; ++c) {
    const auto i = static_cast<std::size_t>(c);
    // Outside of the image the input is zx, which is one of 0..255 too.
    std::int64_t acc_min = conv.bias[c];
    std::int64_t acc_max = conv.bias[c];
    for (std::int64_t t = 0; t < taps; ++t) {
      const std::int64_t w = conv.plain[c * taps + t];
      acc_min += std::min<std::int64_t>(255 * w, 0);
      acc_max += std::max<std::int64_t>(255 * w, 0);
    }
    constexpr std::int64_t kInt32 = std::int64_t{1} << 31;
    if (acc_min < -kInt32 || acc_max >= kInt32) return;
    multiplier[i] = r.multiplier[c];
    const std::int32_t least = requantize_one(r, acc_min, c);
    if (least == requantize_one(r, acc_max, c)) {  // nothing but this integer: from any float
      bias[i] = static_cast<std::int32_t>(0x4b000000 - (acc_min - conv.bias[c]));
      multiplier[i] = 0;
      offset[i] = static_cast<float>(least - r.zero_point);
      continue;
    }
    const auto fused = fuse_float32(multiplier[i], acc_min, acc_max, low, high);
    if (!fused) return;
    bias[i] = conv.bias[c] + fused->start;
    offset[i] = fused->offset;
  }
  const std::int64_t total = ordered_channels(conv.blocks);
  auto* const multipliers = reinterpret_cast<float*>(memory + total);
  put_in_order(conv, bias.data(), memory);
  put_in_order(conv, multiplier.data(), multipliers);
  put_in_order(conv, offset.data(), multipliers + total);
  conv.fused = {.requantize = r, .bias = memory, .multiplier = multipliers, .offset = multipliers + total};
}

}  // namespace

PackedDepthwise pack_depthwise(const ConvShape& shape, const ConvWeights& w, Isa isa, const Requantize* requantize) {
  PackedDepthwise conv;
  conv.isa = vector_isa(isa);
  conv.shape = shape;
  conv.row_groups = (shape.kernel_h + 3) / 4;
  conv.src_zero_point = w.src_zero_point;
  const std::int64_t channels = shape.in_channels;
  const std::int64_t taps = shape.kernel_h * shape.kernel_w;
  const std::int64_t padded = round_up(channels + kChannelSlack, 16);
  const std::vector<DepthwiseBlock> blocks = depthwise_blocks(conv.isa, channels);
  const std::int64_t element = conv.isa == Isa::kAvx2 ? 2 : 1;
  const std::int64_t per_channel = shape.kernel_w * conv.row_groups * 4 * element;
  std::int64_t wei_bytes = round_up(channels * taps, 64);
  for (const DepthwiseBlock& block : blocks) wei_bytes += block.width * per_channel;
  const std::int64_t constants = ordered_channels(blocks);
  conv.bytes = wei_bytes + (4 * padded + 3 * constants) * static_cast<std::int64_t>(sizeof(std::int32_t));
  const std::shared_ptr<std::byte> memory = allocate_aligned(conv.bytes);
  std::memset(memory.get(), 0, static_cast<std::size_t>(conv.bytes));
  conv.memory = memory;

  auto* const plain = reinterpret_cast<std::int8_t*>(memory.get());
  for (std::int64_t i = 0; i < channels * taps; ++i) plain[i] = static_cast<std::int8_t>(static_cast<std::uint8_t>(w.wei[i]) ^ w.flip);
  conv.plain = plain;

  std::byte* out = memory.get() + round_up(channels * taps, 64);
  for (const DepthwiseBlock& block : blocks) {
    conv.blocks.push_back({block.first, block.width, out});
    for (std::int64_t channel = 0; channel < block.width; ++channel)
      for (std::int64_t kh = 0; kh < shape.kernel_h; ++kh)
        for (std::int64_t kw = 0; kw < shape.kernel_w; ++kw) {
          const std::int8_t value = plain[((block.first + channel) * shape.kernel_h + kh) * shape.kernel_w + kw];
          const std::int64_t lanes = block.width / 16;
          const std::int64_t l = channel / 16, j = channel % 16 / 4, c = channel % 4, t = kh % 4;
          const std::int64_t vector = (kw * conv.row_groups + kh / 4) * 4 + j;
          if (element == 1)
            reinterpret_cast<std::int8_t*>(out)[((vector * lanes + l) * 4 + c) * 4 + t] = value;
          else
            reinterpret_cast<std::int16_t*>(out)[(((vector * 2 + t % 2) * lanes + l) * 4 + c) * 2 + t / 2] = value;
        }
    out += block.width * per_channel;
  }

  auto* const bias = reinterpret_cast<std::int32_t*>(memory.get() + wei_bytes);
  std::int32_t* const raw_bias = bias + padded;
  std::int32_t* const sums = raw_bias + padded;
  std::int32_t* const zero_points = sums + padded;
  bool affine = false;
  for (std::int64_t c = 0; c < channels; ++c) {
    const auto i = static_cast<std::size_t>(c);
    raw_bias[c] = i < w.bias.size() ? w.bias[i] : 0;
    zero_points[c] = w.zero_points.empty() ? 0 : w.zero_points[w.zero_points.size() == 1 ? 0 : i];
    affine = affine || zero_points[c] != 0;
    for (std::int64_t t = 0; t < taps; ++t) sums[c] += plain[c * taps + t] - zero_points[c];
    bias[c] = static_cast<std::int32_t>(static_cast<std::uint32_t>(raw_bias[c]) -
                                        static_cast<std::uint32_t>(w.src_zero_point) * static_cast<std::uint32_t>(sums[c]));
  }
  conv.bias = bias;
  conv.raw_bias = raw_bias;
  conv.tap_sums = sums;
  conv.zero_points = affine ? zero_points : nullptr;
  if (requantize != nullptr) fuse(conv, *requantize, zero_points + padded);
  return conv;
}

}  // namespace nibble::kernels
