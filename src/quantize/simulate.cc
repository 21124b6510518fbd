// The simulation: every integer node computed on its integer values, sums exact in int64 or double, no kernel of the runtime. What the
// runtime gives must equal this bit for bit.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/fail.h"
#include "nibble/quantize.h"
#include "numeric/quantize.h"
#include "ops/fail.h"
#include "ops/op.h"
#include "quantize/base_products_form.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"
#include "quantize/simulate_compute.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

// Codes as a tensor in their storage type.
Tensor pack_codes(const Shape& shape, std::span<const std::int32_t> codes, const QuantParams& params) {
  return cast(Tensor::from<std::int32_t>(shape, codes), storage_type(params.type));
}

class Simulator {
 public:
  Simulator(const QuantizedGraph& model, const ValueCallback& observe) : model_(model), graph_(model.graph), observe_(observe) {}

  std::vector<Tensor> run(std::span<const Tensor> inputs) {
    values_.resize(graph_.values().size());
    if (inputs.size() != graph_.inputs().size())
      fail(ErrorCode::kInvalidArgument, "the model has {} inputs, {} were given", graph_.inputs().size(), inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) put(graph_.inputs()[i], inputs[i]);
    const std::vector<std::size_t> last_use = last_uses();
    for (std::size_t n = 0; n < graph_.nodes().size(); ++n) {
      run_node(graph_.nodes()[n]);
      for (const ValueId v : graph_.nodes()[n].inputs) {
        if (v != kNoValue && last_use[static_cast<std::size_t>(v)] == n) values_[static_cast<std::size_t>(v)] = Tensor();
      }
    }
    std::vector<Tensor> outputs;
    for (const ValueId v : graph_.outputs()) outputs.push_back(get(v));
    return outputs;
  }

 private:
  std::vector<std::size_t> last_uses() const {
    std::vector<std::size_t> last(graph_.values().size(), graph_.nodes().size());
    for (std::size_t n = 0; n < graph_.nodes().size(); ++n) {
      for (const ValueId v : graph_.nodes()[n].inputs) {
        if (v != kNoValue) last[static_cast<std::size_t>(v)] = n;
      }
    }
    for (const ValueId v : graph_.outputs()) last[static_cast<std::size_t>(v)] = graph_.nodes().size();
    return last;
  }

  const Tensor& get(ValueId v) const {
    const Value& value = graph_.value(v);
    return value.constant ? *value.constant : values_[static_cast<std::size_t>(v)];
  }
  void put(ValueId v, Tensor tensor) {
    if (v == kNoValue) return;
    if (observe_) observe_(v, tensor);
    values_[static_cast<std::size_t>(v)] = std::move(tensor);
  }
  const QuantParams& params(ValueId v) const { return *model_.params_of(v); }

  void run_node(const Node& node) {
    const bool reads = node.input(0) != kNoValue && model_.params_of(node.input(0)) != nullptr;
    const bool writes = node.output(0) != kNoValue && model_.params_of(node.output(0)) != nullptr;
    if (node.op_type == "QuantizeLinear" && writes) return put(node.output(0), quantize_edge(node));
    if (node.op_type == "DequantizeLinear" && reads) return put(node.output(0), dequantize_edge(node));
    if (!writes) return run_plain(node);
    const OpDef* op = find_op(node.domain, node.op_type);
    if (node.op_type == "Requantize" || (op != nullptr && op->rule == QuantRule::kUnaryTable)) return put(node.output(0), run_table(node));
    if (is_tied(node)) return run_tied(node);
    put(node.output(0), run_arithmetic(node));
  }

  Tensor quantize_edge(const Node& node) {
    const Tensor& x = get(node.input(0));
    if (x.type() != DataType::kFloat32) fail_node(node, "its input is {}, not float32", to_string(x.type()));
    return quantize_tensor(x, params(node.output(0)));
  }

  Tensor dequantize_edge(const Node& node) {
    const Tensor& q = get(node.input(0));
    Tensor x(DataType::kFloat32, q.shape());
    dequantize(codes_of(q), q.shape(), params(node.input(0)), x.mutable_data<float>());
    return x;
  }

  void run_plain(const Node& node) {
    std::vector<const Tensor*> inputs;
    for (const ValueId v : node.inputs) inputs.push_back(v == kNoValue ? nullptr : &get(v));
    const EvalContext context{.node = node, .opset = graph_.opset(node.domain), .inputs = inputs, .mode = ExecMode::kFixedOrder};
    std::vector<Tensor> outputs = evaluate_node(context);
    for (std::size_t i = 0; i < node.outputs.size() && i < outputs.size(); ++i) put(node.outputs[i], std::move(outputs[i]));
  }

  Tensor run_table(const Node& node) {
    const std::vector<std::int32_t> table = unary_table(model_, node);
    const std::int64_t qmin = params(node.input(0)).qmin();
    const Tensor& x = get(node.input(0));
    std::vector<std::int32_t> codes = codes_of(x);
    for (std::int32_t& q : codes) q = table[static_cast<std::size_t>(std::clamp<std::int64_t>(q - qmin, 0, static_cast<std::int64_t>(table.size()) - 1))];
    return pack_codes(x.shape(), codes, params(node.output(0)));
  }

  // Rearrangements and maxima: the op itself, on the codes.
  void run_tied(const Node& node) {
    std::vector<Tensor> owned;
    owned.reserve(node.inputs.size());
    std::vector<const Tensor*> inputs;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) inputs.push_back(node.inputs[i] == kNoValue ? nullptr : &get(node.inputs[i]));
    Node copy = node;
    if (node.op_type == "Pad") {
      // The value that fills is a real number: on codes it is its code (0 becomes the zero point).
      const QuantParams& p = params(node.input(0));
      float fill = node.get_float("value", 0.0F);
      if (inputs.size() > 2 && inputs[2] != nullptr) fill = cast(*inputs[2], DataType::kFloat32).data<float>()[0];
      const std::int32_t code = quantize_scalar(fill, p);
      if (graph_.opset("") < 11) copy.attributes.insert_or_assign("value", static_cast<float>(code));
      owned.push_back(cast(Tensor::scalar<std::int32_t>(code), storage_type(p.type)));
      if (graph_.opset("") >= 11) {
        if (inputs.size() < 3) inputs.resize(3, nullptr);
        inputs[2] = &owned.back();
      }
    }
    // Not every op takes integers of 16 bits; as floats they are exact.
    std::vector<Tensor> reals;
    reals.reserve(inputs.size());
    for (const Tensor*& input : inputs) {
      if (input == nullptr || element_size(input->type()) != 2 || !is_integer(input->type())) continue;
      reals.push_back(cast(*input, DataType::kFloat32));
      input = &reals.back();
    }
    const EvalContext context{.node = copy, .opset = graph_.opset(node.domain), .inputs = inputs, .mode = ExecMode::kFixedOrder};
    std::vector<Tensor> outputs = evaluate_node(context);
    for (std::size_t i = 0; i < node.outputs.size() && i < outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      const DataType type = storage_type(params(node.outputs[i]).type);
      put(node.outputs[i], outputs[i].type() == type ? std::move(outputs[i]) : cast(outputs[i], type));
    }
  }

  Tensor run_arithmetic(const Node& node) {
    const QuantParams& dst = params(node.output(0));
    const OutputGrid grid = output_grid(dst, node);
    if (is_base_products(node)) return run_bases(node, grid, dst);
    if (node.op_type == "Conv" || node.op_type == "ConvTranspose" || node.op_type == "Gemm" || node.op_type == "MatMul")
      return requantize(accumulate(node), compute_requantizers(model_, node), grid, dst);
    if (node.op_type == "Add" || node.op_type == "Sub" || node.op_type == "Mul") return run_binary(node, grid, dst);
    if (node.op_type == "AveragePool" || node.op_type == "GlobalAveragePool" || node.op_type == "ReduceMean") {
      const Averages averages = simulate_average(model_, node, get(node.input(0)));
      std::vector<std::int32_t> codes(averages.sums.size());
      std::int64_t known_count = 0;
      Requantizer requantizer;
      for (std::size_t i = 0; i < codes.size(); ++i) {
        if (averages.counts[i] != known_count) {
          known_count = averages.counts[i];
          requantizer = average_requantizer(model_, node, known_count);
        }
        codes[i] = static_cast<std::int32_t>(requantizer(averages.sums[i], grid));
      }
      return pack_codes(averages.shape, codes, dst);
    }
    fail_node(node, "the operator has no integer form");
  }

  Accumulators accumulate(const Node& node) const {
    if (node.op_type == "Conv") return simulate_conv(model_, node, get(node.input(0)));
    if (node.op_type == "ConvTranspose") return simulate_conv_transpose(model_, node, get(node.input(0)));
    return simulate_matmul(model_, node, get(node.input(0)), get(node.input(1)));
  }

  // One accumulator for each pair of bases, one rounding for all of them (Eq. 29, 30).
  Tensor run_bases(const Node& node, const OutputGrid& grid, const QuantParams& dst) const {
    const BaseOperands operands = base_operands(node);
    Accumulators first;
    std::vector<std::int32_t> all;  // one accumulator's elements behind the other's
    for (std::size_t i = 0; i < operands.activations; ++i) {
      for (std::size_t j = 0; j < operands.weights; ++j) {
        Accumulators acc = accumulate(product_of(node, i, j));
        for (const std::int64_t value : acc.values) all.push_back(static_cast<std::int32_t>(value));
        first = std::move(acc);
      }
    }
    const std::vector<BaseRequantizer> requantizers = base_requantizers(model_, node);
    std::vector<std::int32_t> codes(first.values.size());
    for (std::size_t k = 0; k < codes.size(); ++k) {
      const std::size_t channel = k / static_cast<std::size_t>(first.inner) % static_cast<std::size_t>(first.channels);
      codes[k] = static_cast<std::int32_t>(requantizers[channel](all.data() + k, codes.size(), grid));
    }
    return pack_codes(first.shape, codes, dst);
  }

  Tensor requantize(const Accumulators& acc, const std::vector<Requantizer>& requantizers, const OutputGrid& grid, const QuantParams& dst) const {
    std::vector<std::int32_t> codes(acc.values.size());
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const std::size_t channel = requantizers.size() == 1 ? 0 : i / static_cast<std::size_t>(acc.inner) % static_cast<std::size_t>(acc.channels);
      codes[i] = static_cast<std::int32_t>(requantizers[channel](acc.values[i], grid));
    }
    return pack_codes(acc.shape, codes, dst);
  }

  Tensor run_binary(const Node& node, const OutputGrid& grid, const QuantParams& dst) {
    const Tensor& a = get(node.input(0));
    const Tensor& b = get(node.input(1));
    // Broadcasting by strides: an axis of size 1 (or absent) does not move.
    const auto rank = static_cast<std::size_t>(std::max(a.rank(), b.rank()));
    Shape shape(rank, 1);
    std::vector<std::int64_t> step_a(rank, 0);
    std::vector<std::int64_t> step_b(rank, 0);
    const auto align = [&](const Tensor& t, std::vector<std::int64_t>& step) {
      std::int64_t stride = 1;
      for (std::size_t i = t.shape().size(); i-- > 0;) {
        const std::size_t axis = rank - t.shape().size() + i;
        const std::int64_t extent = t.shape()[i];
        if (extent != 1) {
          if (shape[axis] != 1 && shape[axis] != extent)
            fail_node(node, "shapes {} and {} do not broadcast", to_string(a.shape()), to_string(b.shape()));
          shape[axis] = extent;
          step[axis] = stride;
        }
        stride *= extent;
      }
    };
    align(a, step_a);
    align(b, step_b);
    const std::vector<std::int32_t> ca = codes_of(a);
    const std::vector<std::int32_t> cb = codes_of(b);
    const bool multiply = node.op_type == "Mul";
    const Adder adder = multiply ? Adder{} : node_adder(model_, node);
    const Requantizer requantizer = multiply ? mul_requantizer(model_, node) : Requantizer{};
    const std::int32_t za = params(node.input(0)).zero_point[0];
    const std::int32_t zb = params(node.input(1)).zero_point[0];
    std::vector<std::int32_t> codes(static_cast<std::size_t>(element_count(shape)));
    std::vector<std::int64_t> at(rank, 0);
    std::int64_t ia = 0;
    std::int64_t ib = 0;
    for (std::int32_t& code : codes) {
      const std::int32_t x = ca[static_cast<std::size_t>(ia)];
      const std::int32_t y = cb[static_cast<std::size_t>(ib)];
      code = static_cast<std::int32_t>(multiply ? multiply_elements(x, za, y, zb, requantizer, grid) : adder(x, y, grid));
      for (std::size_t axis = rank; axis-- > 0;) {
        ia += step_a[axis];
        ib += step_b[axis];
        if (++at[axis] < shape[axis]) break;
        at[axis] = 0;
        ia -= step_a[axis] * shape[axis];
        ib -= step_b[axis] * shape[axis];
      }
    }
    return pack_codes(shape, codes, dst);
  }

  const QuantizedGraph& model_;
  const Graph& graph_;
  const ValueCallback& observe_;
  std::vector<Tensor> values_;
};

}  // namespace

std::vector<Tensor> simulate(const QuantizedGraph& model, std::span<const Tensor> inputs, const ValueCallback& observe) {
  return Simulator(model, observe).run(inputs);
}

}  // namespace nibble
