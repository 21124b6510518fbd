// What nodes in plain loops share: operands and results as codes in 32 bits, in the ONNX layout, and the loops themselves.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "quantize/window_geometry.h"
#include "runtime/plan_builder.h"

namespace nibble {

using Codes = std::vector<std::int32_t>;

// An activation operand.
struct Operand {
  ValueId value = kNoValue;
  Shape shape;
  bool stored = false;
  Ref ref;                  // stored: bytes, `offset` above the codes
  std::int32_t offset = 0;
  std::int32_t zero_point = 0;
  std::shared_ptr<const Codes> constant;

  // Codes minus `minus`.
  Codes load(const RunContext& run, std::int32_t minus) const;
  Codes load_centred(const RunContext& run) const { return load(run, zero_point); }
};
Operand operand_of(PlanBuilder& plan, const Node& node, ValueId v);

// Where a result goes.
struct Result {
  ValueId value = kNoValue;
  Shape shape;
  bool stored = false;
  Ref ref;
  std::int32_t offset = 0;
  DataType type = DataType::kInt16;

  void store(const RunContext& run, const Codes& codes) const;
};
Result result_of(PlanBuilder& plan, const Node& node, ValueId v);

struct ConvLoops {
  std::int64_t groups = 1, group_in = 1, group_out = 1, in_plane = 1, out_plane = 1, taps = 1;
  bool transposed = false;
  std::vector<std::int32_t> source;  // [taps, out_plane]: the input position, -1 in the padding
};

// Every output position has one source for each tap, in transposed convolutions too: there it is where the step lands on a pixel.
ConvLoops conv_loops(const Node& node, const Window& w, const Shape& x, const Shape& y);

// Output channels [begin, end) of one image's group: input planes are gathered tap by tap and added to all of them.
// `finish(acc, channel)` makes an output of a sum.
template <typename Acc, typename Finish>
void convolve(const ConvLoops& loops, const std::int32_t* image, const Codes& weights, const Codes& bias, const Finish& finish, std::int64_t group,
              std::int64_t begin, std::int64_t end, std::int32_t* out) {
  const auto plane = static_cast<std::size_t>(loops.out_plane);
  std::vector<Acc> acc(static_cast<std::size_t>(end - begin) * plane);
  std::vector<std::int32_t> column(plane);
  for (std::int64_t o = begin; o < end; ++o)
    std::fill_n(acc.begin() + static_cast<std::ptrdiff_t>((o - begin) * loops.out_plane), plane,
                static_cast<Acc>(bias[static_cast<std::size_t>(group * loops.group_out + o)]));
  for (std::int64_t c = 0; c < loops.group_in; ++c) {
    const std::int32_t* in = image + (group * loops.group_in + c) * loops.in_plane;
    for (std::int64_t t = 0; t < loops.taps; ++t) {
      const std::int32_t* source = loops.source.data() + t * loops.out_plane;
      for (std::size_t p = 0; p < plane; ++p) column[p] = source[p] < 0 ? 0 : in[source[p]];
      for (std::int64_t o = begin; o < end; ++o) {
        const std::int64_t row =
            loops.transposed ? (group * loops.group_in + c) * loops.group_out + o : (group * loops.group_out + o) * loops.group_in + c;
        const Acc w = weights[static_cast<std::size_t>(row * loops.taps + t)];
        if (w == 0) continue;
        Acc* sums = acc.data() + static_cast<std::size_t>(o - begin) * plane;
        for (std::size_t p = 0; p < plane; ++p) sums[p] += w * static_cast<Acc>(column[p]);
      }
    }
  }
  for (std::int64_t o = begin; o < end; ++o) {
    const std::int64_t channel = group * loops.group_out + o;
    for (std::size_t p = 0; p < plane; ++p)
      out[static_cast<std::size_t>(channel) * plane + p] = finish(acc[static_cast<std::size_t>(o - begin) * plane + p], channel);
  }
}

// The products of a matrix multiplication with NumPy's broadcasting: where their left and right sides begin.
struct MatrixLoops {
  struct Product {
    std::int64_t left = 0, right = 0;
  };
  std::int64_t m = 1, k = 1, n = 1;
  bool transposed = false;  // right is [n, k]
  std::vector<Product> products;
};
MatrixLoops matrix_loops(const Node& node, Shape left, Shape right);

// Rows of `left` [m, k] times `right` [k, n].
template <typename Acc, typename Finish>
void multiply(const std::int32_t* left, const std::int32_t* right, bool transposed, std::int64_t m, std::int64_t k, std::int64_t n, const Codes& bias,
              const Finish& finish, std::int32_t* out) {
  std::vector<Acc> acc(static_cast<std::size_t>(n));
  for (std::int64_t row = 0; row < m; ++row) {
    for (std::size_t col = 0; col < acc.size(); ++col) acc[col] = bias.empty() ? 0 : static_cast<Acc>(bias[col]);
    for (std::int64_t j = 0; j < k; ++j) {
      const Acc value = left[row * k + j];
      if (value == 0) continue;
      if (transposed) {
        for (std::int64_t col = 0; col < n; ++col) acc[static_cast<std::size_t>(col)] += value * static_cast<Acc>(right[col * k + j]);
      } else {
        const std::int32_t* r = right + j * n;
        for (std::size_t col = 0; col < acc.size(); ++col) acc[col] += value * static_cast<Acc>(r[col]);
      }
    }
    for (std::int64_t col = 0; col < n; ++col) out[row * n + col] = finish(acc[static_cast<std::size_t>(col)], col);
  }
}

}  // namespace nibble
