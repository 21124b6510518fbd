// The same products in oneDNN, one thread: uint8 by int8, a bias, one output scale a channel.
#pragma once

#include <functional>
#include <string>

#include "cases.h"

namespace nibble::kernels {

struct PeerKernel {
  std::string name;           // as oneDNN says: "brg:avx512_core_vnni"
  std::function<void()> run;  // empty where oneDNN declines
};

// oneDNN uses nothing wider than `isa` from here on. To be called before anything else of it; false if it is too late.
bool limit_onednn(Isa isa);

PeerKernel onednn_gemm(const GemmCase& gemm, DstType dst);
PeerKernel onednn_conv(const ConvCase& conv, DstType dst);

}  // namespace nibble::kernels
