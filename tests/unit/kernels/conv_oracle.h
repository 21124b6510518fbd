// The convolution by its formula, written apart from the kernels' own references.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/qconv/qconv.h"

namespace nibble::kernels {

struct ConvCase {
  ConvShape shape;
  std::int64_t batch = 1, in_h = 1, in_w = 1, pad_bottom = 0, pad_right = 0;
  std::int64_t extra_src = 0, extra_dst = 0;
  int zero_points = 0;  // 0, 1 or one a channel (2)
  RequantizeLaw law = RequantizeLaw::kFloat32;

  std::int64_t out_h() const {
    return (in_h + shape.pad_top + pad_bottom - shape.dilation_h * (shape.kernel_h - 1) - 1) / shape.stride_h + 1;
  }
  std::int64_t out_w() const {
    return (in_w + shape.pad_left + pad_right - shape.dilation_w * (shape.kernel_w - 1) - 1) / shape.stride_w + 1;
  }
};

inline std::vector<std::int64_t> convolve(const ConvCase& c, const std::uint8_t* src, std::int64_t ld_src, const std::int8_t* wei,
                                          const std::vector<std::int32_t>& zw, const std::vector<std::int32_t>& bias, std::int64_t zx) {
  const ConvShape& s = c.shape;
  std::vector<std::int64_t> out;
  const std::int64_t gi = s.in_channels / s.groups, go = s.out_channels / s.groups;
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t y = 0; y < c.out_h(); ++y)
      for (std::int64_t x = 0; x < c.out_w(); ++x)
        for (std::int64_t o = 0; o < s.out_channels; ++o) {
          const std::int64_t z = zw.empty() ? 0 : zw[zw.size() == 1 ? 0 : static_cast<std::size_t>(o)];
          std::int64_t acc = bias.empty() ? 0 : bias[static_cast<std::size_t>(o)];
          for (std::int64_t i = 0; i < gi; ++i)
            for (std::int64_t kh = 0; kh < s.kernel_h; ++kh)
              for (std::int64_t kw = 0; kw < s.kernel_w; ++kw) {
                const std::int64_t ih = y * s.stride_h + kh * s.dilation_h - s.pad_top;
                const std::int64_t iw = x * s.stride_w + kw * s.dilation_w - s.pad_left;
                std::int64_t q = zx;
                if (ih >= 0 && ih < c.in_h && iw >= 0 && iw < c.in_w) q = src[((b * c.in_h + ih) * c.in_w + iw) * ld_src + o / go * gi + i];
                acc += (q - zx) * (wei[((o * gi + i) * s.kernel_h + kh) * s.kernel_w + kw] - z);
              }
          out.push_back(acc);
        }
  return out;
}

}  // namespace nibble::kernels
