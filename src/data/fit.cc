#include "data/fit.h"

#include <cmath>
#include <limits>

#include "base/fail.h"
#include "tensor/dispatch.h"

namespace nibble {
namespace {

bool shape_fits(const Shape& shape, const TensorType& type) {
  if (shape.size() != type.dims.size()) return false;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (type.dims[i].known() && type.dims[i].size != shape[i]) return false;
  }
  return true;
}

// The shape with the batch axis that a file of one sample leaves out, if that is what the input takes.
bool add_batch_axis(Shape& shape, const TensorType& type) {
  if (shape.size() + 1 != type.dims.size()) return false;
  Shape longer{1};
  longer.insert(longer.end(), shape.begin(), shape.end());
  if (!shape_fits(longer, type)) return false;
  shape = std::move(longer);
  return true;
}

// One grey image as [1, 784], [1, 28, 28], [1, 28, 28, 1] ...: all the same numbers in the same order.
bool regroup_gray(Shape& shape, const TensorType& type) {
  if (shape.size() != 4 || (shape[1] != 1 && shape[3] != 1) || type.dims.size() < 2) return false;
  Shape wanted{1};
  for (std::size_t i = 1; i < type.dims.size(); ++i) {
    if (!type.dims[i].known()) return false;
    wanted.push_back(type.dims[i].size);
  }
  if (!shape_fits(wanted, type) || element_count(wanted) != element_count(shape)) return false;
  // The image's sides must stay sides, or be flattened together; a transposed or otherwise cut image is an error.
  Shape sides;
  for (std::size_t i = 1; i < wanted.size(); ++i) {
    if (wanted[i] != 1) sides.push_back(wanted[i]);
  }
  Shape image;
  for (std::size_t i = 1; i < shape.size(); ++i) {
    if (shape[i] != 1) image.push_back(shape[i]);
  }
  if (sides != image && sides.size() > 1) return false;
  shape = std::move(wanted);
  return true;
}

template <typename From, typename To>
Tensor convert_checked(const Tensor& tensor, DataType type, ValueKind kind, const std::string& origin) {
  Tensor result(type, tensor.shape());
  const auto in = tensor.data<From>();
  auto out = result.mutable_data<To>();
  for (std::size_t i = 0; i < in.size(); ++i) {
    if constexpr (std::is_floating_point_v<From>) {
      double value = static_cast<double>(in[i]);
      if (kind == ValueKind::kImage) value = std::nearbyint(value);
      // 2^digits is exact as a double where the largest value itself may not be.
      const double past = std::ldexp(1.0, std::numeric_limits<To>::digits);
      const double least = std::is_signed_v<To> ? -past : 0.0;
      if (!(value >= least && value < past) || value != std::floor(value))
        fail(ErrorCode::kInvalidData, "{}: element {} is {}, but the network's input takes {} values", origin, i, value, to_string(type));
      out[i] = static_cast<To>(value);
    } else {
      if (!std::in_range<To>(in[i]))
        fail(ErrorCode::kInvalidData, "{}: element {} is {}, but the network's input takes {} values", origin, i, in[i], to_string(type));
      out[i] = static_cast<To>(in[i]);
    }
  }
  return result;
}

template <typename To>
Tensor convert_to_integer(const Tensor& tensor, DataType type, ValueKind kind, const std::string& origin) {
  const bool half = tensor.type() == DataType::kFloat16 || tensor.type() == DataType::kBFloat16;
  const Tensor wide = half ? cast(tensor, DataType::kFloat32) : tensor;
  return dispatch(wide.type(), [&]<typename From>() -> Tensor {
    if constexpr (std::is_same_v<From, bool>) {
      return cast(wide, type);
    } else {
      return convert_checked<From, To>(wide, type, kind, origin);
    }
  });
}

}  // namespace

Tensor convert_elements(const Tensor& tensor, DataType type, ValueKind kind, const std::string& origin) {
  if (type == DataType::kUndefined || tensor.type() == type) return tensor;
  if (!is_integer(type) || type == DataType::kInt4 || type == DataType::kUInt4) return cast(tensor, type);
  return dispatch(type, [&]<typename To>() -> Tensor {
    if constexpr (std::is_integral_v<To> && !std::is_same_v<To, bool>) {
      return convert_to_integer<To>(tensor, type, kind, origin);
    } else {
      return cast(tensor, type);
    }
  });
}

Tensor fit_input(const Tensor& tensor, const InputSpec& spec, ValueKind kind, const std::string& origin) {
  Shape shape = tensor.shape();
  if (spec.type.has_rank && !shape_fits(shape, spec.type) && !add_batch_axis(shape, spec.type) &&
      !(kind == ValueKind::kImage && regroup_gray(shape, spec.type))) {
    fail(ErrorCode::kInvalidData, "{}: {} {}, but the network's input '{}' takes {}{}", origin,
         kind == ValueKind::kImage ? "the preprocessed image is" : "the array is", to_string(shape), spec.name, to_string(spec.type),
         kind == ValueKind::kImage ? "; correct the size, layout or channel_order in the recipe" : "");
  }
  const Tensor converted = convert_elements(tensor, spec.type.dtype, kind, origin);
  return shape == converted.shape() ? converted : converted.reshaped(std::move(shape));
}

InputSpec single_input(const std::vector<InputSpec>& inputs, const std::string& what, const std::string& origin) {
  if (inputs.empty()) return {};
  if (inputs.size() > 1) {
    std::string names;
    for (const InputSpec& input : inputs) names += fmt::format("{}'{}'", names.empty() ? "" : ", ", input.name);
    fail(ErrorCode::kInvalidArgument,
         "{}: {} can fill one input, but the network has {} ({}); give an .npz with an array for each, or an ONNX test_data_set folder",
         origin, what, inputs.size(), names);
  }
  return inputs.front();
}

}  // namespace nibble
