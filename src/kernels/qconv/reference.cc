#include "kernels/qconv/reference.h"

namespace nibble::kernels {

void qconv_reference(const PackedConv& conv, const ConvCall& call, std::int64_t begin, std::int64_t end) {
  const ConvShape& s = conv.shape;
  const std::int64_t group_in = s.in_channels / s.groups;
  const std::int64_t group_out = s.out_channels / s.groups;
  const std::int32_t zx = call.dynamic_zero_point ? call.src_zero_point : conv.src_zero_point;
  for (std::int64_t pixel = begin; pixel < end; ++pixel) {
    const std::int64_t ow = pixel % call.out_w;
    const std::int64_t oh = pixel / call.out_w % call.out_h;
    const std::int64_t b = pixel / call.out_w / call.out_h;
    for (std::int64_t o = 0; o < s.out_channels; ++o) {
      const std::int64_t g = o / group_out;
      const PackedGemm& group = conv.groups[static_cast<std::size_t>(g)];
      const std::int32_t zw = group.zero_points != nullptr ? group.zero_points[o % group_out] : 0;
      std::int64_t acc = group.raw_bias[o % group_out];
      for (std::int64_t kh = 0; kh < s.kernel_h; ++kh)
        for (std::int64_t kw = 0; kw < s.kernel_w; ++kw) {
          const std::int64_t ih = oh * s.stride_h + kh * s.dilation_h - s.pad_top;
          const std::int64_t iw = ow * s.stride_w + kw * s.dilation_w - s.pad_left;
          if (ih < 0 || ih >= call.in_h || iw < 0 || iw >= call.in_w) continue;
          const std::uint8_t* src = call.src + ((b * call.in_h + ih) * call.in_w + iw) * call.ld_src + g * group_in;
          for (std::int64_t i = 0; i < group_in; ++i) {
            const std::int64_t w = conv.plain[static_cast<std::size_t>(((o * group_in + i) * s.kernel_h + kh) * s.kernel_w + kw)];
            acc += (static_cast<std::int64_t>(src[i]) - zx) * (w - zw);
          }
        }
      const auto acc32 = static_cast<std::int32_t>(acc);
      if (call.dst_type == DstType::kInt32)
        static_cast<std::int32_t*>(call.dst)[pixel * call.ld_dst + o] = acc32;
      else
        static_cast<std::uint8_t*>(call.dst)[pixel * call.ld_dst + o] = finish_one(call.requantize, call.residual, acc32, pixel, o);
    }
  }
}

}  // namespace nibble::kernels
