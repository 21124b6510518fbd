#include "ops/ops_nn.h"

#include "ops/nn_common.h"

namespace nibble {

std::span<const OpDef* const> nn_ops() {
  static constexpr const OpDef* kTable[] = {
      &nn::kConv,
      &nn::kConvTranspose,
      &nn::kConvInteger,
      &nn::kQLinearConv,
      &nn::kMatMul,
      &nn::kGemm,
      &nn::kMatMulInteger,
      &nn::kQLinearMatMul,
      &nn::kQuantizeLinear,
      &nn::kDequantizeLinear,
      &nn::kDynamicQuantizeLinear,
      &nn::kMaxPool,
      &nn::kAveragePool,
      &nn::kLpPool,
      &nn::kGlobalMaxPool,
      &nn::kGlobalAveragePool,
      &nn::kGlobalLpPool,
      &nn::kMaxUnpool,
      &nn::kBatchNormalization,
      &nn::kInstanceNormalization,
      &nn::kLayerNormalization,
      &nn::kGroupNormalization,
      &nn::kMeanVarianceNormalization,
      &nn::kLpNormalization,
      &nn::kLrn,
      &nn::kSoftmax,
      &nn::kLogSoftmax,
      &nn::kHardmax,
      &nn::kResize,
      &nn::kUpsample,
      &nn::kGridSample,
      &nn::kRoiAlign,
      &nn::kDepthToSpace,
      &nn::kSpaceToDepth,
      &nn::kDropout,
      &nn::kNonMaxSuppression,
  };
  return kTable;
}

}  // namespace nibble
