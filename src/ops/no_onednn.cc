// Float without oneDNN, for applications that run integers: every call is declined, so the fixed-order loops do the work.
#include "ops/onednn.h"

namespace nibble::nn {

std::optional<Tensor> onednn_conv_nhwc(const EvalContext&, const ConvGeometry&, const FusedActivation&) { return std::nullopt; }

bool onednn_gemm(ThreadPool*, bool, bool, std::int64_t, std::int64_t, std::int64_t, float, const float*, const float*, float*) {
  return false;
}

std::optional<Tensor> onednn_unary(ThreadPool*, const Node&, const Tensor&) { return std::nullopt; }

OnednnThreads::OnednnThreads(int threads) : before_(threads) {}
OnednnThreads::~OnednnThreads() = default;

}  // namespace nibble::nn
