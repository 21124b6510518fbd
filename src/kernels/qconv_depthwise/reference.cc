#include "kernels/qconv_depthwise/select.h"

namespace nibble::kernels {

void depthwise_reference(const PackedDepthwise& conv, const ConvCall& call, std::int64_t row_begin, std::int64_t row_end) {
  const ConvShape& s = conv.shape;
  const std::int32_t zx = call.dynamic_zero_point ? call.src_zero_point : conv.src_zero_point;
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const std::int64_t oh = row % call.out_h;
    const std::int64_t b = row / call.out_h;
    for (std::int64_t ow = 0; ow < call.out_w; ++ow)
      for (std::int64_t c = 0; c < s.in_channels; ++c) {
        const std::int32_t zw = conv.zero_points != nullptr ? conv.zero_points[c] : 0;
        std::int64_t acc = conv.raw_bias[c];
        for (std::int64_t kh = 0; kh < s.kernel_h; ++kh)
          for (std::int64_t kw = 0; kw < s.kernel_w; ++kw) {
            const std::int64_t ih = oh * s.stride_h + kh * s.dilation_h - s.pad_top;
            const std::int64_t iw = ow * s.stride_w + kw * s.dilation_w - s.pad_left;
            if (ih < 0 || ih >= call.in_h || iw < 0 || iw >= call.in_w) continue;
            const std::int64_t x = call.src[((b * call.in_h + ih) * call.in_w + iw) * call.ld_src + c];
            acc += (x - zx) * (conv.plain[(c * s.kernel_h + kh) * s.kernel_w + kw] - zw);
          }
        const auto acc32 = static_cast<std::int32_t>(acc);
        const std::int64_t at = (row * call.out_w + ow) * call.ld_dst + c;
        if (call.dst_type == DstType::kInt32)
          static_cast<std::int32_t*>(call.dst)[at] = acc32;
        else
          static_cast<std::uint8_t*>(call.dst)[at] = requantize_one(call.requantize, acc32, c);
      }
  }
}

}  // namespace nibble::kernels
