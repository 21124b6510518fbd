#include "quantize/simulate_compute.h"

#include <algorithm>

#include "ops/fail.h"
#include "quantize/window_geometry.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

std::vector<double> centred(const Tensor& tensor, std::int32_t zero_point) {
  const std::vector<std::int32_t> codes = codes_of(tensor);
  std::vector<double> result(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) result[i] = static_cast<double>(codes[i] - zero_point);
  return result;
}

// Weights minus their zero points, each channel its own, times their block's factor.
std::vector<double> centred_weights(const QuantizedGraph& model, const Node& node, const Tensor& weights) {
  const std::vector<std::int32_t> codes = centred_codes(node, weights, *model.params_of(node.input(1)));
  return {codes.begin(), codes.end()};
}

std::vector<double> bias_of(const QuantizedGraph& model, const Node& node, std::int64_t channels) {
  std::vector<double> bias(static_cast<std::size_t>(channels), 0.0);
  if (node.op_type == "MatMul" || node.input(2) == kNoValue) return bias;
  const std::vector<std::int32_t> codes = codes_of(*model.graph.value(node.input(2)).constant);
  for (std::size_t o = 0; o < bias.size(); ++o) bias[o] = static_cast<double>(codes[codes.size() == 1 ? 0 : o]);
  return bias;
}

Accumulators finish(Shape shape, std::int64_t channels, std::int64_t inner, const std::vector<double>& sums) {
  Accumulators acc{.shape = std::move(shape), .channels = channels, .inner = inner, .values = {}};
  acc.values.resize(sums.size());
  for (std::size_t i = 0; i < sums.size(); ++i) acc.values[i] = static_cast<std::int64_t>(sums[i]);
  return acc;
}

// Steps a mixed-radix counter; false after the last.
bool next(std::vector<std::int64_t>& at, const Shape& extent) {
  for (std::size_t i = at.size(); i-- > 0;) {
    if (++at[i] < extent[i]) return true;
    at[i] = 0;
  }
  return false;
}

}  // namespace

Accumulators simulate_conv(const QuantizedGraph& model, const Node& node, const Tensor& x) {
  const Tensor& w = *model.graph.value(node.input(1)).constant;
  const Window window = conv_window(node, x.shape(), w.shape());
  const std::int64_t groups = node.get_int("group", 1);
  const std::int64_t batch = x.shape()[0];
  const std::int64_t in_channels = x.shape()[1];
  const std::int64_t out_channels = w.shape()[0];
  const std::int64_t group_in = in_channels / groups;
  const std::int64_t group_out = out_channels / groups;
  const std::int64_t in_plane = element_count(window.input);
  const std::int64_t out_plane = element_count(window.output);
  const std::int64_t taps = element_count(window.kernel);
  const std::vector<double> src = centred(x, model.params_of(node.input(0))->zero_point[0]);
  const std::vector<double> wei = centred_weights(model, node, w);
  const std::vector<double> bias = bias_of(model, node, out_channels);

  Shape shape = {batch, out_channels};
  shape.insert(shape.end(), window.output.begin(), window.output.end());
  std::vector<double> sums(static_cast<std::size_t>(batch * out_channels * out_plane));
  if (sums.empty()) return finish(std::move(shape), out_channels, out_plane, sums);
  for (std::int64_t i = 0; i < batch * out_channels; ++i)
    std::fill_n(sums.begin() + static_cast<std::ptrdiff_t>(i * out_plane), out_plane, bias[static_cast<std::size_t>(i % out_channels)]);

  // For each tap the source position of every output position, or -1 in the padding; then rows of the image are added tap by tap.
  const std::size_t rank = window.kernel.size();
  std::vector<std::int64_t> source(static_cast<std::size_t>(out_plane));
  std::vector<std::int64_t> tap(rank, 0);
  std::vector<double> column(static_cast<std::size_t>(out_plane));
  for (std::int64_t t = 0; t < taps; ++t) {
    std::vector<std::int64_t> at(rank, 0);
    for (std::int64_t p = 0; p < out_plane; ++p) {
      std::int64_t flat = 0;
      bool inside = true;
      for (std::size_t d = 0; d < rank; ++d) {
        const std::int64_t i = at[d] * window.stride[d] + tap[d] * window.dilation[d] - window.pad_begin[d];
        inside = inside && i >= 0 && i < window.input[d];
        flat = flat * window.input[d] + i;
      }
      source[static_cast<std::size_t>(p)] = inside ? flat : -1;
      next(at, window.output);
    }
    for (std::int64_t n = 0; n < batch; ++n) {
      for (std::int64_t g = 0; g < groups; ++g) {
        for (std::int64_t c = 0; c < group_in; ++c) {
          const double* plane = src.data() + (n * in_channels + g * group_in + c) * in_plane;
          for (std::size_t p = 0; p < column.size(); ++p) column[p] = source[p] < 0 ? 0.0 : plane[source[p]];
          for (std::int64_t o = 0; o < group_out; ++o) {
            const double weight = wei[static_cast<std::size_t>(((g * group_out + o) * group_in + c) * taps + t)];
            if (weight == 0.0) continue;
            double* out = sums.data() + (n * out_channels + g * group_out + o) * out_plane;
            for (std::size_t p = 0; p < column.size(); ++p) out[p] += weight * column[p];
          }
        }
      }
    }
    next(tap, window.kernel);
  }
  return finish(std::move(shape), out_channels, out_plane, sums);
}

Accumulators simulate_conv_transpose(const QuantizedGraph& model, const Node& node, const Tensor& x) {
  const Tensor& w = *model.graph.value(node.input(1)).constant;
  const Window window = conv_transpose_window(node, x.shape(), w.shape());
  const std::int64_t groups = node.get_int("group", 1);
  const std::int64_t batch = x.shape()[0];
  const std::int64_t in_channels = x.shape()[1];
  const std::int64_t group_out = w.shape()[1];
  const std::int64_t out_channels = group_out * groups;
  const std::int64_t group_in = in_channels / groups;
  const std::int64_t in_plane = element_count(window.input);
  const std::int64_t out_plane = element_count(window.output);
  const std::int64_t taps = element_count(window.kernel);
  const std::vector<double> src = centred(x, model.params_of(node.input(0))->zero_point[0]);
  const std::vector<double> wei = centred_weights(model, node, w);
  const std::vector<double> bias = bias_of(model, node, out_channels);

  Shape shape = {batch, out_channels};
  shape.insert(shape.end(), window.output.begin(), window.output.end());
  std::vector<double> sums(static_cast<std::size_t>(batch * out_channels * out_plane));
  for (std::int64_t i = 0; i < batch * out_channels; ++i)
    std::fill_n(sums.begin() + static_cast<std::ptrdiff_t>(i * out_plane), out_plane, bias[static_cast<std::size_t>(i % out_channels)]);
  if (sums.empty() || src.empty()) return finish(std::move(shape), out_channels, out_plane, sums);
  const std::size_t rank = window.kernel.size();
  std::vector<std::int64_t> tap(rank, 0);
  for (std::int64_t t = 0; t < taps; ++t) {
    std::vector<std::int64_t> at(rank, 0);
    for (std::int64_t p = 0; p < in_plane; ++p) {
      std::int64_t flat = 0;
      bool inside = true;
      for (std::size_t d = 0; d < rank; ++d) {
        const std::int64_t i = at[d] * window.stride[d] + tap[d] * window.dilation[d] - window.pad_begin[d];
        inside = inside && i >= 0 && i < window.output[d];
        flat = flat * window.output[d] + i;
      }
      next(at, window.input);
      if (!inside) continue;
      for (std::int64_t n = 0; n < batch; ++n) {
        for (std::int64_t c = 0; c < in_channels; ++c) {
          const double value = src[static_cast<std::size_t>((n * in_channels + c) * in_plane + p)];
          for (std::int64_t o = 0; o < group_out; ++o)
            sums[static_cast<std::size_t>((n * out_channels + c / group_in * group_out + o) * out_plane + flat)] +=
                value * wei[static_cast<std::size_t>((c * group_out + o) * taps + t)];
        }
      }
    }
    next(tap, window.kernel);
  }
  return finish(std::move(shape), out_channels, out_plane, sums);
}

Accumulators simulate_matmul(const QuantizedGraph& model, const Node& node, const Tensor& a, const Tensor& b) {
  const bool transposed = node.op_type == "Gemm" && node.get_int("transB", 0) != 0;
  const QuantParams& wei_params = *model.params_of(node.input(1));
  Shape sa = a.shape();
  Shape sb = b.shape();
  if (sa.empty() || sb.empty()) fail_node(node, "an operand is a scalar");
  const bool row_vector = sa.size() == 1;
  const bool column_vector = sb.size() == 1;
  if (row_vector) sa.insert(sa.begin(), 1);
  if (column_vector) sb.push_back(1);
  const std::int64_t m = sa[sa.size() - 2];
  const std::int64_t k = sa.back();
  const std::int64_t n = transposed ? sb[sb.size() - 2] : sb.back();
  if ((transposed ? sb.back() : sb[sb.size() - 2]) != k)
    fail_node(node, "shapes {} and {} do not multiply", to_string(a.shape()), to_string(b.shape()));

  const std::vector<double> left = centred(a, model.params_of(node.input(0))->zero_point[0]);
  const std::vector<double> right = wei_params.per_tensor() ? centred(b, wei_params.zero_point[0]) : centred_weights(model, node, b);
  const std::vector<double> bias = bias_of(model, node, n);

  Shape batch;
  const std::size_t batch_rank = std::max(sa.size(), sb.size()) - 2;
  for (std::size_t i = 0; i < batch_rank; ++i) {
    const std::int64_t da = i + sa.size() < batch_rank + 2 ? 1 : sa[i + sa.size() - 2 - batch_rank];
    const std::int64_t db = i + sb.size() < batch_rank + 2 ? 1 : sb[i + sb.size() - 2 - batch_rank];
    if (da != db && da != 1 && db != 1) fail_node(node, "shapes {} and {} do not broadcast", to_string(a.shape()), to_string(b.shape()));
    batch.push_back(da == 1 ? db : da);
  }
  const std::int64_t batches = element_count(batch);
  std::vector<double> sums(static_cast<std::size_t>(batches * m * n));
  std::vector<std::int64_t> at(batch_rank, 0);
  for (std::int64_t i = 0; i < batches; ++i) {
    const auto offset = [&](const Shape& s) {
      std::int64_t flat = 0;
      for (std::size_t d = 0; d + 2 < s.size(); ++d) {
        const std::size_t axis = batch_rank + 2 - s.size() + d;
        flat = flat * s[d] + (s[d] == 1 ? 0 : at[axis]);
      }
      return flat;
    };
    const double* l = left.data() + offset(sa) * m * k;
    const double* r = right.data() + offset(sb) * k * n;
    double* out = sums.data() + i * m * n;
    for (std::int64_t row = 0; row < m; ++row) {
      std::copy(bias.begin(), bias.end(), out + row * n);
      for (std::int64_t j = 0; j < k; ++j) {
        const double value = l[row * k + j];
        if (value == 0.0) continue;
        for (std::int64_t col = 0; col < n; ++col) out[row * n + col] += value * r[transposed ? col * k + j : j * n + col];
      }
    }
    next(at, batch);
  }
  Shape shape = batch;
  if (!row_vector) shape.push_back(m);
  if (!column_vector) shape.push_back(n);
  return finish(std::move(shape), n, 1, sums);
}

Averages simulate_average(const QuantizedGraph& model, const Node& node, const Tensor& x) {
  const std::vector<double> src = centred(x, model.params_of(node.input(0))->zero_point[0]);
  Averages result;
  const auto rank = static_cast<std::int64_t>(x.shape().size());
  if (node.op_type == "AveragePool") {
    const Window window = pool_window(node, x.shape());
    const bool count_padding = node.get_int("count_include_pad", 0) != 0;
    const std::int64_t planes = x.shape()[0] * x.shape()[1];
    const std::int64_t in_plane = element_count(window.input);
    const std::int64_t out_plane = element_count(window.output);
    result.shape = {x.shape()[0], x.shape()[1]};
    result.shape.insert(result.shape.end(), window.output.begin(), window.output.end());
    result.sums.resize(static_cast<std::size_t>(planes * out_plane));
    result.counts.resize(result.sums.size());
    for (std::int64_t plane = 0; plane < planes; ++plane) {
      std::vector<std::int64_t> at(window.output.size(), 0);
      for (std::int64_t p = 0; p < out_plane; ++p) {
        double sum = 0;
        std::int64_t inside_count = 0;
        std::int64_t padded_count = 0;
        std::vector<std::int64_t> tap(window.kernel.size(), 0);
        do {
          std::int64_t flat = 0;
          bool inside = true;
          bool in_padding = true;
          for (std::size_t d = 0; d < tap.size(); ++d) {
            const std::int64_t i = at[d] * window.stride[d] + tap[d] * window.dilation[d] - window.pad_begin[d];
            inside = inside && i >= 0 && i < window.input[d];
            // What ceil_mode adds beyond the padding is never counted.
            in_padding = in_padding && i < window.input[d] + window.pad_end[d];
            flat = flat * window.input[d] + i;
          }
          padded_count += in_padding ? 1 : 0;
          if (!inside) continue;
          ++inside_count;
          sum += src[static_cast<std::size_t>(plane * in_plane + flat)];
        } while (next(tap, window.kernel));
        const auto i = static_cast<std::size_t>(plane * out_plane + p);
        result.sums[i] = static_cast<std::int64_t>(sum);
        result.counts[i] = std::max<std::int64_t>(1, count_padding ? padded_count : inside_count);
        next(at, window.output);
      }
    }
    return result;
  }

  // GlobalAveragePool is the mean over all spatial axes.
  std::vector<bool> reduced(static_cast<std::size_t>(rank), false);
  bool keep = true;
  if (node.op_type == "GlobalAveragePool") {
    for (std::int64_t i = 2; i < rank; ++i) reduced[static_cast<std::size_t>(i)] = true;
  } else {
    keep = node.get_int("keepdims", 1) != 0;
    std::vector<std::int64_t> axes = node.get_ints("axes").value_or(std::vector<std::int64_t>{});
    if (node.input(1) != kNoValue) axes = to_int64s(*model.graph.value(node.input(1)).constant);
    if (axes.empty() && node.get_int("noop_with_empty_axes", 0) == 0) std::fill(reduced.begin(), reduced.end(), true);
    for (const std::int64_t axis : axes) {
      if (axis < -rank || axis >= rank) fail_node(node, "axis {} is out of range for rank {}", axis, rank);
      reduced[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)] = true;
    }
  }
  std::vector<std::int64_t> step(static_cast<std::size_t>(rank), 0);
  std::int64_t stride = 1;
  std::int64_t count = 1;
  for (std::size_t i = static_cast<std::size_t>(rank); i-- > 0;) {
    if (reduced[i]) {
      count *= x.shape()[i];
    } else {
      step[i] = stride;
      stride *= x.shape()[i];
    }
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(rank); ++i) {
    if (!reduced[i]) result.shape.push_back(x.shape()[i]);
    else if (keep) result.shape.push_back(1);
  }
  std::vector<double> sums(static_cast<std::size_t>(stride), 0.0);
  std::vector<std::int64_t> at(static_cast<std::size_t>(rank), 0);
  for (const double value : src) {
    std::int64_t flat = 0;
    for (std::size_t i = 0; i < at.size(); ++i) flat += at[i] * step[i];
    sums[static_cast<std::size_t>(flat)] += value;
    next(at, x.shape());
  }
  result.sums.resize(sums.size());
  for (std::size_t i = 0; i < sums.size(); ++i) result.sums[i] = static_cast<std::int64_t>(sums[i]);
  result.counts.assign(sums.size(), std::max<std::int64_t>(1, count));
  return result;
}

}  // namespace nibble
