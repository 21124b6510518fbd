#include "runtime/program.h"

#include <algorithm>

#include "base/fail.h"
#include "numeric/quantize.h"
#include "ops/base_products.h"
#include "ops/fail.h"
#include "ops/op.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"
#include "quantize/weights.h"
#include "runtime/plan.h"
#include "runtime/steps_dynamic.h"

namespace nibble {

StoredGrid stored_grid(const QuantParams& params) {
  const std::int32_t offset = params.type.is_signed ? 128 : 0;
  return {.scale = params.scale[0],
          .offset = offset,
          .zero_point = params.zero_point[0] + offset,
          .qmin = static_cast<std::int32_t>(params.qmin()) + offset,
          .qmax = static_cast<std::int32_t>(params.qmax()) + offset};
}

OutputGrid stored_output_grid(const OutputGrid& grid, const QuantParams& params) {
  const std::int32_t offset = params.type.is_signed ? 128 : 0;
  return {.zero_point = grid.zero_point + offset, .qmin = grid.qmin + offset, .qmax = grid.qmax + offset};
}

namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

// Int8 view of weight codes: uint8 codes are flipped, and their zero points go down by 128.
struct WeightView {
  const std::int8_t* data = nullptr;
  std::uint8_t flip = 0;
  std::vector<std::int32_t> zero_points;  // empty: all 0
  std::vector<std::int32_t> bias;         // empty: none
  std::vector<std::int8_t> unpacked;      // what `data` points to where the codes of blocks were brought to one scale a channel
};

class Lowering {
 public:
  explicit Lowering(QuantizedGraph model) : impl_(std::make_shared<Program::Impl>()) {
    impl_->model = std::move(model);
    impl_->isa = kernels::best_isa();
  }

  std::shared_ptr<const Program::Impl> run() {
    const Graph& graph = impl_->model.graph;
    verify(impl_->model);
    for (const ValueId v : graph.inputs()) {
      impl_->input_names.push_back(graph.value(v).name);
      impl_->input_types.push_back(graph.value(v).type);
    }
    for (const ValueId v : graph.outputs()) impl_->output_names.push_back(graph.value(v).name);
    make_shape_graph();
    impl_->prepared.resize(graph.nodes().size());
    impl_->constants.resize(graph.values().size());
    impl_->reals.resize(graph.values().size());
    for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) prepare(n);
    return impl_;
  }

 private:
  void make_shape_graph() {
    const QuantizedGraph& model = impl_->model;
    impl_->shape_graph = model.graph;
    GraphEditor editor(impl_->shape_graph);
    for (NodeId n = 0; n < static_cast<NodeId>(model.graph.nodes().size()); ++n) {
      const Node& node = model.graph.node(n);
      const bool quantizes = node.op_type == "QuantizeLinear" && model.params_of(node.output(0)) != nullptr;
      const bool dequantizes = node.op_type == "DequantizeLinear" && model.params_of(node.input(0)) != nullptr;
      if (quantizes || dequantizes || node.op_type == "Requantize") editor.set_op_type(n, "Identity");
    }
    for (ValueId v = 0; v < static_cast<ValueId>(model.params.size()); ++v) {
      if (!model.params[index(v)]) continue;
      const Value& value = model.graph.value(v);
      // Shapes only: inference computes with the constants that it knows, and these are codes, no reals.
      TensorType type = value.constant ? make_type(DataType::kFloat32, value.constant->shape()) : value.type;
      type.dtype = DataType::kFloat32;
      editor.clear_constant(v);
      editor.set_type(v, std::move(type));
    }
    // No finish(): ids must stay those of the model.
  }

  void prepare(NodeId n) {
    const QuantizedGraph& model = impl_->model;
    const Node& node = model.graph.node(n);
    if (node.op_type == "DequantizeLinear" && model.params_of(node.input(0)) != nullptr) return prepare_reals(node);
    if (node.op_type == "Cast" && model.graph.is_constant(node.input(0))) return prepare_cast(node);
    if (node.op_type == "ConvInteger" || node.op_type == "MatMulInteger") {
      Prepared prepared = prepare_integer_product(*impl_, node);
      if (const auto* conv = std::get_if<PreparedConv>(&prepared)) impl_->weight_bytes += conv->packed.bytes;
      if (const auto* depthwise = std::get_if<PreparedDepthwise>(&prepared)) impl_->weight_bytes += depthwise->packed.bytes;
      if (const auto* gemm = std::get_if<PreparedGemm>(&prepared)) impl_->weight_bytes += gemm->packed.bytes;
      impl_->prepared[index(n)] = std::move(prepared);
      return;
    }
    if (model.params_of(node.output(0)) == nullptr || node.op_type == "QuantizeLinear") return;
    if (is_base_products(node)) return prepare_bases(n);
    const Operands operands = operands_of(model.graph, node);
    if (is_wide(model, node)) {
      if (operands.weights) prepare_wide(n);
      return;
    }
    for (const std::size_t i : operands.activations) {
      if (model.graph.is_constant(node.input(i))) prepare_constant(node.input(i));
    }
    const OpDef* op = find_op(node.domain, node.op_type);
    if (node.op_type == "Requantize" || (op != nullptr && op->rule == QuantRule::kUnaryTable))
      prepare_table(n);
    else if (operands.weights)
      prepare_weights(n);
  }

  // Integer constants that float nodes read: dequantized once.
  void prepare_reals(const Node& node) {
    const Value& value = impl_->model.graph.value(node.input(0));
    if (!value.constant || node.output(0) == kNoValue) return;
    Tensor x(DataType::kFloat32, value.constant->shape());
    dequantize(codes_of(*value.constant), value.constant->shape(), *impl_->model.params_of(node.input(0)), x.mutable_data<float>());
    impl_->weight_bytes += static_cast<std::int64_t>(x.size_bytes());
    impl_->reals[index(node.output(0))] = std::move(x);
  }

  // Weights held in 16 bits: widened once.
  void prepare_cast(const Node& node) {
    const Tensor& from = *impl_->model.graph.value(node.input(0)).constant;
    if ((from.type() != DataType::kFloat16 && from.type() != DataType::kBFloat16) || node.output(0) == kNoValue || node.get_int("to", 0) != 1) return;
    Tensor x = cast(from, DataType::kFloat32);
    impl_->weight_bytes += static_cast<std::int64_t>(x.size_bytes());
    impl_->reals[index(node.output(0))] = std::move(x);
  }

  void prepare_constant(ValueId v) {
    if (impl_->constants[index(v)]) return;
    const std::int32_t offset = stored_grid(*impl_->model.params_of(v)).offset;
    std::vector<std::uint8_t> stored;
    for (const std::int32_t q : codes_of(*impl_->model.graph.value(v).constant)) stored.push_back(static_cast<std::uint8_t>(q + offset));
    impl_->weight_bytes += static_cast<std::int64_t>(stored.size());
    impl_->constants[index(v)] = std::make_shared<const std::vector<std::uint8_t>>(std::move(stored));
  }

  void prepare_wide(NodeId n) {
    const Node& node = impl_->model.graph.node(n);
    const Tensor& codes = *impl_->model.graph.value(node.input(1)).constant;
    if (node.op_type == "Conv" || node.op_type == "ConvTranspose") check_window(node, codes.shape());
    PreparedWide prepared;
    prepared.weights = centred_codes(node, codes, *impl_->model.params_of(node.input(1)));
    prepared.bias.assign(static_cast<std::size_t>(weight_layout(node, codes.shape()).channels), 0);
    if (node.op_type != "MatMul" && node.input(2) != kNoValue) {
      const std::vector<std::int32_t> bias = codes_of(*impl_->model.graph.value(node.input(2)).constant);
      for (std::size_t o = 0; o < prepared.bias.size(); ++o) prepared.bias[o] = bias[bias.size() == 1 ? 0 : o];
    }
    const auto proof = prove_accumulator(impl_->model, n);
    prepared.in_32_bits = proof && proof->bits_needed <= 32;
    impl_->weight_bytes += 4 * static_cast<std::int64_t>(prepared.weights.size());
    impl_->prepared[index(n)] = std::move(prepared);
  }

  void prepare_bases(NodeId n) {
    const Node& node = impl_->model.graph.node(n);
    const BaseOperands operands = base_operands(node);
    PreparedBases prepared;
    for (std::size_t j = 0; j < operands.weights; ++j) {
      const ValueId w = operands.weight(node, j);
      const Node layer = product_of(node, 0, j);
      const Tensor& codes = *impl_->model.graph.value(w).constant;
      if (layer.op_type == "Conv" || layer.op_type == "ConvTranspose") check_window(layer, codes.shape());
      prepared.weights.push_back(centred_codes(layer, codes, *impl_->model.params_of(w)));
      impl_->weight_bytes += 4 * codes.size();
    }
    const auto proof = prove_accumulator(impl_->model, n);
    if (!proof || proof->bits_needed > 32)
      fail(ErrorCode::kUnsupported, "node '{}' ({}): an accumulator of its bases needs {} bits, more than 32", node.name, layer_op(node),
           proof ? proof->bits_needed : 0);
    impl_->prepared[index(n)] = std::move(prepared);
  }

  void prepare_table(NodeId n) {
    const Node& node = impl_->model.graph.node(n);
    const QuantParams& x = *impl_->model.params_of(node.input(0));
    const StoredGrid src = stored_grid(x);
    const StoredGrid dst = stored_grid(*impl_->model.params_of(node.output(0)));
    const std::vector<std::int32_t> codes = unary_table(impl_->model, node);
    PreparedTable prepared;
    prepared.table.resize(256);
    for (std::int32_t s = 0; s < 256; ++s) {
      const std::int32_t q = std::clamp(s, src.qmin, src.qmax) - src.qmin;
      prepared.table[static_cast<std::size_t>(s)] = static_cast<std::uint8_t>(codes[static_cast<std::size_t>(q)] + dst.offset);
    }
    impl_->weight_bytes += 256;
    impl_->prepared[index(n)] = std::move(prepared);
  }

  WeightView view_weights(const Node& node) const {
    const QuantizedGraph& model = impl_->model;
    const Tensor& codes = *model.graph.value(node.input(1)).constant;
    const QuantParams& params = *model.params_of(node.input(1));
    if (element_size(codes.type()) != 1)
      fail(ErrorCode::kUnsupported, "node '{}' ({}): the integer runtime has weights of up to 8 bits, not {}", node.name, node.op_type,
           params.type.bit_width);
    WeightView view;
    if (std::holds_alternative<PerBlock>(params.granularity)) {
      for (const std::int32_t w : centred_codes(node, codes, params)) view.unpacked.push_back(static_cast<std::int8_t>(w));
      view.data = view.unpacked.data();
      if (node.op_type != "MatMul" && node.input(2) != kNoValue) view.bias = codes_of(*model.graph.value(node.input(2)).constant);
      return view;
    }
    view.data = reinterpret_cast<const std::int8_t*>(codes.bytes());
    const bool is_unsigned = !params.type.is_signed;
    view.flip = is_unsigned ? 0x80 : 0;
    view.zero_points = params.zero_point;
    for (std::int32_t& z : view.zero_points) z -= is_unsigned ? 128 : 0;
    if (std::all_of(view.zero_points.begin(), view.zero_points.end(), [](std::int32_t z) { return z == 0; })) view.zero_points.clear();
    if (node.op_type != "MatMul" && node.input(2) != kNoValue) view.bias = codes_of(*model.graph.value(node.input(2)).constant);
    return view;
  }

  kernels::RequantizeTable requantize_table(const Node& node, std::int64_t channels) const {
    const QuantParams& dst = *impl_->model.params_of(node.output(0));
    return {compute_requantizers(impl_->model, node), channels, stored_output_grid(output_grid(dst, node), dst)};
  }

  void prepare_weights(NodeId n) {
    const Node& node = impl_->model.graph.node(n);
    if (node.op_type == "Conv")
      prepare_conv(n);
    else if (node.op_type == "ConvTranspose")
      prepare_conv_transpose(n);
    else
      prepare_gemm(n);
  }

  // Weights are packed before the shapes of the inputs are known, so before inference has looked at the attributes.
  static void check_window(const Node& node, const Shape& w) {
    const std::int64_t groups = node.get_int("group", 1);
    if (std::any_of(w.begin(), w.end(), [](std::int64_t d) { return d < 1; })) fail_node(node, "its weights {} are empty", to_string(w));
    if (groups < 1 || w[0] % groups != 0) fail_node(node, "group is {}, which does not divide the weights {}", groups, to_string(w));
    for (const char* name : {"strides", "dilations"}) {
      const auto values = node.get_ints(name);
      if (!values || values->empty()) continue;
      if (values->size() != w.size() - 2 || std::any_of(values->begin(), values->end(), [](std::int64_t v) { return v < 1; }))
        fail_node(node, "{} is {}, expected {} numbers from 1 up", name, to_string(*values), w.size() - 2);
    }
  }

  void prepare_conv(NodeId n) {
    const Node& node = impl_->model.graph.node(n);
    const Shape& w = impl_->model.graph.value(node.input(1)).constant->shape();
    check_window(node, w);
    if (w.size() > 4) return prepare_plain_conv(n);
    const std::size_t rank = w.size() - 2;
    const auto ints = [&](const char* name, std::size_t from_last) {
      const auto values = node.get_ints(name);
      return values && values->size() >= rank ? (*values)[rank - 1 - from_last] : 1;
    };
    kernels::ConvShape shape;
    shape.groups = node.get_int("group", 1);
    shape.out_channels = w[0];
    shape.in_channels = w[1] * shape.groups;
    shape.kernel_w = w[w.size() - 1];
    shape.stride_w = ints("strides", 0);
    shape.dilation_w = ints("dilations", 0);
    if (rank == 2) {
      shape.kernel_h = w[2];
      shape.stride_h = ints("strides", 1);
      shape.dilation_h = ints("dilations", 1);
    }
    pack(n, node, shape, view_weights(node));
  }

  // A transposed convolution is a convolution of the input with stride - 1 zeros between its pixels, by the mirrored weights.
  void prepare_conv_transpose(NodeId n) {
    const Node& node = impl_->model.graph.node(n);
    const Tensor& codes = *impl_->model.graph.value(node.input(1)).constant;
    const Shape& w = codes.shape();
    check_window(node, w);
    if (w.size() > 4) return prepare_plain_conv(n);
    const std::size_t rank = w.size() - 2;
    WeightView view = view_weights(node);
    kernels::ConvShape shape;
    shape.groups = node.get_int("group", 1);
    shape.in_channels = w[0];
    shape.out_channels = w[1] * shape.groups;
    shape.kernel_w = w[w.size() - 1];
    shape.kernel_h = rank == 2 ? w[2] : 1;
    auto dilations = node.get_ints("dilations").value_or(std::vector<std::int64_t>());
    if (dilations.empty()) dilations.assign(rank, 1);
    shape.dilation_w = dilations.back();
    shape.dilation_h = rank == 2 ? dilations.front() : 1;
    // [C, O/g, KH, KW] -> [O, C/g, KH, KW], mirrored.
    const std::int64_t group_in = shape.in_channels / shape.groups;
    const std::int64_t group_out = w[1];
    const std::int64_t taps = shape.kernel_h * shape.kernel_w;
    std::vector<std::int8_t> mirrored(static_cast<std::size_t>(codes.size()));
    for (std::int64_t c = 0; c < shape.in_channels; ++c) {
      for (std::int64_t o = 0; o < group_out; ++o) {
        for (std::int64_t t = 0; t < taps; ++t) {
          const std::int64_t out = c / group_in * group_out + o;
          mirrored[static_cast<std::size_t>((out * group_in + c % group_in) * taps + taps - 1 - t)] =
              view.data[(c * group_out + o) * taps + t];
        }
      }
    }
    view.data = mirrored.data();
    // Zero points along axis 1 belong to the output channels only where there is one group; else there is one for all.
    pack(n, node, shape, view);
  }

  void pack(NodeId n, const Node& node, const kernels::ConvShape& shape, const WeightView& view) {
    const StoredGrid src = stored_grid(*impl_->model.params_of(node.input(0)));
    const kernels::ConvWeights weights{
        .wei = view.data, .flip = view.flip, .zero_points = view.zero_points, .bias = view.bias, .src_zero_point = src.zero_point};
    const bool depthwise = shape.groups == shape.in_channels && shape.groups == shape.out_channels && shape.groups > 1;
    if (depthwise) {
      PreparedDepthwise prepared;
      prepared.requantize = requantize_table(node, shape.out_channels);
      prepared.packed = kernels::pack_depthwise(shape, weights, impl_->isa, &prepared.requantize.view());
      impl_->weight_bytes += prepared.packed.bytes;
      impl_->prepared[index(n)] = std::move(prepared);
    } else {
      PreparedConv prepared{.packed = kernels::pack_conv(shape, weights, impl_->isa),
                            .requantize = requantize_table(node, shape.out_channels)};
      impl_->weight_bytes += prepared.packed.bytes;
      impl_->prepared[index(n)] = std::move(prepared);
    }
  }

  void prepare_plain_conv(NodeId n) {
    const Node& node = impl_->model.graph.node(n);
    const Tensor& codes = *impl_->model.graph.value(node.input(1)).constant;
    const QuantParams& params = *impl_->model.params_of(node.input(1));
    const WeightLayout layout = weight_layout(node, codes.shape());
    PreparedPlainConv prepared;
    prepared.weights = centred_codes(node, codes, params);
    prepared.bias = view_weights(node).bias;
    prepared.bias.resize(static_cast<std::size_t>(layout.channels), 0);
    prepared.requantize = requantize_table(node, layout.channels);
    impl_->weight_bytes += 4 * static_cast<std::int64_t>(prepared.weights.size());
    impl_->prepared[index(n)] = std::move(prepared);
  }

  void prepare_gemm(NodeId n) {
    const Node& node = impl_->model.graph.node(n);
    const Shape& w = impl_->model.graph.value(node.input(1)).constant->shape();
    if (w.size() != 2) {
      // Batched constants are packed at run time, as a product of two activations is.
      prepare_constant(node.input(1));
      return;
    }
    const bool transposed = node.get_int("transB", 0) != 0;
    const WeightView view = view_weights(node);
    const StoredGrid src = stored_grid(*impl_->model.params_of(node.input(0)));
    kernels::GemmWeights weights;
    weights.n = transposed ? w[0] : w[1];
    weights.k = transposed ? w[1] : w[0];
    weights.wei = view.data;
    weights.stride_k = transposed ? 1 : weights.n;
    weights.stride_n = transposed ? weights.k : 1;
    weights.flip = view.flip;
    weights.zero_points = view.zero_points;
    weights.bias = view.bias;
    weights.src_zero_point = src.zero_point;
    PreparedGemm prepared{.packed = kernels::pack_gemm(weights, impl_->isa), .requantize = requantize_table(node, weights.n)};
    impl_->weight_bytes += prepared.packed.bytes;
    impl_->prepared[index(n)] = std::move(prepared);
  }

  std::shared_ptr<Program::Impl> impl_;
};

}  // namespace

Program::Program(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Program::Program(Program&&) noexcept = default;
Program& Program::operator=(Program&&) noexcept = default;
Program::~Program() = default;

const std::vector<std::string>& Program::input_names() const { return impl_->input_names; }
const std::vector<std::string>& Program::output_names() const { return impl_->output_names; }
const std::vector<TensorType>& Program::input_types() const { return impl_->input_types; }

std::string Program::dump() const {
  std::vector<TensorType> types = impl_->input_types;
  for (std::size_t i = 0; i < types.size(); ++i) {
    for (Dim& dim : types[i].dims) {
      if (!dim.known()) dim = {.size = 1, .symbol = {}};
    }
    if (impl_->model.params_of(impl_->model.graph.inputs()[i]) != nullptr) types[i].dtype = DataType::kFloat32;  // as in the shape graph
  }
  return dump_plan(*make_plan(*impl_, types, {}));
}

Program lower(QuantizedGraph model) { return Program(Lowering(std::move(model)).run()); }

std::string active_isa() { return std::string(kernels::to_string(kernels::best_isa())); }

std::vector<KernelInfo> list_kernels() {
  std::vector<KernelInfo> result;
  for (const kernels::KernelRow& row : kernels::list_kernels())
    result.push_back({.name = row.name, .family = row.family, .isa = std::string(kernels::to_string(row.isa)), .usable = row.usable});
  return result;
}

}  // namespace nibble
