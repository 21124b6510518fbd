// Some output channels of a convolution, as a convolution of its own: few pixels are shared out by channels.
#include "kernels/qconv/qconv.h"
#include "kernels/qgemm/driver.h"

namespace nibble::kernels {
namespace {

PackedGemm columns_of(const PackedGemm& all, std::int64_t begin, std::int64_t end) {
  PackedGemm part = all;
  part.n = end - begin;
  part.wei += begin / kPanel * all.panel_bytes;
  part.bias += begin;
  part.raw_bias += begin;
  part.column_sums += begin;
  if (part.zero_points != nullptr) part.zero_points += begin;
  return part;
}

}  // namespace

std::int64_t conv_channel_step(const PackedConv& conv) {
  return conv.isa == Isa::kReference || conv.shape.groups != 1 ? conv.shape.out_channels : kPanel;
}

PackedConv conv_channels(const PackedConv& conv, std::int64_t begin, std::int64_t end) {
  PackedConv part = conv;
  if (begin == 0 && end == conv.shape.out_channels) return part;
  part.shape.out_channels = end - begin;
  part.groups = {columns_of(conv.groups[0], begin, end)};
  return part;
}

ConvCall conv_channels(const ConvCall& call, std::int64_t begin) {
  ConvCall part = call;
  if (call.dst_type == DstType::kInt32)
    part.dst = static_cast<std::int32_t*>(call.dst) + begin;
  else
    part.dst = static_cast<std::uint8_t*>(call.dst) + begin;
  part.requantize = from_channel(call.requantize, begin);
  if (part.residual.src != nullptr) part.residual.src += begin;
  return part;
}

}  // namespace nibble::kernels
