// qconv() on tile registers, of what is no plain product. Internal to the room.
#pragma once

#include "kernels/qconv/qconv.h"

namespace nibble::kernels {

// A product of the image itself, unless it is padded at its end.
inline bool is_gemm(const ConvShape& s) {
  return s.kernel_h == 1 && s.kernel_w == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_top == 0 && s.pad_left == 0 && s.groups == 1;
}

// Whether tile registers are the faster way to this many output pixels.
bool amx_pays(const PackedConv& conv, std::int64_t pixels);
std::int64_t amx_scratch_bytes(const PackedConv& conv);
void qconv_amx(const PackedConv& conv, const ConvCall& call, std::int64_t begin, std::int64_t end, std::span<std::byte> scratch);

}  // namespace nibble::kernels
