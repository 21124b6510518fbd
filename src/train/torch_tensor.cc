#include "train/torch_tensor.h"

#include <torch/torch.h>

#include <cstring>

#include "base/fail.h"

namespace nibble::train {

torch::Tensor to_torch(const Tensor& tensor, torch::Dtype dtype) {
  const bool is_double = tensor.type() == DataType::kFloat64;
  if (!is_double && tensor.type() != DataType::kFloat32)
    fail(ErrorCode::kUnsupported, "training computes in float32 and float64, not in {}", to_string(tensor.type()));
  torch::Tensor result = torch::empty(tensor.shape(), is_double ? torch::kFloat64 : torch::kFloat32);
  if (tensor.size() > 0) std::memcpy(result.data_ptr(), tensor.bytes(), tensor.size_bytes());
  return result.to(dtype);
}

Tensor from_torch(const torch::Tensor& tensor, DataType type) {
  const torch::Tensor plain = tensor.detach().to(type == DataType::kFloat64 ? torch::kFloat64 : torch::kFloat32).contiguous();
  Tensor result(type, Shape(plain.sizes().begin(), plain.sizes().end()));
  if (result.size() > 0) std::memcpy(result.mutable_bytes(), plain.data_ptr(), result.size_bytes());
  return result;
}

}  // namespace nibble::train
