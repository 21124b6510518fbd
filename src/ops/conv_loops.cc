#include "ops/conv_loops.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "ops/fail.h"
#include "ops/nn_common.h"
#include "ops/panel_gemm.h"

namespace nibble::nn {

std::int64_t ConvGeometry::in_pixels() const {
  std::int64_t n = 1;
  for (const WindowAxis& axis : axes) n *= axis.in;
  return n;
}
std::int64_t ConvGeometry::out_pixels() const {
  std::int64_t n = 1;
  for (const WindowAxis& axis : axes) n *= axis.out;
  return n;
}
std::int64_t ConvGeometry::taps() const {
  std::int64_t n = 1;
  for (const WindowAxis& axis : axes) n *= axis.kernel;
  return n;
}
Shape ConvGeometry::output_shape() const {
  Shape shape{batch, groups * group_out};
  for (const WindowAxis& axis : axes) shape.push_back(axis.out);
  return shape;
}

ConvGeometry conv_geometry(const Node& node, const Shape& x, const Shape& w) {
  if (x.size() < 3) fail_node(node, "the input has shape {}, expected [batch, channels, ...]", to_string(x));
  if (w.size() != x.size()) fail_node(node, "the weight has shape {}, expected {} axes", to_string(w), x.size());
  ConvGeometry geometry;
  geometry.groups = node.get_int("group", 1);
  if (geometry.groups < 1) fail_node(node, "group is {}, expected at least 1", geometry.groups);
  geometry.batch = x[0];
  geometry.group_in = w[1];
  if (x[1] % geometry.groups != 0 || x[1] / geometry.groups != w[1])
    fail_node(node, "the input has {} channels in {} groups, the weight {} takes {} a group", x[1], geometry.groups, to_string(w), w[1]);
  if (w[0] % geometry.groups != 0) fail_node(node, "{} output channels do not divide into {} groups", w[0], geometry.groups);
  geometry.group_out = w[0] / geometry.groups;
  const auto kernel = spatial_sizes(w);
  geometry.axes = resolve_window(node, read_window(node, x.size() - 2, kernel), spatial_sizes(x));
  return geometry;
}

void infer_conv_dims(const Node& node, const TensorType& x, const TensorType& w, TensorType& y) {
  require_rank(node, x, 3, "the input");
  require_rank(node, w, 3, "the weight");
  if (!x.has_rank) return;
  if (w.has_rank && w.dims.size() != x.dims.size()) fail_node(node, "the input is {}, the weight {}", to_string(x), to_string(w));
  const std::int64_t groups = node.get_int("group", 1);
  if (groups < 1) fail_node(node, "group is {}, expected at least 1", groups);
  y.has_rank = true;
  y.dims.assign(x.dims.size(), Dim{});
  y.dims[0] = x.dims[0];
  const std::size_t spatial = x.dims.size() - 2;
  std::vector<std::int64_t> kernel(spatial, -1);
  if (w.has_rank) {
    kernel = spatial_sizes(w);
    y.dims[1] = w.dims[0];
    if (x.dims[1].known() && w.dims[1].known() && (x.dims[1].size % groups != 0 || x.dims[1].size / groups != w.dims[1].size))
      fail_node(node, "the input is {} in {} groups, the weight {}", to_string(x), groups, to_string(w));
    if (w.dims[0].known() && w.dims[0].size % groups != 0)
      fail_node(node, "{} output channels do not divide into {} groups", w.dims[0].size, groups);
  }
  const auto axes = resolve_window(node, read_window(node, spatial, kernel), spatial_sizes(x));
  for (std::size_t i = 0; i < spatial; ++i) y.dims[i + 2].size = axes[i].out;
}

namespace {

// Offsets of kCols output pixels' inputs for each tap; -1 where the tap falls into padding.
class PixelOffsets {
 public:
  PixelOffsets(const ConvGeometry& geometry, std::int64_t first_pixel, std::int64_t count)
      : offsets_(static_cast<std::size_t>(geometry.taps() * kCols), -1), dense_(static_cast<std::size_t>(geometry.taps()), false) {
    const std::size_t rank = geometry.axes.size();
    std::vector<std::int64_t> origin(rank);
    for (std::int64_t j = 0; j < count; ++j) {
      std::int64_t rest = first_pixel + j;
      for (std::size_t d = rank; d-- > 0;) {
        const WindowAxis& axis = geometry.axes[d];
        origin[d] = (rest % axis.out) * axis.stride - axis.pad_begin;
        rest /= axis.out;
      }
      for (std::int64_t t = 0; t < geometry.taps(); ++t) {
        std::int64_t tap = t, offset = 0, scale = 1;
        for (std::size_t d = rank; d-- > 0;) {
          const WindowAxis& axis = geometry.axes[d];
          const std::int64_t position = origin[d] + (tap % axis.kernel) * axis.dilation;
          tap /= axis.kernel;
          if (position < 0 || position >= axis.in) {
            offset = -1;
            break;
          }
          offset += position * scale;
          scale *= axis.in;
        }
        offsets_[at(t * kCols + j)] = offset;
      }
    }
    for (std::int64_t t = 0; t < geometry.taps(); ++t) {
      const std::int64_t* o = tap(t);
      bool dense = o[0] >= 0;
      for (std::int64_t j = 1; j < kCols && dense; ++j) dense = o[j] == o[0] + j;
      dense_[at(t)] = dense;
    }
  }
  const std::int64_t* tap(std::int64_t t) const { return offsets_.data() + t * kCols; }
  bool dense(std::int64_t t) const { return dense_[at(t)]; }

 private:
  std::vector<std::int64_t> offsets_;
  std::vector<bool> dense_;
};

template <typename T>
void convolve_group(ThreadPool* pool, const ConvGeometry& g, const T* x, const std::vector<T>& panels, T* y) {
  const std::int64_t taps = g.taps(), in_pixels = g.in_pixels(), out_pixels = g.out_pixels(), depth = g.group_in * taps;
  panel_gemm<T>(
      pool, g.group_out, out_pixels, depth, panels.data(),
      [&](std::int64_t panel, T* dst) {
        const PixelOffsets offsets(g, panel * kCols, std::min(kCols, out_pixels - panel * kCols));
        for (std::int64_t c = 0; c < g.group_in; ++c) {
          const T* plane = x + c * in_pixels;
          for (std::int64_t t = 0; t < taps; ++t, dst += kCols) {
            const std::int64_t* o = offsets.tap(t);
            if (offsets.dense(t)) {
              std::memcpy(dst, plane + o[0], sizeof(T) * kCols);
            } else {
              for (std::int64_t j = 0; j < kCols; ++j) dst[j] = o[j] >= 0 ? plane[o[j]] : T{};
            }
          }
        }
      },
      y, out_pixels);
}

// acc[o] += w * x[o * stride] for the outputs whose tap lies inside the input.
template <typename T>
void add_tap(T* acc, const T* x, T w, std::int64_t count, std::int64_t stride) {
  if (stride == 1) {
    for (std::int64_t o = 0; o < count; ++o) acc[o] += w * x[o];
  } else {
    for (std::int64_t o = 0; o < count; ++o) acc[o] += w * x[o * stride];
  }
}

// One output channel of one input channel: row by row, tap by tap, so that the innermost loop runs along a row.
template <typename T>
void convolve_plane(const ConvGeometry& g, const T* x, const T* w, T* y) {
  const WindowAxis& row = g.axes.back();
  const std::size_t outer = g.axes.size() - 1;
  const std::int64_t rows = g.out_pixels() / std::max<std::int64_t>(row.out, 1), kernel_rows = g.taps() / row.kernel;
  for (std::int64_t r = 0; r < rows; ++r) {
    T* acc = y + r * row.out;
    std::fill(acc, acc + row.out, T{});
    for (std::int64_t kr = 0; kr < kernel_rows; ++kr) {
      std::int64_t out_rest = r, tap_rest = kr, offset = 0, scale = row.in;
      bool inside = true;
      for (std::size_t d = outer; d-- > 0 && inside;) {
        const WindowAxis& axis = g.axes[d];
        const std::int64_t position = (out_rest % axis.out) * axis.stride - axis.pad_begin + (tap_rest % axis.kernel) * axis.dilation;
        out_rest /= axis.out;
        tap_rest /= axis.kernel;
        inside = position >= 0 && position < axis.in;
        offset += position * scale;
        scale *= axis.in;
      }
      if (!inside) continue;
      for (std::int64_t k = 0; k < row.kernel; ++k) {
        const std::int64_t start = k * row.dilation - row.pad_begin;  // input of output 0
        const std::int64_t first = start >= 0 ? 0 : (-start + row.stride - 1) / row.stride;
        const std::int64_t end = row.in - start <= 0 ? 0 : std::min(row.out, (row.in - start + row.stride - 1) / row.stride);
        if (first < end) add_tap(acc + first, x + offset + start + first * row.stride, w[kr * row.kernel + k], end - first, row.stride);
      }
    }
  }
}

}  // namespace

template <typename T>
void convolve(ThreadPool* pool, const ConvGeometry& g, const T* x, const T* w, T* y) {
  const std::int64_t in_group = g.group_in * g.in_pixels(), out_group = g.group_out * g.out_pixels();
  if (g.batch * g.groups * out_group == 0) return;
  if (g.group_in == 1) {
    const std::int64_t channels = g.groups * g.group_out;
    parallel_for(pool, g.batch * channels, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t n = i / channels, channel = i % channels;
        convolve_plane(g, x + (n * g.groups + channel / g.group_out) * g.in_pixels(), w + channel * g.taps(), y + i * g.out_pixels());
      }
    });
    return;
  }
  const std::int64_t depth = g.group_in * g.taps();
  for (std::int64_t group = 0; group < g.groups; ++group) {
    const T* weights = w + group * g.group_out * depth;
    const std::vector<T> panels = pack_rows<T>(g.group_out, depth, [&](std::int64_t r, std::int64_t i) { return weights[r * depth + i]; });
    for (std::int64_t n = 0; n < g.batch; ++n)
      convolve_group(pool, g, x + (n * g.groups + group) * in_group, panels, y + (n * g.groups + group) * out_group);
  }
}

template void convolve(ThreadPool*, const ConvGeometry&, const float*, const float*, float*);
template void convolve(ThreadPool*, const ConvGeometry&, const double*, const double*, double*);
template void convolve(ThreadPool*, const ConvGeometry&, const std::uint32_t*, const std::uint32_t*, std::uint32_t*);

}  // namespace nibble::nn
