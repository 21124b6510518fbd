// The exact bound of a layer's accumulator: for each output channel the sum of the largest (smallest) products that the grid of the inputs allows,
// plus the bias (docs/arithmetic.md, Eq. 25).
#include <algorithm>
#include <bit>
#include <cmath>

#include "nibble/quantize.h"
#include "quantize/integer_form.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

int bits_for(std::int64_t lo, std::int64_t hi) {
  // Two's complement: n bits hold [-2^(n-1), 2^(n-1) - 1].
  const auto magnitude = std::max(static_cast<std::uint64_t>(hi < 0 ? 0 : hi), static_cast<std::uint64_t>(lo < 0 ? -(lo + 1) : 0));
  return static_cast<int>(std::bit_width(magnitude)) + 1;
}

}  // namespace

std::optional<AccumulatorProof> prove_accumulator(const QuantizedGraph& model, NodeId id) {
  const Node& node = model.graph.node(id);
  const Operands operands = operands_of(model.graph, node);
  if (!operands.weights || model.params_of(node.output(0)) == nullptr) return std::nullopt;
  const QuantParams* src = model.params_of(node.input(0));
  const QuantParams* wei = model.params_of(node.input(*operands.weights));
  const Value& weights = model.graph.value(node.input(*operands.weights));
  if (src == nullptr || wei == nullptr || !weights.constant) return std::nullopt;

  const WeightLayout layout = weight_layout(node, weights.constant->shape());
  const std::vector<std::int32_t> codes = codes_of(*weights.constant);
  std::vector<std::int64_t> bias(static_cast<std::size_t>(layout.channels), 0);
  if (operands.bias) {
    const std::vector<std::int32_t> b = codes_of(*model.graph.value(node.input(*operands.bias)).constant);
    for (std::size_t o = 0; o < bias.size(); ++o) bias[o] = b[b.size() == 1 ? 0 : o];
  }
  const std::int64_t x_lo = src->qmin() - src->zero_point[0];
  const std::int64_t x_hi = src->qmax() - src->zero_point[0];
  // Partial sums must fit as well as the last one; a sum of the positive (negative) products alone bounds them in any order.
  std::vector<std::int64_t> lo(bias.size(), 0);
  std::vector<std::int64_t> hi(bias.size(), 0);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const auto o = static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i)));
    const std::int64_t w = codes[i] - wei->zero_point[o % wei->zero_point.size()];
    lo[o] += std::min({w * x_lo, w * x_hi, std::int64_t{0}});
    hi[o] += std::max({w * x_lo, w * x_hi, std::int64_t{0}});
  }
  AccumulatorProof proof;
  for (std::size_t o = 0; o < bias.size(); ++o) {
    proof.lo = std::min(proof.lo, lo[o] + std::min<std::int64_t>(bias[o], 0));
    proof.hi = std::max(proof.hi, hi[o] + std::max<std::int64_t>(bias[o], 0));
  }
  proof.bits_needed = bits_for(proof.lo, proof.hi);
  const auto terms = static_cast<double>(std::max<std::int64_t>(1, layout.reduction));
  proof.worst_case_bits = src->type.bit_width + wei->type.bit_width + static_cast<int>(std::ceil(std::log2(terms)));
  return proof;
}

}  // namespace nibble
