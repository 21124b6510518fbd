// GridSample and RoiAlign: values between the pixels.
#include <algorithm>
#include <cmath>

#include "ops/nn_common.h"

namespace nibble::nn {
namespace {

// --- GridSample ---

enum class Padding { kZeros, kBorder, kReflection };
enum class Interpolation { kNearest, kLinear, kCubic };

struct GridModes {
  Padding padding = Padding::kZeros;
  Interpolation interpolation = Interpolation::kLinear;
  bool align_corners = false;
};

GridModes read_modes(const Node& node) {
  GridModes modes{.align_corners = node.get_int("align_corners", 0) != 0};
  const std::string mode = node.get_string("mode", "linear"), padding = node.get_string("padding_mode", "zeros");
  if (mode == "nearest")
    modes.interpolation = Interpolation::kNearest;
  else if (mode == "cubic" || mode == "bicubic")
    modes.interpolation = Interpolation::kCubic;
  else if (mode != "linear" && mode != "bilinear")
    fail_node(node, "mode is '{}', expected nearest, linear or cubic", mode);
  if (padding == "border")
    modes.padding = Padding::kBorder;
  else if (padding == "reflection")
    modes.padding = Padding::kReflection;
  else if (padding != "zeros")
    fail_node(node, "padding_mode is '{}', expected zeros, border or reflection", padding);
  return modes;
}

void infer_grid(InferContext& ctx) {
  const TensorType& x = *ctx.inputs[0];
  const TensorType& grid = *ctx.inputs[1];
  TensorType& y = ctx.outputs[0];
  y.dtype = x.dtype;
  require_rank(ctx.node, x, 3, "the input");
  if (!x.has_rank) return;
  if (grid.has_rank && grid.dims.size() != x.dims.size())
    fail_node(ctx.node, "the input is {}, the grid {}", to_string(x), to_string(grid));
  y.has_rank = true;
  y.dims.assign(x.dims.size(), Dim{});
  y.dims[0] = x.dims[0];
  y.dims[1] = x.dims[1];
  for (std::size_t d = 2; grid.has_rank && d < y.dims.size(); ++d) y.dims[d] = grid.dims[d - 1];
}

double reflect(double x, double low, double high) {
  const double range = high - low;
  if (range <= 0.0) return low;
  double distance = x < low ? low - x : x > high ? x - high : 0.0;
  if (distance == 0.0) return x;
  const double turns = std::floor(distance / range);
  distance -= turns * range;
  const bool even = std::fmod(turns, 2.0) == 0.0;
  return (x < low) == even ? low + distance : high - distance;
}

// The taps of one coordinate along an axis of `size` pixels; index -1 reads as zero.
struct AxisTap {
  std::int64_t index = -1;
  double weight = 0.0;
};
int axis_taps(const GridModes& modes, double normalized, std::int64_t size, AxisTap (&taps)[4]) {
  const auto length = static_cast<double>(size);
  const double low = modes.align_corners ? 0.0 : -0.5, high = modes.align_corners ? length - 1.0 : length - 0.5;
  double x = modes.align_corners ? (normalized + 1.0) / 2.0 * (length - 1.0) : ((normalized + 1.0) * length - 1.0) / 2.0;
  if (!std::isfinite(x)) x = -1e9;  // outside
  if (modes.interpolation == Interpolation::kNearest) x = std::nearbyint(x);
  if (modes.padding == Padding::kBorder) x = std::clamp(x, 0.0, length - 1.0);
  if (modes.padding == Padding::kReflection) x = reflect(x, low, high);
  x = std::clamp(x, -1e9, 1e9);
  const auto pixel = [&](std::int64_t i) -> std::int64_t {
    if (i >= 0 && i < size) return i;
    if (modes.padding == Padding::kZeros) return -1;
    if (modes.padding == Padding::kBorder) return std::clamp<std::int64_t>(i, 0, size - 1);
    return std::clamp<std::int64_t>(static_cast<std::int64_t>(std::nearbyint(reflect(static_cast<double>(i), low, high))), 0, size - 1);
  };
  if (modes.interpolation == Interpolation::kNearest) {
    taps[0] = {pixel(static_cast<std::int64_t>(std::nearbyint(x))), 1.0};
    return 1;
  }
  const double base = std::floor(x), r = x - base;
  const auto first = static_cast<std::int64_t>(base);
  if (modes.interpolation == Interpolation::kLinear) {
    taps[0] = {pixel(first), 1.0 - r};
    taps[1] = {pixel(first + 1), r};
    return 2;
  }
  constexpr double kA = -0.75;
  for (int i = 0; i < 4; ++i) {
    const double d = std::abs(static_cast<double>(i - 1) - r);
    const double weight = d <= 1.0 ? ((kA + 2.0) * d - (kA + 3.0)) * d * d + 1.0 : ((kA * d - 5.0 * kA) * d + 8.0 * kA) * d - 4.0 * kA;
    taps[i] = {pixel(first + i - 1), weight};
  }
  return 4;
}

template <typename T>
std::vector<Tensor> grid_sample(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& x = ctx.input(0);
  const Shape& in = x.shape();
  const Shape& grid = ctx.input(1).shape();
  constexpr std::size_t kMaxSpatial = 3;
  if (in.size() < 3 || in.size() > kMaxSpatial + 2) fail_node(node, "the input has shape {}, expected 3 to 5 axes", to_string(in));
  const std::size_t spatial = in.size() - 2;
  if (grid.size() != in.size() || grid[0] != in[0] || grid.back() != static_cast<std::int64_t>(spatial))
    fail_node(node, "the grid has shape {}, which does not fit the input {}", to_string(grid), to_string(in));
  const GridModes modes = read_modes(node);
  Shape shape{in[0], in[1]};
  shape.insert(shape.end(), grid.begin() + 1, grid.end() - 1);
  Tensor y(x.type(), shape);
  if (product(in, 2, in.size()) == 0 && y.size() > 0) fail_node(node, "the input has shape {}: there is nothing to sample", to_string(in));
  const Tensor wide_grid = cast(ctx.input(1), DataType::kFloat64);
  const double* points = wide_grid.data<double>().data();
  const T* src = x.data<T>().data();
  T* dst = y.mutable_data<T>().data();
  const std::int64_t channels = in[1], in_pixels = product(in, 2, in.size()), out_pixels = product(shape, 2, shape.size());
  for (std::int64_t n = 0; n < in[0]; ++n) {
    for (std::int64_t p = 0; p < out_pixels; ++p) {
      AxisTap taps[kMaxSpatial][4];
      int counts[kMaxSpatial] = {1, 1, 1};
      // A grid point holds x first, which is the last axis.
      for (std::size_t d = 0; d < spatial; ++d)
        counts[d] =
            axis_taps(modes, points[(n * out_pixels + p) * static_cast<std::int64_t>(spatial) + static_cast<std::int64_t>(spatial - 1 - d)],
                      in[d + 2], taps[d]);
      for (std::int64_t c = 0; c < channels; ++c) {
        const T* plane = src + (n * channels + c) * in_pixels;
        double sum = 0.0;
        const auto walk = [&](const auto& self, std::size_t d, std::int64_t offset, double weight) -> void {
          if (d == spatial) {
            sum += weight * static_cast<double>(plane[offset]);
            return;
          }
          for (int t = 0; t < counts[d]; ++t) {
            if (taps[d][t].index >= 0) self(self, d + 1, offset * in[d + 2] + taps[d][t].index, weight * taps[d][t].weight);
          }
        };
        walk(walk, 0, 0, 1.0);
        dst[(n * channels + c) * out_pixels + p] = static_cast<T>(sum);
      }
    }
  }
  return {std::move(y)};
}

// --- RoiAlign ---

void infer_roi(InferContext& ctx) {
  const TensorType& x = *ctx.inputs[0];
  const TensorType& rois = *ctx.inputs[1];
  TensorType& y = ctx.outputs[0];
  y.dtype = x.dtype;
  y.has_rank = true;
  y.dims.assign(4, Dim{});
  if (rois.has_rank && !rois.dims.empty()) y.dims[0] = rois.dims[0];
  if (x.has_rank && x.dims.size() != 4) fail_node(ctx.node, "the input is {}, expected 4 axes", to_string(x));
  if (x.has_rank) y.dims[1] = x.dims[1];
  y.dims[2].size = ctx.node.get_int("output_height", 1);
  y.dims[3].size = ctx.node.get_int("output_width", 1);
  if (y.dims[2].size < 1 || y.dims[3].size < 1) fail_node(ctx.node, "the output is {} x {}", y.dims[2].size, y.dims[3].size);
}

struct Corner {
  std::int64_t index = 0;
  double weight = 0.0;
};
// The four pixels around (y, x); all weights 0 more than a pixel outside.
void corners(double y, double x, std::int64_t height, std::int64_t width, Corner (&out)[4]) {
  for (Corner& corner : out) corner = {};
  if (!(y >= -1.0 && y <= static_cast<double>(height) && x >= -1.0 && x <= static_cast<double>(width))) return;
  const auto split = [](double v, std::int64_t size, std::int64_t& low, std::int64_t& high) {
    v = std::max(v, 0.0);
    low = static_cast<std::int64_t>(v);
    if (low >= size - 1) {
      low = high = size - 1;
      return 0.0;
    }
    high = low + 1;
    return v - static_cast<double>(low);
  };
  std::int64_t y0 = 0, y1 = 0, x0 = 0, x1 = 0;
  const double dy = split(y, height, y0, y1), dx = split(x, width, x0, x1);
  out[0] = {y0 * width + x0, (1.0 - dy) * (1.0 - dx)};
  out[1] = {y0 * width + x1, (1.0 - dy) * dx};
  out[2] = {y1 * width + x0, dy * (1.0 - dx)};
  out[3] = {y1 * width + x1, dy * dx};
}

template <typename T>
std::vector<Tensor> roi_align(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& x = ctx.input(0);
  const Shape& in = x.shape();
  const Shape& rois = ctx.input(1).shape();
  if (in.size() != 4) fail_node(node, "the input has shape {}, expected 4 axes", to_string(in));
  if (rois.size() != 2 || rois[1] != 4) fail_node(node, "the rois have shape {}, expected [n,4]", to_string(rois));
  const auto batch = to_int64s(ctx.input(2));
  if (std::ssize(batch) != rois[0]) fail_node(node, "batch_indices has {} entries, expected {}", batch.size(), rois[0]);
  const std::string mode = node.get_string("mode", "avg");
  if (mode != "avg" && mode != "max") fail_node(node, "mode is '{}', expected avg or max", mode);
  const std::string transform = ctx.opset >= 16 ? node.get_string("coordinate_transformation_mode", "half_pixel") : "output_half_pixel";
  if (transform != "half_pixel" && transform != "output_half_pixel")
    fail_node(node, "coordinate_transformation_mode is '{}', expected half_pixel or output_half_pixel", transform);
  const bool half_pixel = transform == "half_pixel";
  const std::int64_t height = node.get_int("output_height", 1), width = node.get_int("output_width", 1),
                     sampling = node.get_int("sampling_ratio", 0);
  constexpr std::int64_t kMaxOutput = 1 << 20;
  if (height < 1 || width < 1 || height > kMaxOutput || width > kMaxOutput || sampling < 0 || sampling > kMaxOutput)
    fail_node(node, "output_height {}, output_width {}, sampling_ratio {} are out of range", height, width, sampling);
  if (in[2] * in[3] == 0) fail_node(node, "the input has shape {}: there is nothing to sample", to_string(in));
  const double scale = static_cast<double>(node.get_float("spatial_scale", 1.0F)), offset = half_pixel ? 0.5 : 0.0;
  const auto boxes = to_doubles(ctx.input(1));
  Tensor y(x.type(), {rois[0], in[1], height, width});
  const T* src = x.data<T>().data();
  T* dst = y.mutable_data<T>().data();
  for (std::int64_t r = 0; r < rois[0]; ++r) {
    if (batch[at(r)] < 0 || batch[at(r)] >= in[0]) fail_node(node, "batch index {} is out of range for a batch of {}", batch[at(r)], in[0]);
    const double* box = boxes.data() + r * 4;
    const double left = box[0] * scale - offset, top = box[1] * scale - offset;
    double box_width = box[2] * scale - offset - left, box_height = box[3] * scale - offset - top;
    if (!half_pixel) {
      box_width = std::max(box_width, 1.0);
      box_height = std::max(box_height, 1.0);
    }
    const double bin_w = box_width / static_cast<double>(width), bin_h = box_height / static_cast<double>(height);
    const auto samples = [&](double bin) {
      if (sampling > 0) return sampling;
      const double count = std::ceil(bin);
      if (!(count <= static_cast<double>(kMaxOutput))) fail_node(node, "roi {} is too large", r);
      return std::max<std::int64_t>(static_cast<std::int64_t>(count), 0);
    };
    const std::int64_t grid_h = samples(bin_h), grid_w = samples(bin_w);
    for (std::int64_t oy = 0; oy < height; ++oy) {
      for (std::int64_t ox = 0; ox < width; ++ox) {
        for (std::int64_t c = 0; c < in[1]; ++c) {
          const T* plane = src + (batch[at(r)] * in[1] + c) * in[2] * in[3];
          double sum = 0.0, best = 0.0;
          bool first = true;
          for (std::int64_t iy = 0; iy < grid_h; ++iy) {
            for (std::int64_t ix = 0; ix < grid_w; ++ix) {
              Corner around[4];
              corners(top + static_cast<double>(oy) * bin_h + (static_cast<double>(iy) + 0.5) * bin_h / static_cast<double>(grid_h),
                      left + static_cast<double>(ox) * bin_w + (static_cast<double>(ix) + 0.5) * bin_w / static_cast<double>(grid_w), in[2],
                      in[3], around);
              // Mode max takes the largest weighted corner, not the largest interpolated value: so ONNX's reference data has it.
              for (const Corner& corner : around) {
                const double value = corner.weight * static_cast<double>(plane[corner.index]);
                sum += value;
                best = first ? value : std::max(best, value);
                first = false;
              }
            }
          }
          const double count = static_cast<double>(std::max<std::int64_t>(grid_h * grid_w, 1));
          dst[((r * in[1] + c) * height + oy) * width + ox] = static_cast<T>(mode == "avg" ? sum / count : best);
        }
      }
    }
  }
  return {std::move(y)};
}

}  // namespace

const OpDef kGridSample = {
    .name = "GridSample",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = infer_grid,
    .evaluate =
        [](const EvalContext& ctx) { return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return grid_sample<T>(c); }); },
    .rule = QuantRule::kFloat,
    .note = "interpolates at positions that follow the data"};
const OpDef kRoiAlign = {
    .name = "RoiAlign",
    .min_inputs = 3,
    .max_inputs = 3,
    .infer = infer_roi,
    .evaluate = [](const EvalContext& ctx) { return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return roi_align<T>(c); }); },
    .rule = QuantRule::kFloat,
    .note = "interpolates at positions that follow the data"};

}  // namespace nibble::nn
