#include "numeric/quantize.h"

#include <algorithm>

#include "numeric/rounding.h"

namespace nibble {
namespace {

// The walk over a tensor in runs that share one scale: calls run(first, last, scale index).
template <typename Run>
void for_each_run(const QuantParams& params, std::span<const std::int64_t> shape, std::int64_t size, Run run) {
  if (params.per_tensor()) {
    run(std::int64_t{0}, size, std::size_t{0});
    return;
  }
  std::int64_t axis = 0;
  if (const auto* c = std::get_if<PerChannel>(&params.granularity)) axis = c->axis;
  if (const auto* b = std::get_if<PerBlock>(&params.granularity)) axis = b->axis;
  std::int64_t inner = 1;
  for (auto i = static_cast<std::size_t>(axis) + 1; i < shape.size(); ++i) inner *= shape[i];
  for (std::int64_t first = 0; first < size; first += inner) run(first, first + inner, scale_index(params, shape, first));
}

}  // namespace

std::int32_t quantize(float x, float scale, std::int32_t zero_point, std::int64_t qmin, std::int64_t qmax) {
  const auto lo = static_cast<float>(qmin - zero_point);
  const auto hi = static_cast<float>(qmax - zero_point);
  // The clamp comes before the zero point, on floats: the same integers, and nothing overflows. A NaN fails both comparisons' first form.
  const float v = rne(x / scale);
  const float clamped = v > lo ? (v < hi ? v : hi) : lo;
  return static_cast<std::int32_t>(clamped) + zero_point;
}

float dequantize(std::int64_t q, float scale, std::int32_t zero_point) { return static_cast<float>(q - zero_point) * scale; }

float fake_quantize(float x, float scale, std::int32_t zero_point, std::int64_t qmin, std::int64_t qmax) {
  return dequantize(quantize(x, scale, zero_point, qmin, qmax), scale, zero_point);
}

std::size_t scale_index(const QuantParams& params, std::span<const std::int64_t> shape, std::int64_t flat) {
  if (params.per_tensor()) return 0;
  std::int64_t axis = 0;
  std::int64_t block = 1;
  const bool blocked = std::holds_alternative<PerBlock>(params.granularity);
  if (const auto* c = std::get_if<PerChannel>(&params.granularity)) axis = c->axis;
  if (const auto* b = std::get_if<PerBlock>(&params.granularity)) {
    axis = b->axis;
    block = b->block_size;
  }
  std::int64_t inner = 1;
  for (auto i = static_cast<std::size_t>(axis) + 1; i < shape.size(); ++i) inner *= shape[i];
  const std::int64_t extent = shape[static_cast<std::size_t>(axis)];
  const std::int64_t along = flat / inner % extent;
  if (!blocked) return static_cast<std::size_t>(along);
  const std::int64_t blocks = (extent + block - 1) / block;
  const std::int64_t outer = flat / inner / extent;
  return static_cast<std::size_t>((outer * blocks + along / block) * inner + flat % inner);
}

std::int64_t scale_count(const Granularity& granularity, std::span<const std::int64_t> shape) {
  if (std::holds_alternative<PerTensor>(granularity)) return 1;
  if (const auto* c = std::get_if<PerChannel>(&granularity)) return shape[static_cast<std::size_t>(c->axis)];
  const auto& b = std::get<PerBlock>(granularity);
  std::int64_t count = 1;
  for (std::size_t i = 0; i < shape.size(); ++i)
    count *= static_cast<std::int64_t>(i) == b.axis ? (shape[i] + b.block_size - 1) / b.block_size : shape[i];
  return count;
}

namespace {

// Per block the scale changes within the innermost run, so ask for every element there.
template <typename One>
void for_each_element(const QuantParams& params, std::span<const std::int64_t> shape, std::size_t size, One one) {
  if (std::holds_alternative<PerBlock>(params.granularity)) {
    for (std::size_t i = 0; i < size; ++i) one(i, scale_index(params, shape, static_cast<std::int64_t>(i)));
    return;
  }
  for_each_run(params, shape, static_cast<std::int64_t>(size), [&](std::int64_t first, std::int64_t last, std::size_t s) {
    for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i) one(i, s);
  });
}

}  // namespace

void quantize(std::span<const float> x, std::span<const std::int64_t> shape, const QuantParams& params, std::span<std::int32_t> q) {
  const std::int64_t qmin = params.qmin();
  const std::int64_t qmax = params.qmax();
  for_each_element(params, shape, x.size(), [&](std::size_t i, std::size_t s) {
    q[i] = quantize(x[i], params.scale[s], params.zero_point[s], qmin, qmax);
  });
}

void dequantize(std::span<const std::int32_t> q, std::span<const std::int64_t> shape, const QuantParams& params, std::span<float> x) {
  for_each_element(params, shape, q.size(), [&](std::size_t i, std::size_t s) { x[i] = dequantize(q[i], params.scale[s], params.zero_point[s]); });
}

void fake_quantize(std::span<const float> x, std::span<const std::int64_t> shape, const QuantParams& params, std::span<float> out) {
  const std::int64_t qmin = params.qmin();
  const std::int64_t qmax = params.qmax();
  for_each_element(params, shape, x.size(), [&](std::size_t i, std::size_t s) {
    out[i] = fake_quantize(x[i], params.scale[s], params.zero_point[s], qmin, qmax);
  });
}

}  // namespace nibble
