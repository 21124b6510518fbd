// Resize and Upsample. Every mode is separable: along one axis, each output position is a weighted sum of a few input positions (its taps),
// so a resize is one pass an axis that changes. Coordinates are computed in float32, as ONNX Runtime does, so that ties fall alike.
#include <algorithm>
#include <cmath>
#include <optional>

#include "ops/nn_common.h"
#include "tensor/dispatch.h"

namespace nibble::nn {
namespace {

enum class Mode { kNearest, kLinear, kCubic };
enum class Coordinates {
  kHalfPixel,
  kHalfPixelSymmetric,
  kPytorchHalfPixel,
  kAlignCorners,
  kAsymmetric,
  kTfHalfPixelForNn,
  kTfCropAndResize
};
enum class Nearest { kRoundPreferFloor, kRoundPreferCeil, kFloor, kCeil, kSimple };

template <typename Enum, std::size_t N>
Enum parse(const Node& node, std::string_view attribute, std::string_view fallback, const std::pair<std::string_view, Enum> (&table)[N]) {
  const std::string text = node.get_string(attribute, fallback);
  std::string known;
  for (const auto& [name, value] : table) {
    if (name == text) return value;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  fail_node(node, "attribute '{}' is '{}', expected one of {}", attribute, text, known);
}

struct ResizePlan {
  Mode mode = Mode::kNearest;
  Coordinates coordinates = Coordinates::kHalfPixel;
  Nearest nearest = Nearest::kRoundPreferFloor;
  float cubic_a = -0.75F;
  float extrapolation = 0.0F;
  bool exclude_outside = false;
  bool antialias = false;
  bool sized = false;  // sizes were given, not scales
  // By axis of the tensor.
  Shape out;
  std::vector<float> scale, roi_start, roi_end;
};

void read_modes(const Node& node, int opset, bool upsample, ResizePlan& plan) {
  plan.mode = parse<Mode>(node, "mode", "nearest",
                          {{"nearest", Mode::kNearest}, {"linear", Mode::kLinear}, {"bilinear", Mode::kLinear}, {"cubic", Mode::kCubic}});
  if (upsample || opset < 11) {
    plan.coordinates = Coordinates::kAsymmetric;
    plan.nearest = Nearest::kSimple;
    return;
  }
  plan.coordinates = parse<Coordinates>(node, "coordinate_transformation_mode", "half_pixel",
                                        {{"half_pixel", Coordinates::kHalfPixel},
                                         {"half_pixel_symmetric", Coordinates::kHalfPixelSymmetric},
                                         {"pytorch_half_pixel", Coordinates::kPytorchHalfPixel},
                                         {"align_corners", Coordinates::kAlignCorners},
                                         {"asymmetric", Coordinates::kAsymmetric},
                                         {"tf_half_pixel_for_nn", Coordinates::kTfHalfPixelForNn},
                                         {"tf_crop_and_resize", Coordinates::kTfCropAndResize}});
  plan.nearest = parse<Nearest>(node, "nearest_mode", "round_prefer_floor",
                                {{"round_prefer_floor", Nearest::kRoundPreferFloor},
                                 {"round_prefer_ceil", Nearest::kRoundPreferCeil},
                                 {"floor", Nearest::kFloor},
                                 {"ceil", Nearest::kCeil}});
  plan.cubic_a = node.get_float("cubic_coeff_a", -0.75F);
  plan.extrapolation = node.get_float("extrapolation_value", 0.0F);
  plan.exclude_outside = node.get_int("exclude_outside", 0) != 0;
  plan.antialias = node.get_int("antialias", 0) != 0;
}

constexpr std::int64_t kMaxSize = std::int64_t{1} << 31;

std::int64_t scaled_size(const Node& node, std::int64_t in, float scale) {
  const float size = std::floor(static_cast<float>(in) * scale);
  if (!(size >= 0.0F) || size > static_cast<float>(kMaxSize)) fail_node(node, "an axis of {} scaled by {} has no usable size", in, scale);
  return static_cast<std::int64_t>(size);
}

// What the inputs of any version mean. nullopt: not known yet (inference without constants).
struct ResizeInputs {
  std::vector<float> scales;
  std::vector<std::int64_t> sizes;
  std::vector<float> roi;
};

std::vector<float> to_floats(const Tensor& tensor) {
  const Tensor wide = cast(tensor, DataType::kFloat32);
  const auto data = wide.data<float>();
  return {data.begin(), data.end()};
}

// `tensor(i)` gives input i or nullptr; `present(i)` says whether the node has it at all.
template <typename TensorAt, typename Present>
std::optional<ResizeInputs> read_inputs(const Node& node, int opset, bool upsample, const TensorAt& tensor, const Present& present) {
  ResizeInputs result;
  if (upsample && opset < 9) {
    const auto scales = node.get_floats("scales");
    if (!scales) fail_node(node, "attribute 'scales' is missing");
    result.scales = *scales;
    return result;
  }
  const std::size_t scales = upsample || opset < 11 ? 1 : 2;
  if (present(scales)) {
    if (tensor(scales) == nullptr) return std::nullopt;
    result.scales = to_floats(*tensor(scales));
  }
  if (scales == 2) {
    if (present(3)) {
      if (tensor(3) == nullptr) return std::nullopt;
      result.sizes = to_int64s(*tensor(3));
    }
    if (present(1) && node.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize") {
      if (tensor(1) == nullptr) return std::nullopt;
      result.roi = to_floats(*tensor(1));
    }
  }
  if (result.scales.empty() == result.sizes.empty()) fail_node(node, "exactly one of scales and sizes must be given");
  return result;
}

void plan_sizes(const Node& node, const Shape& in, const ResizeInputs& inputs, ResizePlan& plan) {
  const auto rank = std::ssize(in);
  std::vector<std::int64_t> axes;
  if (const auto list = node.get_ints("axes"); list && !list->empty()) {
    for (const std::int64_t axis : *list) axes.push_back(checked_axis(node, axis, rank));
  } else {
    for (std::int64_t d = 0; d < rank; ++d) axes.push_back(d);
  }
  const auto check = [&](std::size_t found, std::size_t factor, std::string_view what) {
    if (found != axes.size() * factor) fail_node(node, "{} has {} entries, expected {}", what, found, axes.size() * factor);
  };
  plan.out = in;
  plan.scale.assign(in.size(), 1.0F);
  plan.roi_start.assign(in.size(), 0.0F);
  plan.roi_end.assign(in.size(), 1.0F);
  if (!inputs.roi.empty()) {
    check(inputs.roi.size(), 2, "roi");
    for (std::size_t i = 0; i < axes.size(); ++i) {
      plan.roi_start[at(axes[i])] = inputs.roi[i];
      plan.roi_end[at(axes[i])] = inputs.roi[i + axes.size()];
    }
  }
  if (!inputs.scales.empty()) {
    check(inputs.scales.size(), 1, "scales");
    for (std::size_t i = 0; i < axes.size(); ++i) {
      const std::size_t d = at(axes[i]);
      const float scale = inputs.scales[i];
      if (!(scale > 0.0F) || !std::isfinite(scale)) fail_node(node, "a scale is {}, expected above 0", scale);
      plan.scale[d] = scale;
      const float part = plan.coordinates == Coordinates::kTfCropAndResize ? plan.roi_end[d] - plan.roi_start[d] : 1.0F;
      plan.out[d] = part == 1.0F ? scaled_size(node, in[d], scale) : scaled_size(node, in[d], part * scale);
    }
    return;
  }
  check(inputs.sizes.size(), 1, "sizes");
  plan.sized = true;
  const std::string policy = node.get_string("keep_aspect_ratio_policy", "stretch");
  std::optional<float> common;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t d = at(axes[i]);
    const std::int64_t size = inputs.sizes[i];
    if (size < 0 || size > kMaxSize) fail_node(node, "a size is {}, expected 0 or more", size);
    if (in[d] == 0 && size != 0) fail_node(node, "an axis of size 0 cannot become {}", size);
    plan.out[d] = size;
    plan.scale[d] = in[d] == 0 ? 1.0F : static_cast<float>(size) / static_cast<float>(in[d]);
    if (!common)
      common = plan.scale[d];
    else
      common = policy == "not_larger" ? std::min(*common, plan.scale[d]) : std::max(*common, plan.scale[d]);
  }
  if (policy == "stretch") return;
  if (policy != "not_larger" && policy != "not_smaller")
    fail_node(node, "keep_aspect_ratio_policy is '{}', expected stretch, not_larger or not_smaller", policy);
  for (const std::int64_t axis : axes) {
    const std::size_t d = at(axis);
    plan.scale[d] = common.value_or(1.0F);
    plan.out[d] = scaled_size(node, 1, std::floor(plan.scale[d] * static_cast<float>(in[d]) + 0.5F));
  }
}

// --- one axis ---

struct Tap {
  std::int64_t index = 0;
  float weight = 1.0F;
};
struct AxisTaps {
  std::int64_t in = 0, out = 0;
  std::vector<Tap> taps;            // of all outputs
  std::vector<std::int64_t> first;  // out + 1 offsets into taps
  std::vector<bool> outside;        // tf_crop_and_resize: gets the extrapolation value
};

float original_coordinate(const ResizePlan& plan, std::size_t d, std::int64_t in, std::int64_t o) {
  const float x = static_cast<float>(o), scale = plan.scale[d], length = static_cast<float>(in), resized = static_cast<float>(plan.out[d]);
  switch (plan.coordinates) {
    case Coordinates::kHalfPixel: return (x + 0.5F) / scale - 0.5F;
    case Coordinates::kHalfPixelSymmetric: {
      const float adjustment = resized / (scale * length);
      return length / 2.0F * (1.0F - adjustment) + (x + 0.5F) / scale - 0.5F;
    }
    case Coordinates::kPytorchHalfPixel: return plan.out[d] > 1 ? (x + 0.5F) / scale - 0.5F : 0.0F;
    case Coordinates::kAlignCorners: {
      // By ONNX's reference the resized length is scale * length before it is rounded down, where scales are given.
      const float unrounded = plan.sized ? resized : scale * length;
      return plan.out[d] == 1 || unrounded == 1.0F ? 0.0F : x * (length - 1.0F) / (unrounded - 1.0F);
    }
    case Coordinates::kAsymmetric: return x / scale;
    case Coordinates::kTfHalfPixelForNn: return (x + 0.5F) / scale;
    case Coordinates::kTfCropAndResize: {
      const float start = plan.roi_start[d], end = plan.roi_end[d];
      return plan.out[d] > 1 ? start * (length - 1.0F) + x * (end - start) * (length - 1.0F) / (resized - 1.0F)
                             : 0.5F * (start + end) * (length - 1.0F);
    }
  }
  return 0.0F;
}

std::int64_t nearest_index(Nearest mode, float x, float scale) {
  switch (mode) {
    case Nearest::kRoundPreferFloor: return static_cast<std::int64_t>(std::ceil(x - 0.5F));
    case Nearest::kRoundPreferCeil: return static_cast<std::int64_t>(std::floor(x + 0.5F));
    case Nearest::kFloor: return static_cast<std::int64_t>(std::floor(x));
    case Nearest::kCeil: return static_cast<std::int64_t>(std::ceil(x));
    case Nearest::kSimple: return static_cast<std::int64_t>(scale < 1.0F ? std::ceil(x) : std::floor(x));
  }
  return 0;
}

float cubic_weight(float distance, float a) {
  const float x = std::abs(distance);
  if (x <= 1.0F) return ((a + 2.0F) * x - (a + 3.0F)) * x * x + 1.0F;
  if (x < 2.0F) return ((a * x - 5.0F * a) * x + 8.0F * a) * x - 4.0F * a;
  return 0.0F;
}

// Taps around x: base + start ... Downscaling with antialias stretches the filter by 1 / scale.
void add_filter_taps(const ResizePlan& plan, float x, float scale, std::int64_t in, std::vector<Tap>& taps) {
  const float stretch = plan.antialias ? std::min(scale, 1.0F) : 1.0F;
  const float base = std::floor(x), ratio = x - base;
  const auto reach = plan.mode == Mode::kLinear ? 1.0F : 2.0F;
  const auto start = static_cast<std::int64_t>(std::floor(-reach / stretch)) + 1;
  const std::int64_t end = 1 - start;
  const std::size_t first = taps.size();
  double sum = 0.0;
  for (std::int64_t i = start; i <= end; ++i) {
    const float distance = (static_cast<float>(i) - ratio) * stretch;
    float weight = plan.mode == Mode::kLinear ? std::max(1.0F - std::abs(distance), 0.0F) : cubic_weight(distance, plan.cubic_a);
    const std::int64_t index = static_cast<std::int64_t>(base) + i;
    if (plan.exclude_outside && (index < 0 || index >= in)) weight = 0.0F;
    sum += static_cast<double>(weight);
    taps.push_back({std::clamp<std::int64_t>(index, 0, in - 1), weight});
  }
  const bool normalise = (plan.antialias && scale < 1.0F) || plan.exclude_outside;
  if (normalise && sum != 0.0) {
    for (std::size_t t = first; t < taps.size(); ++t) taps[t].weight = static_cast<float>(static_cast<double>(taps[t].weight) / sum);
  }
  std::erase_if(taps, [n = std::size_t{0}, first](const Tap& tap) mutable { return n++ >= first && tap.weight == 0.0F; });
  if (taps.size() == first) taps.push_back({std::clamp<std::int64_t>(static_cast<std::int64_t>(base), 0, in - 1), 1.0F});
}

AxisTaps axis_taps(const ResizePlan& plan, std::size_t d, std::int64_t in) {
  AxisTaps axis{.in = in, .out = plan.out[d], .taps = {}, .first = {0}, .outside = {}};
  axis.outside.resize(at(axis.out), false);
  for (std::int64_t o = 0; o < axis.out; ++o) {
    const float x = original_coordinate(plan, d, in, o);
    if (plan.coordinates == Coordinates::kTfCropAndResize) axis.outside[at(o)] = !(x >= 0.0F && x <= static_cast<float>(in - 1));
    // An absurd scale or roi must not become an absurd index.
    const float bounded = std::isfinite(x) ? std::clamp(x, -static_cast<float>(in) - 4.0F, 2.0F * static_cast<float>(in) + 4.0F) : 0.0F;
    if (plan.mode == Mode::kNearest)
      axis.taps.push_back({std::clamp<std::int64_t>(nearest_index(plan.nearest, bounded, plan.scale[d]), 0, in - 1), 1.0F});
    else
      add_filter_taps(plan, bounded, plan.scale[d], in, axis.taps);
    axis.first.push_back(std::ssize(axis.taps));
  }
  return axis;
}

// [outer, in, inner] -> [outer, out, inner]
template <typename T>
void resize_axis(ThreadPool* pool, const AxisTaps& axis, bool copies, const T* in, T* out, std::int64_t outer, std::int64_t inner) {
  parallel_for(pool, outer, std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(axis.out * inner, 1)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t n = begin; n < end; ++n) {
                   const T* src = in + n * axis.in * inner;
                   T* dst = out + n * axis.out * inner;
                   for (std::int64_t o = 0; o < axis.out; ++o, dst += inner) {
                     const std::int64_t first = axis.first[at(o)], last = axis.first[at(o) + 1];
                     if (copies) {
                       std::copy_n(src + axis.taps[at(first)].index * inner, inner, dst);
                       continue;
                     }
                     if constexpr (std::is_floating_point_v<T>) {
                       for (std::int64_t t = first; t < last; ++t) {
                         const T* row = src + axis.taps[at(t)].index * inner;
                         const T w = static_cast<T>(axis.taps[at(t)].weight);
                         if (t == first) {
                           for (std::int64_t i = 0; i < inner; ++i) dst[i] = w * row[i];
                         } else {
                           for (std::int64_t i = 0; i < inner; ++i) dst[i] += w * row[i];
                         }
                       }
                     }
                   }
                 }
               });
}

template <typename T>
Tensor resize(const EvalContext& ctx, const ResizePlan& plan, const Tensor& x) {
  Tensor current = x;
  std::vector<AxisTaps> axes(x.shape().size());
  for (std::size_t d = 0; d < axes.size(); ++d) {
    const Shape& shape = current.shape();
    const bool identity = plan.out[d] == shape[d] && plan.scale[d] == 1.0F &&
                          (plan.coordinates != Coordinates::kTfCropAndResize || (plan.roi_start[d] == 0.0F && plan.roi_end[d] == 1.0F));
    if (identity) continue;
    if (shape[d] == 0 && plan.out[d] != 0) fail_node(ctx.node, "an axis of size 0 cannot be resized");
    axes[d] = axis_taps(plan, d, shape[d]);
    Shape next = shape;
    next[d] = plan.out[d];
    Tensor result(x.type(), next);
    resize_axis<T>(ctx.pool, axes[d], plan.mode == Mode::kNearest, current.data<T>().data(), result.mutable_data<T>().data(),
                   product(shape, 0, d), product(shape, d + 1, shape.size()));
    current = std::move(result);
  }
  if (plan.coordinates != Coordinates::kTfCropAndResize) return current;
  const Shape shape = current.shape();
  const auto out = current.mutable_data<T>();
  for (std::size_t d = 0; d < axes.size(); ++d) {
    const std::int64_t inner = product(shape, d + 1, shape.size());
    for (std::int64_t e = 0; e < std::ssize(out) && !axes[d].outside.empty(); ++e) {
      if (axes[d].outside[at(e / inner % shape[d])]) out[at(e)] = static_cast<T>(plan.extrapolation);
    }
  }
  return current;
}

template <bool kIsUpsample>
void infer(InferContext& ctx) {
  const TensorType& x = *ctx.inputs[0];
  TensorType& y = ctx.outputs[0];
  y.dtype = x.dtype;
  ResizePlan plan;
  read_modes(ctx.node, ctx.opset, kIsUpsample, plan);
  const auto present = [&](std::size_t i) {
    if (!ctx.has_input(i)) return false;
    const TensorType& t = *ctx.inputs[i];  // an empty tensor is an input that is left out
    return !(t.fully_known() && t.dims.size() == 1 && t.dims[0].size == 0);
  };
  if (!x.has_rank) return;
  y.has_rank = true;
  y.dims.assign(x.dims.size(), Dim{});
  const auto inputs = read_inputs(
      ctx.node, ctx.opset, kIsUpsample, [&](std::size_t i) { return i < ctx.constants.size() ? ctx.constants[i] : nullptr; }, present);
  if (!inputs) return;
  // Unknown sizes stand in as 1 for the plan, and stay unknown unless an explicit size or a scale of 1 settles them.
  Shape in;
  for (const Dim& dim : x.dims) in.push_back(dim.known() ? dim.size : 1);
  plan_sizes(ctx.node, in, *inputs, plan);
  const bool stretch = ctx.node.get_string("keep_aspect_ratio_policy", "stretch") == "stretch";
  for (std::size_t d = 0; d < in.size(); ++d) {
    if (x.dims[d].known())
      y.dims[d].size = plan.out[d];
    else if (!inputs->sizes.empty() && stretch && plan.out[d] != 1)
      y.dims[d].size = plan.out[d];
    else if (!inputs->scales.empty() && plan.scale[d] == 1.0F)
      y.dims[d] = x.dims[d];
  }
}

template <bool kIsUpsample>
std::vector<Tensor> evaluate(const EvalContext& ctx) {
  ResizePlan plan;
  read_modes(ctx.node, ctx.opset, kIsUpsample, plan);
  const auto tensor = [&](std::size_t i) { return ctx.has_input(i) && ctx.input(i).size() > 0 ? &ctx.input(i) : nullptr; };
  const auto inputs = read_inputs(ctx.node, ctx.opset, kIsUpsample, tensor, [&](std::size_t i) { return tensor(i) != nullptr; });
  const Tensor& x = ctx.input(0);
  plan_sizes(ctx.node, x.shape(), *inputs, plan);
  if (is_float(x.type()))
    return evaluate_real(ctx, [&]<typename T>(const EvalContext& c) { return std::vector<Tensor>{resize<T>(c, plan, c.input(0))}; });
  if (plan.mode == Mode::kNearest) return {dispatch(x.type(), [&]<typename T>() { return resize<T>(ctx, plan, x); })};
  return {cast(resize<float>(ctx, plan, cast(x, DataType::kFloat32)), x.type())};
}

// The plan is made for [N,C,H,W] and permuted.
template <bool kIsUpsample>
std::vector<Tensor> evaluate_nhwc(const EvalContext& ctx) {
  ResizePlan plan;
  read_modes(ctx.node, ctx.opset, kIsUpsample, plan);
  const auto tensor = [&](std::size_t i) { return ctx.has_input(i) && ctx.input(i).size() > 0 ? &ctx.input(i) : nullptr; };
  const auto inputs = read_inputs(ctx.node, ctx.opset, kIsUpsample, tensor, [&](std::size_t i) { return tensor(i) != nullptr; });
  const Tensor& x = ctx.input(0);
  const Shape& s = x.shape();
  plan_sizes(ctx.node, {s[0], s[3], s[1], s[2]}, *inputs, plan);
  for (auto* list : {&plan.scale, &plan.roi_start, &plan.roi_end}) std::rotate(list->begin() + 1, list->begin() + 2, list->end());
  std::rotate(plan.out.begin() + 1, plan.out.begin() + 2, plan.out.end());
  return {resize<float>(ctx, plan, x)};
}

}  // namespace

const OpDef kResize = {.name = "Resize",
                       .max_inputs = 4,
                       .infer = infer<false>,
                       .evaluate = evaluate<false>,
                       .rule = QuantRule::kArithmetic,
                       .evaluate_nhwc = evaluate_nhwc<false>};
const OpDef kUpsample = {.name = "Upsample",
                         .max_inputs = 2,
                         .infer = infer<true>,
                         .evaluate = evaluate<true>,
                         .rule = QuantRule::kArithmetic,
                         .evaluate_nhwc = evaluate_nhwc<true>};

}  // namespace nibble::nn
