// Integer nodes with more bits than the kernels take: 16-bit activations or weights. Plain loops over codes in 32 bits, in the ONNX layout; sums in 32 bits
// where the accumulator proof allows it, in 64 where it does not. Operands of 8 bits come from the arena, wider ones are tensors.
#include <algorithm>
#include <map>
#include <memory>
#include <numeric>

#include "base/fail.h"
#include "ops/evaluate.h"
#include "ops/op.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"
#include "quantize/weights.h"
#include "quantize/window_geometry.h"
#include "runtime/wide_loops.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

// --- sums of products ----------------------------------------------------------------------------------------------------------------------

// What a layer's sums become.
struct Finish {
  std::vector<Requantizer> requantizers;  // one, or one a channel
  OutputGrid grid;
  std::int32_t operator()(std::int64_t acc, std::int64_t channel) const {
    return static_cast<std::int32_t>(requantizers[requantizers.size() == 1 ? 0 : static_cast<std::size_t>(channel)](acc, grid));
  }
};

Finish finish_of(const PlanBuilder& plan, const Node& node) {
  return {compute_requantizers(plan.model(), node), output_grid(plan.params(node.output(0)), node)};
}

void lower_wide_conv(PlanBuilder& plan, const Node& node, const PreparedWide& prepared) {
  const Operand x = operand_of(plan, node, node.input(0));
  const Result y = result_of(plan, node, node.output(0));
  const Shape& w = plan.model().graph.value(node.input(1)).constant->shape();
  const Window window = node.op_type == "Conv" ? conv_window(node, x.shape, w) : conv_transpose_window(node, x.shape, w);
  const auto loops = plan.own(conv_loops(node, window, x.shape, y.shape));
  const auto finish = plan.own(finish_of(plan, node));
  const std::int64_t channels = y.shape[1];
  const std::int64_t batch = y.shape[0];
  constexpr std::int64_t kChunk = 8;
  const std::int64_t chunks = (loops->group_out + kChunk - 1) / kChunk;
  const std::int64_t macs = batch * channels * loops->out_plane * loops->taps * loops->group_in;
  const PreparedWide* wide = &prepared;
  plan.add_step(node, prepared.in_32_bits ? "wide_conv_32" : "wide_conv_64", macs, [=](const RunContext& run) {
    const Codes in = x.load_centred(run);
    Codes out(static_cast<std::size_t>(batch * channels * loops->out_plane));
    const std::int64_t image = loops->groups * loops->group_in * loops->in_plane;
    run.pool->parallel_for(batch * loops->groups * chunks, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        const std::int64_t n = i / (loops->groups * chunks);
        const std::int64_t begin = i % chunks * kChunk;
        const auto run_part = wide->in_32_bits ? convolve<std::int32_t, Finish> : convolve<std::int64_t, Finish>;
        run_part(*loops, in.data() + n * image, wide->weights, wide->bias, *finish, i / chunks % loops->groups, begin,
                 std::min(begin + kChunk, loops->group_out), out.data() + n * channels * loops->out_plane);
      }
    });
    y.store(run, out);
  });
}

void lower_wide_matmul(PlanBuilder& plan, const Node& node, const PreparedWide* prepared) {
  const Operand a = operand_of(plan, node, node.input(0));
  const Operand b = prepared != nullptr ? Operand() : operand_of(plan, node, node.input(1));
  const Result y = result_of(plan, node, node.output(0));
  const Shape& right_shape = prepared != nullptr ? plan.model().graph.value(node.input(1)).constant->shape() : b.shape;
  const auto loops = plan.own(matrix_loops(node, a.shape, right_shape));
  const auto count = static_cast<std::int64_t>(loops->products.size());
  const auto finish = plan.own(finish_of(plan, node));
  const bool small = prepared != nullptr && prepared->in_32_bits;
  plan.add_step(node, small ? "wide_matmul_32" : "wide_matmul_64", count * loops->m * loops->n * loops->k, [=](const RunContext& run) {
    const Codes left = a.load_centred(run);
    const Codes loaded = prepared != nullptr ? Codes() : b.load_centred(run);
    const Codes& right = prepared != nullptr ? prepared->weights : loaded;
    const Codes bias = prepared != nullptr ? prepared->bias : Codes();
    const std::int64_t block = loops->m * loops->n;
    Codes out(static_cast<std::size_t>(count * block));
    run.pool->parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const MatrixLoops::Product& p = loops->products[static_cast<std::size_t>(i)];
        const auto run_part = small ? multiply<std::int32_t, Finish> : multiply<std::int64_t, Finish>;
        run_part(left.data() + p.left, right.data() + p.right, loops->transposed, loops->m, loops->k, loops->n, bias, *finish, out.data() + i * block);
      }
    });
    y.store(run, out);
  });
}

// --- element by element --------------------------------------------------------------------------------------------------------------------

// Offsets of an operand's elements for each element of the result, by NumPy's broadcasting.
std::vector<std::int32_t> broadcast_offsets(const Shape& from, const Shape& to) {
  std::vector<std::int64_t> step(to.size(), 0);
  std::int64_t stride = 1;
  for (std::size_t d = from.size(); d-- > 0;) {
    if (from[d] != 1) step[to.size() - from.size() + d] = stride;
    stride *= from[d];
  }
  std::vector<std::int32_t> offsets(static_cast<std::size_t>(element_count(to)));
  std::vector<std::int64_t> at(to.size(), 0);
  std::int64_t flat = 0;
  for (std::int32_t& offset : offsets) {
    offset = static_cast<std::int32_t>(flat);
    for (std::size_t d = to.size(); d-- > 0;) {
      flat += step[d];
      if (++at[d] < to[d]) break;
      at[d] = 0;
      flat -= step[d] * to[d];
    }
  }
  return offsets;
}

void lower_wide_arithmetic(PlanBuilder& plan, const Node& node) {
  const Operand a = operand_of(plan, node, node.input(0));
  const Operand b = operand_of(plan, node, node.input(1));
  const Result y = result_of(plan, node, node.output(0));
  const auto from_a = plan.own(broadcast_offsets(a.shape, y.shape));
  const auto from_b = plan.own(broadcast_offsets(b.shape, y.shape));
  const OutputGrid grid = output_grid(plan.params(node.output(0)), node);
  const bool multiplies = node.op_type == "Mul";
  const Adder adder = multiplies ? Adder{} : node_adder(plan.model(), node);
  const Requantizer requantizer = multiplies ? mul_requantizer(plan.model(), node) : Requantizer{};
  plan.add_step(node, "wide_" + node.op_type, 0, [=](const RunContext& run) {
    const Codes ca = a.load(run, 0);
    const Codes cb = b.load(run, 0);
    Codes out(from_a->size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::int32_t p = ca[static_cast<std::size_t>((*from_a)[i])];
      const std::int32_t q = cb[static_cast<std::size_t>((*from_b)[i])];
      out[i] = static_cast<std::int32_t>(multiplies ? multiply_elements(p, a.zero_point, q, b.zero_point, requantizer, grid) : adder(p, q, grid));
    }
    y.store(run, out);
  });
}

void lower_wide_table(PlanBuilder& plan, const Node& node) {
  const Operand x = operand_of(plan, node, node.input(0));
  const Result y = result_of(plan, node, node.output(0));
  const auto table = plan.own(unary_table(plan.model(), node));
  const auto lowest = static_cast<std::int32_t>(plan.params(node.input(0)).qmin());
  plan.add_step(node, "wide_table", 0, [=](const RunContext& run) {
    Codes codes = x.load(run, lowest);
    const auto last = static_cast<std::int32_t>(table->size()) - 1;
    for (std::int32_t& q : codes) q = (*table)[static_cast<std::size_t>(std::clamp(q, 0, last))];
    y.store(run, codes);
  });
}

// --- averages --------------------------------------------------------------------------------------------------------------------------------

// Which elements of the input each output takes, and by how many it divides.
struct Windows {
  std::vector<std::int32_t> members;       // one output's behind the other's
  std::vector<std::int64_t> first;         // by output, and the end
  std::vector<std::int64_t> count;         // by output
};

Windows mean_windows(const Node& node, PlanBuilder& plan, const Shape& x) {
  const auto rank = static_cast<std::int64_t>(x.size());
  std::vector<bool> reduced(x.size(), false);
  if (node.op_type == "GlobalAveragePool") {
    for (std::size_t d = 2; d < x.size(); ++d) reduced[d] = true;
  } else {
    std::vector<std::int64_t> axes = node.get_ints("axes").value_or(std::vector<std::int64_t>{});
    if (node.input(1) != kNoValue && plan.known(node.input(1)) != nullptr) axes = to_int64s(*plan.known(node.input(1)));
    if (axes.empty() && node.get_int("noop_with_empty_axes", 0) == 0) reduced.assign(x.size(), true);
    for (const std::int64_t axis : axes) {
      if (axis < -rank || axis >= rank) fail(ErrorCode::kInvalidModel, "node '{}' (ReduceMean): axis {} is out of range", node.name, axis);
      reduced[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)] = true;
    }
  }
  Shape kept;
  std::int64_t count = 1;
  for (std::size_t d = 0; d < x.size(); ++d) {
    kept.push_back(reduced[d] ? 1 : x[d]);
    count *= reduced[d] ? x[d] : 1;
  }
  const std::vector<std::int32_t> output_of = broadcast_offsets(kept, x);
  Windows windows;
  const auto outputs = static_cast<std::size_t>(element_count(kept));
  windows.first.assign(outputs + 1, 0);
  for (const std::int32_t o : output_of) ++windows.first[static_cast<std::size_t>(o) + 1];
  std::partial_sum(windows.first.begin(), windows.first.end(), windows.first.begin());
  windows.members.resize(output_of.size());
  std::vector<std::int64_t> next = windows.first;
  for (std::size_t i = 0; i < output_of.size(); ++i)
    windows.members[static_cast<std::size_t>(next[static_cast<std::size_t>(output_of[i])]++)] = static_cast<std::int32_t>(i);
  windows.count.assign(outputs, std::max<std::int64_t>(1, count));
  return windows;
}

Windows pool_windows(const Node& node, const Shape& x) {
  const Window w = pool_window(node, x);
  const bool padded_too = node.get_int("count_include_pad", 0) != 0;
  const std::int64_t planes = x[0] * x[1];
  const std::int64_t in_plane = element_count(w.input);
  const std::int64_t out_plane = element_count(w.output);
  const std::int64_t taps = element_count(w.kernel);
  Windows windows;
  windows.first.push_back(0);
  for (std::int64_t plane = 0; plane < planes; ++plane) {
    for (std::int64_t p = 0; p < out_plane; ++p) {
      std::int64_t counted = 0;
      for (std::int64_t t = 0; t < taps; ++t) {
        const auto [inside, padded, flat] = tap_of(w, p, t);
        counted += (padded_too ? padded : inside) ? 1 : 0;
        if (inside) windows.members.push_back(static_cast<std::int32_t>(plane * in_plane + flat));
      }
      windows.first.push_back(static_cast<std::int64_t>(windows.members.size()));
      windows.count.push_back(std::max<std::int64_t>(1, counted));
    }
  }
  return windows;
}

void lower_wide_average(PlanBuilder& plan, const Node& node) {
  const Operand x = operand_of(plan, node, node.input(0));
  const Result y = result_of(plan, node, node.output(0));
  const auto windows = plan.own(node.op_type == "AveragePool" ? pool_windows(node, x.shape) : mean_windows(node, plan, x.shape));
  const OutputGrid grid = output_grid(plan.params(node.output(0)), node);
  std::map<std::int64_t, Requantizer> by_count;
  for (const std::int64_t count : windows->count) {
    if (!by_count.contains(count)) by_count.emplace(count, average_requantizer(plan.model(), node, count));
  }
  const auto requantizers = plan.own(std::move(by_count));
  plan.add_step(node, "wide_average", 0, [=](const RunContext& run) {
    const Codes in = x.load_centred(run);
    Codes out(windows->count.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      std::int64_t sum = 0;
      for (auto k = static_cast<std::size_t>(windows->first[i]); k < static_cast<std::size_t>(windows->first[i + 1]); ++k)
        sum += in[static_cast<std::size_t>(windows->members[k])];
      out[i] = static_cast<std::int32_t>(requantizers->at(windows->count[i])(sum, grid));
    }
    y.store(run, out);
  });
}

// --- what moves and selects ------------------------------------------------------------------------------------------------------------------

// The op itself, on codes as float32: whole numbers of 16 bits are exact there, and every op takes floats.
void lower_wide_move(PlanBuilder& plan, const Node& node) {
  const std::vector<std::size_t> data = operands_of(plan.model().graph, node).activations;
  struct Input {
    bool is_data = false;
    Operand operand;
    ValueId value = kNoValue;
    std::shared_ptr<const Tensor> tensor;
  };
  std::vector<Input> inputs;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    Input input;
    input.value = node.inputs[i];
    input.is_data = std::find(data.begin(), data.end(), i) != data.end();
    if (input.is_data) {
      input.operand = operand_of(plan, node, node.inputs[i]);
    } else if (const Tensor* known = plan.known(node.inputs[i])) {
      input.tensor = std::make_shared<const Tensor>(*known);
    }
    inputs.push_back(std::move(input));
  }
  Node copy = node;
  const int opset = plan.model().graph.opset(node.domain);
  if (node.op_type == "Pad") {
    float fill = node.get_float("value", 0.0F);
    if (node.input(2) != kNoValue && inputs[2].tensor) fill = cast(*inputs[2].tensor, DataType::kFloat32).data<float>()[0];
    const auto code = static_cast<float>(quantize_scalar(fill, plan.params(node.input(0))));
    constexpr int kOpsetOfPadInputs = 11;
    if (opset < kOpsetOfPadInputs) {
      copy.attributes.insert_or_assign("value", code);
    } else {
      if (inputs.size() < 3) inputs.resize(3);
      inputs[2] = {.is_data = false, .operand = {}, .value = kNoValue, .tensor = std::make_shared<const Tensor>(Tensor::scalar(code))};
    }
  }
  std::vector<Result> results;
  for (const ValueId v : node.outputs) results.push_back(v == kNoValue ? Result() : result_of(plan, node, v));
  const auto shared = plan.own(std::move(copy));
  plan.add_step(node, "wide_move:" + node.op_type, 0, [=](const RunContext& run) {
    std::vector<Tensor> owned;
    owned.reserve(inputs.size());
    std::vector<const Tensor*> arguments;
    for (const Input& input : inputs) {
      if (input.is_data) {
        owned.push_back(cast(Tensor::from<std::int32_t>(input.operand.shape, input.operand.load(run, 0)), DataType::kFloat32));
        arguments.push_back(&owned.back());
      } else if (input.tensor) {
        arguments.push_back(input.tensor.get());
      } else {
        arguments.push_back(input.value == kNoValue ? nullptr : &(*run.tensors)[index(input.value)]);
      }
    }
    const EvalContext context{.node = *shared, .opset = opset, .inputs = arguments, .mode = ExecMode::kFixedOrder, .pool = run.pool};
    const std::vector<Tensor> outputs = evaluate_node(context);
    for (std::size_t i = 0; i < results.size() && i < outputs.size(); ++i) {
      if (results[i].value == kNoValue) continue;
      if (outputs[i].shape() != results[i].shape)
        fail(ErrorCode::kInvalidModel, "node '{}' ({}): gave {} where {} was planned", shared->name, shared->op_type, to_string(outputs[i].shape()),
             to_string(results[i].shape));
      results[i].store(run, codes_of(outputs[i]));
    }
  });
}

}  // namespace

void lower_wide(PlanBuilder& plan, const Node& node) {
  const OpDef* op = find_op(node.domain, node.op_type);
  const PreparedWide* prepared = plan.prepared<PreparedWide>();
  if (node.op_type == "Requantize" || (op != nullptr && op->rule == QuantRule::kUnaryTable)) return lower_wide_table(plan, node);
  if (is_tied(node)) return lower_wide_move(plan, node);
  if (node.op_type == "Conv" || node.op_type == "ConvTranspose") return lower_wide_conv(plan, node, *prepared);
  if (node.op_type == "Gemm" || node.op_type == "MatMul") return lower_wide_matmul(plan, node, prepared);
  if (node.op_type == "Add" || node.op_type == "Sub" || node.op_type == "Mul") return lower_wide_arithmetic(plan, node);
  if (node.op_type == "AveragePool" || node.op_type == "GlobalAveragePool" || node.op_type == "ReduceMean") return lower_wide_average(plan, node);
  fail(ErrorCode::kUnsupported, "node '{}' ({}): the integer runtime has no form of this operator in {} bits", node.name, node.op_type,
       plan.params(node.output(0)).type.bit_width);
}

}  // namespace nibble
