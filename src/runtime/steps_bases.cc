// Layers whose weights or activations are sums of bases: an accumulator in 32 bits for each pair of them, in plain loops, and one requantization for all.
#include "base/fail.h"
#include "quantize/base_products_form.h"
#include "quantize/node_arithmetic.h"
#include "runtime/wide_loops.h"

namespace nibble {
namespace {

// Adds up one product of bases.
using Accumulate = std::function<void(const RunContext& run, const Codes& in, const Codes& weights, std::int32_t* out)>;

std::int32_t as_it_is(std::int32_t acc, std::int64_t) { return acc; }

Accumulate convolution(PlanBuilder& plan, const Node& layer, const Shape& x, const Shape& w, const Shape& y) {
  const Window window = layer.op_type == "Conv" ? conv_window(layer, x, w) : conv_transpose_window(layer, x, w);
  const auto loops = plan.own(conv_loops(layer, window, x, y));
  const auto no_bias = plan.own(Codes(static_cast<std::size_t>(y[1]), 0));
  const std::int64_t batch = y[0];
  const std::int64_t image_out = y[1] * loops->out_plane;
  return [=](const RunContext& run, const Codes& in, const Codes& weights, std::int32_t* out) {
    constexpr std::int64_t kChunk = 8;
    const std::int64_t chunks = (loops->group_out + kChunk - 1) / kChunk;
    const std::int64_t image = loops->groups * loops->group_in * loops->in_plane;
    run.pool->parallel_for(batch * loops->groups * chunks, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        const std::int64_t n = i / (loops->groups * chunks);
        const std::int64_t begin = i % chunks * kChunk;
        convolve<std::int32_t>(*loops, in.data() + n * image, weights, *no_bias, as_it_is, i / chunks % loops->groups, begin,
                               std::min(begin + kChunk, loops->group_out), out + n * image_out);
      }
    });
  };
}

Accumulate product(PlanBuilder& plan, const Node& layer, const Shape& x, const Shape& w) {
  const auto loops = plan.own(matrix_loops(layer, x, w));
  return [=](const RunContext& run, const Codes& in, const Codes& weights, std::int32_t* out) {
    run.pool->parallel_for(static_cast<std::int64_t>(loops->products.size()), 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        const MatrixLoops::Product& p = loops->products[static_cast<std::size_t>(i)];
        multiply<std::int32_t>(in.data() + p.left, weights.data() + p.right, loops->transposed, loops->m, loops->k, loops->n, Codes(), as_it_is,
                               out + i * loops->m * loops->n);
      }
    });
  };
}

}  // namespace

void lower_base_products(PlanBuilder& plan, const Node& node) {
  const PreparedBases* prepared = plan.prepared<PreparedBases>();
  const BaseOperands operands = base_operands(node);
  std::vector<Operand> activations;
  for (std::size_t i = 0; i < operands.activations; ++i) {
    activations.push_back(operand_of(plan, node, operands.activation(node, i)));
    if (activations[i].shape != activations[0].shape)
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): its activations {} and {} do not add up", node.name, layer_op(node), to_string(activations[0].shape),
           to_string(activations[i].shape));
  }
  const Result y = result_of(plan, node, node.output(0));
  const Node layer = product_of(node, 0, 0);
  const bool convolves = layer.op_type == "Conv" || layer.op_type == "ConvTranspose";
  const Shape& x = activations[0].shape;
  const Shape& w = plan.model().graph.value(operands.weight(node, 0)).constant->shape();
  const Accumulate accumulate = convolves ? convolution(plan, layer, x, w, y.shape) : product(plan, layer, x, w);
  const auto requantizers = plan.own(base_requantizers(plan.model(), node));
  const OutputGrid grid = output_grid(plan.params(node.output(0)), node);
  const auto size = static_cast<std::size_t>(element_count(y.shape));
  // Elements of one channel that lie together.
  const std::size_t channels = requantizers->size();
  const std::size_t inner = convolves && size > 0 ? size / static_cast<std::size_t>(y.shape[0]) / channels : 1;
  const auto pairs = static_cast<std::int64_t>(operands.activations * operands.weights);
  const std::int64_t reduction = element_count(w) / static_cast<std::int64_t>(channels);
  plan.add_step(node, "bases_" + std::to_string(operands.activations) + "x" + std::to_string(operands.weights),
                pairs * static_cast<std::int64_t>(size) * reduction, [=](const RunContext& run) {
                  std::vector<std::int32_t> sums(size * static_cast<std::size_t>(pairs));
                  std::size_t at = 0;
                  for (const Operand& activation : activations) {
                    const Codes in = activation.load_centred(run);
                    for (const Codes& weights : prepared->weights) accumulate(run, in, weights, sums.data() + size * at++);
                  }
                  Codes out(size);
                  for (std::size_t k = 0; k < size; ++k)
                    out[k] = static_cast<std::int32_t>((*requantizers)[k / inner % channels](sums.data() + k, size, grid));
                  y.store(run, out);
                });
}

}  // namespace nibble
