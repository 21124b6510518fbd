#include "methods/columns.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "base/fail.h"
#include "ops/conv_loops.h"

namespace nibble {
namespace {

// One sample's input as the layer's windows see it. Gemm and MatMul: rows of `channels` values.
struct Windows {
  nn::ConvGeometry conv;  // axes empty for matrices
  bool matrix = false;
  std::int64_t channels = 0, places = 0;

  Windows(const Node& node, const LayerView& layer, const Shape& weight_shape, const Shape& x) {
    channels = layer.inputs();
    if (node.op_type == "Conv") {
      conv = nn::conv_geometry(node, x, weight_shape);
      places = conv.batch * conv.out_pixels();
      return;
    }
    matrix = true;
    if (x.empty() || x.back() != channels)
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): its input {} does not end in {} channels", node.name, node.op_type, to_string(x),
           channels);
    places = element_count(x) / std::max<std::int64_t>(channels, 1);
  }
};

// Flat offset of each tap of a window within one channel, -1 where it lies in the padding.
void tap_offsets(const nn::ConvGeometry& g, std::int64_t pixel, std::vector<std::int64_t>& offsets) {
  const std::size_t axes = g.axes.size();
  std::vector<std::int64_t> out(axes);
  for (std::size_t a = axes; a-- > 0;) {
    out[a] = pixel % g.axes[a].out;
    pixel /= g.axes[a].out;
  }
  for (std::size_t t = 0; t < offsets.size(); ++t) {
    std::int64_t rest = static_cast<std::int64_t>(t), offset = 0, step = 1;
    for (std::size_t a = axes; a-- > 0;) {
      const nn::WindowAxis& axis = g.axes[a];
      const std::int64_t at = out[a] * axis.stride - axis.pad_begin + rest % axis.kernel * axis.dilation;
      rest /= axis.kernel;
      if (at < 0 || at >= axis.in) offset = -1;
      if (offset >= 0) offset += at * step;
      step *= axis.in;
    }
    offsets[t] = offset;
  }
}

}  // namespace

bool has_columns(const Node& node) { return node.op_type == "Conv" || node.op_type == "Gemm" || node.op_type == "MatMul"; }

ColumnMoments column_moments(const Node& node, const LayerView& layer, const Shape& weight_shape, std::span<const Tensor> inputs,
                             ThreadPool& pool) {
  const auto size = static_cast<std::size_t>(layer.groups * layer.columns());
  std::vector<ColumnMoments> parts(inputs.size());
  pool.parallel_for(static_cast<std::int64_t>(inputs.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Tensor& input = inputs[static_cast<std::size_t>(i)];
      ColumnMoments& part = parts[static_cast<std::size_t>(i)];
      part.mean.assign(size, 0.0);
      part.square.assign(size, 0.0);
      const Windows windows(node, layer, weight_shape, input.shape());
      part.places = windows.places;
      const float* x = input.data<float>().data();
      if (windows.matrix) {
        for (std::int64_t p = 0; p < windows.places; ++p) {
          for (std::size_t c = 0; c < size; ++c) {
            const auto v = static_cast<double>(x[static_cast<std::size_t>(p) * size + c]);
            part.mean[c] += v;
            part.square[c] += v * v;
          }
        }
        continue;
      }
      const nn::ConvGeometry& g = windows.conv;
      const std::int64_t taps = layer.taps, in_pixels = g.in_pixels(), pixels = g.out_pixels();
      // Tap by tap: the places where a tap lies inside, as offsets into any channel.
      std::vector<std::vector<std::int64_t>> inside(static_cast<std::size_t>(taps));
      std::vector<std::int64_t> offsets(static_cast<std::size_t>(taps));
      for (std::int64_t p = 0; p < pixels; ++p) {
        tap_offsets(g, p, offsets);
        for (std::size_t t = 0; t < offsets.size(); ++t) {
          if (offsets[t] >= 0) inside[t].push_back(offsets[t]);
        }
      }
      for (std::int64_t n = 0; n < g.batch; ++n) {
        for (std::int64_t c = 0; c < windows.channels; ++c) {
          const float* channel = x + (n * windows.channels + c) * in_pixels;
          for (std::int64_t t = 0; t < taps; ++t) {
            double sum = 0, square = 0;
            for (const std::int64_t offset : inside[static_cast<std::size_t>(t)]) {
              const auto v = static_cast<double>(channel[offset]);
              sum += v;
              square += v * v;
            }
            part.mean[static_cast<std::size_t>(c * taps + t)] += sum;
            part.square[static_cast<std::size_t>(c * taps + t)] += square;
          }
        }
      }
    }
  });
  ColumnMoments total;
  total.mean.assign(size, 0.0);
  total.square.assign(size, 0.0);
  for (const ColumnMoments& part : parts) {
    total.places += part.places;
    for (std::size_t i = 0; i < size; ++i) {
      total.mean[i] += part.mean[i];
      total.square[i] += part.square[i];
    }
  }
  const double count = static_cast<double>(std::max<std::int64_t>(total.places, 1));
  for (std::size_t i = 0; i < size; ++i) {
    total.mean[i] /= count;
    total.square[i] /= count;
  }
  return total;
}

std::int64_t place_count(const Node& node, const LayerView& layer, const Shape& weight_shape, const Shape& input) {
  return Windows(node, layer, weight_shape, input).places;
}

ColumnDraw draw_columns(const Node& node, const LayerView& layer, const Shape& weight_shape, std::span<const Tensor> inputs,
                        std::int64_t count, std::uint64_t seed) {
  ColumnDraw draw;
  std::mt19937_64 random(seed);
  const auto samples = static_cast<std::int64_t>(inputs.size());
  for (std::int64_t s = 0; s < samples; ++s) {
    const std::int64_t places = Windows(node, layer, weight_shape, inputs[static_cast<std::size_t>(s)].shape()).places;
    const std::int64_t share = std::min(places, count * (s + 1) / samples - count * s / samples);
    // The first `share` of a Fisher-Yates shuffle.
    std::vector<std::int64_t> order(static_cast<std::size_t>(places));
    std::iota(order.begin(), order.end(), 0);
    for (std::int64_t i = 0; i < share; ++i) {
      std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(i) + random() % static_cast<std::uint64_t>(places - i)]);
      draw.places.push_back({static_cast<std::int32_t>(s), order[static_cast<std::size_t>(i)]});
    }
  }
  for (std::size_t i = draw.places.size(); i-- > 1;) std::swap(draw.places[i], draw.places[random() % (i + 1)]);
  return draw;
}

std::vector<float> gather_columns(const Node& node, const LayerView& layer, const Shape& weight_shape, std::span<const Tensor> inputs,
                                  const ColumnDraw& draw, ThreadPool& pool) {
  const std::int64_t columns = layer.columns(), places = static_cast<std::int64_t>(draw.places.size());
  std::vector<float> result(static_cast<std::size_t>(layer.groups * places * columns));
  std::vector<Windows> windows;
  for (const Tensor& input : inputs) windows.emplace_back(node, layer, weight_shape, input.shape());
  pool.parallel_for(places, 64, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::int64_t> offsets(static_cast<std::size_t>(layer.taps));
    for (std::int64_t p = begin; p < end; ++p) {
      const ColumnDraw::Place& place = draw.places[static_cast<std::size_t>(p)];
      const Windows& w = windows[static_cast<std::size_t>(place.sample)];
      const float* x = inputs[static_cast<std::size_t>(place.sample)].data<float>().data();
      if (w.matrix) {
        std::copy_n(x + place.place * columns, columns, result.data() + p * columns);
        continue;
      }
      const std::int64_t pixels = w.conv.out_pixels(), in_pixels = w.conv.in_pixels();
      const std::int64_t n = place.place / pixels;
      tap_offsets(w.conv, place.place % pixels, offsets);
      for (std::int64_t g = 0; g < layer.groups; ++g) {
        float* row = result.data() + (g * places + p) * columns;
        for (std::int64_t i = 0; i < layer.group_in; ++i) {
          const float* channel = x + (n * w.channels + g * layer.group_in + i) * in_pixels;
          for (std::int64_t t = 0; t < layer.taps; ++t) {
            const std::int64_t offset = offsets[static_cast<std::size_t>(t)];
            row[i * layer.taps + t] = offset < 0 ? 0.0F : channel[offset];
          }
        }
      }
    }
  });
  return result;
}

}  // namespace nibble
