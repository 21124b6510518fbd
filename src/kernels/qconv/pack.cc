#include <algorithm>
#include <vector>

#include "kernels/qconv/qconv.h"

namespace nibble::kernels {
namespace {

// Up to this many channels whose number is no multiple of four, output pixels are gathered into rows: taps of C bytes would waste much of
// the groups of four, and their pointers cost more than a copy of the bytes.
constexpr std::int64_t kGatherChannels = 15;

}  // namespace

PackedConv pack_conv(const ConvShape& shape, const ConvWeights& w, Isa isa) {
  PackedConv conv{.isa = isa, .shape = shape, .groups = {}, .src_zero_point = w.src_zero_point, .plain = {}};
  const std::int64_t group_in = shape.in_channels / shape.groups;
  const std::int64_t group_out = shape.out_channels / shape.groups;
  const std::int64_t taps = shape.kernel_h * shape.kernel_w;
  conv.gathered = shape.groups == 1 && taps > 1 && shape.in_channels % 4 != 0 && group_in <= kGatherChannels;
  conv.taps = conv.gathered ? 1 : taps;
  conv.run = conv.gathered ? taps * group_in : group_in;
  const std::int64_t padded_run = (conv.run + 3) / 4 * 4;
  const bool reference = isa == Isa::kReference;

  // One group at a time as a matrix [taps x padded run][O/G]; what pads a run is 0, and stays out of the sums that fold zero points (see
  // below).
  std::vector<std::int8_t> matrix(static_cast<std::size_t>(conv.taps * padded_run * group_out));
  for (std::int64_t g = 0; g < shape.groups; ++g) {
    std::fill(matrix.begin(), matrix.end(), std::int8_t{0});
    for (std::int64_t o = 0; o < group_out; ++o)
      for (std::int64_t i = 0; i < group_in; ++i)
        for (std::int64_t t = 0; t < taps; ++t) {
          const auto raw = static_cast<std::uint8_t>(w.wei[((g * group_out + o) * group_in + i) * taps + t]);
          const auto value = static_cast<std::int8_t>(raw ^ w.flip);
          const std::int64_t row = t * (conv.gathered ? group_in : padded_run) + i;
          matrix[static_cast<std::size_t>(row * group_out + o)] = value;
        }
    const auto part = [&](std::span<const std::int32_t> all) {
      return all.size() <= 1 ? all : all.subspan(static_cast<std::size_t>(g * group_out), static_cast<std::size_t>(group_out));
    };
    const GemmWeights weights{
        .n = group_out,
        .k = conv.taps * padded_run,
        .wei = matrix.data(),
        .stride_k = group_out,
        .stride_n = 1,
        .flip = 0,
        .zero_points = part(w.zero_points),
        .bias = w.bias.empty() ? w.bias : w.bias.subspan(static_cast<std::size_t>(g * group_out), static_cast<std::size_t>(group_out)),
        .src_zero_point = w.src_zero_point,
        .counted_k = conv.taps * conv.run};
    conv.groups.push_back(pack_gemm(weights, isa));
    conv.bytes += conv.groups.back().bytes;
  }
  if (reference) {
    conv.plain.resize(static_cast<std::size_t>(shape.out_channels * group_in * taps));
    for (std::size_t i = 0; i < conv.plain.size(); ++i)
      conv.plain[i] = static_cast<std::int8_t>(static_cast<std::uint8_t>(w.wei[i]) ^ w.flip);
  }
  return conv;
}

}  // namespace nibble::kernels
