// The same products in oneDNN: uint8 by int8, a bias, one output scale a channel.
#pragma once

#include <functional>
#include <string>

#include "kernels/qconv/qconv.h"

namespace nibble::kernels {

struct PeerKernel {
  std::string name;           // as oneDNN says: "brg:avx512_core_vnni"
  std::function<void()> run;  // empty where oneDNN declines
};

// oneDNN uses nothing wider than `isa` from here on, and so many threads. To be called before anything else of it; false if it is too late.
bool limit_onednn(Isa isa, int threads);

// src [m, k], wei [k, n].
PeerKernel onednn_gemm(std::int64_t m, std::int64_t n, std::int64_t k, DstType dst);

struct ImageSizes {
  std::int64_t in_h, in_w, out_h, out_w;
};
// One image, NHWC.
PeerKernel onednn_conv(const ConvShape& conv, const ImageSizes& sizes, DstType dst);

}  // namespace nibble::kernels
