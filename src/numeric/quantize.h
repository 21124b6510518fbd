// Real values to integers and back.
#pragma once

#include <cstdint>
#include <span>

#include "nibble/quant_params.h"

namespace nibble {

// q = clamp(rne(x / scale) + zero_point, qmin, qmax), the division in float32 (Eq. 1; ONNX QuantizeLinear). NaN gives qmin.
std::int32_t quantize(float x, float scale, std::int32_t zero_point, std::int64_t qmin, std::int64_t qmax);

// x' = (q - zero_point) scale in float32 (Eq. 2; ONNX DequantizeLinear).
float dequantize(std::int64_t q, float scale, std::int32_t zero_point);

// dequantize(quantize(x)) (Eq. 3).
float fake_quantize(float x, float scale, std::int32_t zero_point, std::int64_t qmin, std::int64_t qmax);

// Index into QuantParams::scale of element `flat` of a row-major tensor of `shape` (Eq. 4). Per block: the axis has ceil(size / block_size) blocks.
std::size_t scale_index(const QuantParams& params, std::span<const std::int64_t> shape, std::int64_t flat);
// Number of scales that `params.granularity` asks for on `shape`.
std::int64_t scale_count(const Granularity& granularity, std::span<const std::int64_t> shape);

// Whole tensors, any granularity. Sizes: element_count(shape).
void quantize(std::span<const float> x, std::span<const std::int64_t> shape, const QuantParams& params, std::span<std::int32_t> q);
void dequantize(std::span<const std::int32_t> q, std::span<const std::int64_t> shape, const QuantParams& params, std::span<float> x);
void fake_quantize(std::span<const float> x, std::span<const std::int64_t> shape, const QuantParams& params, std::span<float> out);

}  // namespace nibble
