// The exact bound of a layer's accumulator: for each output channel the sum of the largest (smallest) products that the grid of the inputs allows,
// plus the bias (docs/arithmetic.md, Eq. 25).
#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <type_traits>

#include "nibble/quantize.h"
#include "ops/base_products.h"
#include "quantize/integer_form.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

int bits_for(std::int64_t lo, std::int64_t hi) {
  // Two's complement: n bits hold [-2^(n-1), 2^(n-1) - 1].
  const auto magnitude = std::max(static_cast<std::uint64_t>(hi < 0 ? 0 : hi), static_cast<std::uint64_t>(lo < 0 ? -(lo + 1) : 0));
  return static_cast<int>(std::bit_width(magnitude)) + 1;
}

// What is above its zero point in a channel, summed, and what is below.
struct Sides {
  std::int64_t above = 0, below = 0;
};

// Runs of one channel (convolutions) and rows over the channels (matrices) are plain loops over the codes: loading a model ends with this.
template <typename T>
std::vector<Sides> sum_sides(std::span<const T> codes, const WeightLayout& layout, const std::vector<std::int32_t>& zero_points) {
  using Sum = std::conditional_t<sizeof(T) == 1, std::int32_t, std::int64_t>;
  std::vector<Sides> result(static_cast<std::size_t>(layout.channels));
  const auto zero_of = [&](std::size_t o) { return static_cast<Sum>(zero_points[o % zero_points.size()]); };
  const auto inner = static_cast<std::size_t>(std::max<std::int64_t>(1, layout.inner));
  if (inner == 1 && layout.groups == 1) {
    for (std::size_t first = 0; first < codes.size(); first += result.size()) {
      for (std::size_t o = 0; o < result.size(); ++o) {
        const Sum w = static_cast<Sum>(codes[first + o]) - zero_of(o);
        result[o].above += std::max<Sum>(w, 0);
        result[o].below += std::min<Sum>(w, 0);
      }
    }
    return result;
  }
  constexpr std::size_t kRun = 1 << 16;  // as many differences of 9 bits fit into 32
  for (std::size_t first = 0; first < codes.size();) {
    const auto o = static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(first)));
    const Sum zero = zero_of(o);
    const std::size_t count = std::min({kRun, inner - first % inner, codes.size() - first});
    Sum above = 0;
    Sum below = 0;
    for (const T code : codes.subspan(first, count)) {
      const Sum w = static_cast<Sum>(code) - zero;
      above += std::max<Sum>(w, 0);
      below += std::min<Sum>(w, 0);
    }
    result[o].above += above;
    result[o].below += below;
    first += count;
  }
  return result;
}

std::vector<Sides> sides_of(const Tensor& codes, const WeightLayout& layout, const std::vector<std::int32_t>& zero_points) {
  if (codes.type() == DataType::kInt8) return sum_sides(codes.data<std::int8_t>(), layout, zero_points);
  if (codes.type() == DataType::kUInt8) return sum_sides(codes.data<std::uint8_t>(), layout, zero_points);
  const std::vector<std::int32_t> wide = codes_of(codes);
  return sum_sides(std::span<const std::int32_t>(wide), layout, zero_points);
}

std::optional<AccumulatorProof> prove_layer(const QuantizedGraph& model, const Node& node) {
  const Operands operands = operands_of(model.graph, node);
  if (!operands.weights || model.params_of(node.output(0)) == nullptr) return std::nullopt;
  const QuantParams* src = model.params_of(node.input(0));
  const QuantParams* wei = model.params_of(node.input(*operands.weights));
  const Value& weights = model.graph.value(node.input(*operands.weights));
  if (src == nullptr || wei == nullptr || !weights.constant) return std::nullopt;

  const WeightLayout layout = weight_layout(node, weights.constant->shape());
  std::vector<std::int64_t> bias(static_cast<std::size_t>(layout.channels), 0);
  if (operands.bias) {
    const std::vector<std::int32_t> b = codes_of(*model.graph.value(node.input(*operands.bias)).constant);
    for (std::size_t o = 0; o < bias.size(); ++o) bias[o] = b[b.size() == 1 ? 0 : o];
  }
  const std::int64_t x_lo = src->qmin() - src->zero_point[0];
  const std::int64_t x_hi = src->qmax() - src->zero_point[0];
  // Partial sums must fit as well as the last one; a sum of the positive (negative) products alone bounds them in any order.
  const std::int64_t most = std::max<std::int64_t>(x_hi, 0);
  const std::int64_t least = std::min<std::int64_t>(x_lo, 0);
  const bool blocks = std::holds_alternative<PerBlock>(wei->granularity);
  const std::vector<std::int32_t> centred = blocks ? centred_codes(node, *weights.constant, *wei) : std::vector<std::int32_t>();
  const std::vector<Sides> sides =
      blocks ? sum_sides(std::span(centred), layout, {0}) : sides_of(*weights.constant, layout, wei->zero_point);
  AccumulatorProof proof;
  for (std::size_t o = 0; o < bias.size(); ++o) {
    const Sides& w = sides[o];
    proof.lo = std::min(proof.lo, w.above * least + w.below * most + std::min<std::int64_t>(bias[o], 0));
    proof.hi = std::max(proof.hi, w.above * most + w.below * least + std::max<std::int64_t>(bias[o], 0));
  }
  proof.bits_needed = bits_for(proof.lo, proof.hi);
  const auto terms = static_cast<double>(std::max<std::int64_t>(1, layout.reduction));
  proof.worst_case_bits = src->type.bit_width + wei->type.bit_width + static_cast<int>(std::ceil(std::log2(terms)));
  return proof;
}

}  // namespace

std::optional<AccumulatorProof> prove_accumulator(const QuantizedGraph& model, NodeId id) {
  const Node& node = model.graph.node(id);
  if (!is_base_products(node)) return prove_layer(model, node);
  // Each accumulator by itself: the bound of the widest.
  const BaseOperands operands = base_operands(node);
  std::optional<AccumulatorProof> result;
  for (std::size_t i = 0; i < operands.activations; ++i) {
    for (std::size_t j = 0; j < operands.weights; ++j) {
      const auto proof = prove_layer(model, product_of(node, i, j));
      if (!proof) return std::nullopt;
      if (!result) result = proof;
      result->lo = std::min(result->lo, proof->lo);
      result->hi = std::max(result->hi, proof->hi);
      result->bits_needed = std::max(result->bits_needed, proof->bits_needed);
      result->worst_case_bits = std::max(result->worst_case_bits, proof->worst_case_bits);
    }
  }
  return result;
}

}  // namespace nibble
