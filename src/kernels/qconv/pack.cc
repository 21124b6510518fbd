#include <algorithm>
#include <vector>

#include "kernels/qconv/qconv.h"
#include "kernels/qgemm/tile.h"

namespace nibble::kernels {
namespace {

// Up to this many channels whose number is no multiple of four, output pixels are gathered into rows: taps of C bytes would waste much of
// the groups of four, and their pointers cost more than a copy of the bytes.
constexpr std::int64_t kGatherChannels = 15;

// How many groups are packed as one, as many as fill a panel: weights between them are 0 (or rather their zero point), which costs no more
// dot-products than the empty columns would, and loads and requantizes once.
std::int64_t joined_groups(const ConvShape& shape) {
  const std::int64_t group_out = shape.out_channels / shape.groups;
  std::int64_t joined = std::clamp<std::int64_t>(kPanel / std::max<std::int64_t>(group_out, 1), 1, shape.groups);
  while (shape.groups % joined != 0) --joined;
  return joined;
}

}  // namespace

PackedConv pack_conv(const ConvShape& shape, const ConvWeights& w, Isa isa) {
  PackedConv conv{.isa = isa, .shape = shape, .groups = {}, .src_zero_point = w.src_zero_point, .plain = {}};
  const bool reference = isa == Isa::kReference;
  const std::int64_t joined = reference ? 1 : joined_groups(shape);
  const std::int64_t group_in = shape.in_channels / shape.groups;
  const std::int64_t group_out = shape.out_channels / shape.groups;
  const std::int64_t in = joined * group_in;
  const std::int64_t out = joined * group_out;
  const std::int64_t taps = shape.kernel_h * shape.kernel_w;
  conv.gathered = joined == shape.groups && taps > 1 && in % 4 != 0 && in <= kGatherChannels;
  conv.taps = conv.gathered ? 1 : taps;
  conv.run = conv.gathered ? taps * in : in;
  const std::int64_t padded_run = (conv.run + 3) / 4 * 4;
  const std::int64_t tap_rows = conv.gathered ? in : padded_run;

  // One set of groups at a time as a matrix [taps x padded run][out]; what pads a run is 0, and stays out of the sums that fold zero
  // points.
  std::vector<std::int8_t> matrix(static_cast<std::size_t>(conv.taps * padded_run * out));
  for (std::int64_t first = 0; first < shape.out_channels; first += out) {
    const auto part = [&](std::span<const std::int32_t> all) {
      return all.size() <= 1 ? all : all.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(out));
    };
    const std::span<const std::int32_t> zero_points = part(w.zero_points);
    std::fill(matrix.begin(), matrix.end(), std::int8_t{0});
    for (std::int64_t o = 0; o < out; ++o)
      for (std::int64_t i = 0; i < in; ++i)
        for (std::int64_t t = 0; t < taps; ++t) {
          std::int8_t& value = matrix[static_cast<std::size_t>((t * tap_rows + i) * out + o)];
          if (i / group_in == o / group_out)
            value = static_cast<std::int8_t>(static_cast<std::uint8_t>(w.wei[((first + o) * group_in + i % group_in) * taps + t]) ^ w.flip);
          else if (!zero_points.empty())
            value = static_cast<std::int8_t>(zero_points[zero_points.size() == 1 ? 0 : static_cast<std::size_t>(o)]);
        }
    const GemmWeights weights{
        .n = out,
        .k = conv.taps * padded_run,
        .wei = matrix.data(),
        .stride_k = out,
        .stride_n = 1,
        .flip = 0,
        .zero_points = zero_points,
        .bias = w.bias.empty() ? w.bias : w.bias.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(out)),
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
