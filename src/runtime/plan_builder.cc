#include "runtime/plan_builder.h"

#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "kernels/layout/layout.h"
#include "ops/base_products.h"
#include "ops/evaluate.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"
#include "runtime/arena.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

// Of one value or temporary: more than processors address, and so little that sums and multiples of it fit 64 bits.
constexpr std::int64_t kMostBytes = std::int64_t{1} << 48;

}  // namespace

bool layouts_agree(const Shape& shape) {
  if (shape.size() < 3) return true;
  const Extents e = extents_of(shape);
  return e.channels == 1 || e.pixels == 1;
}

Shape physical_shape(const Shape& shape, Layout layout) {
  if (layout == Layout::kPlain || shape.size() < 3) return shape;
  Shape result = {shape[0]};
  result.insert(result.end(), shape.begin() + 2, shape.end());
  result.push_back(shape[1]);
  return result;
}

std::int64_t row_length(const Shape& shape, Layout layout) {
  if (shape.empty()) return 1;
  return layout == Layout::kPlain || shape.size() < 3 ? shape.back() : shape[1];
}

std::int64_t physical_axis(std::int64_t axis, std::int64_t rank, Layout layout) {
  if (layout == Layout::kPlain || rank < 3 || axis == 0) return axis;
  return axis == 1 ? rank - 1 : axis - 1;
}

Extents extents_of(const Shape& shape) {
  Extents e;
  if (!shape.empty()) e.batch = shape[0];
  if (shape.size() > 1) e.channels = shape[1];
  for (std::size_t i = 2; i < shape.size(); ++i) e.pixels *= shape[i];
  e.width = shape.size() > 2 ? shape.back() : 1;
  e.height = e.width > 0 ? e.pixels / e.width : 0;
  return e;
}

PlanBuilder::PlanBuilder(const Program::Impl& program, std::span<const TensorType> input_types, const PlanOptions& options)
    : program_(program), options_(options), inferred_(infer_types(program.shape_graph, input_types)) {
  plan_->places.resize(program.model.graph.values().size());
  find_uses();
}

void PlanBuilder::find_uses() {
  const Graph& graph = program_.model.graph;
  // Backwards: what works element by element hands on what its readers want.
  wants_channels_last_.assign(graph.values().size(), false);
  for (auto n = static_cast<NodeId>(graph.nodes().size()); n-- > 0;) {
    const Node& node = graph.node(n);
    if (!is_stored(node.output(0))) continue;
    const auto is_one_of = [&](std::initializer_list<std::string_view> ops) {
      return std::any_of(ops.begin(), ops.end(), [&](std::string_view op) { return node.op_type == op; });
    };
    const OpDef* op = find_op(node.domain, node.op_type);
    const bool each_element = is_one_of({"Requantize", "Add", "Sub", "Mul", "Min", "Max", "Concat", "Identity", "Dropout"}) ||
                              (op != nullptr && op->rule == QuantRule::kUnaryTable);
    if (!is_one_of({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}) &&
        !(each_element && wants_channels_last_[index(node.output(0))]))
      continue;
    for (const ValueId v : node.inputs) {
      if (v != kNoValue) wants_channels_last_[index(v)] = true;
    }
  }
  last_reader_.assign(graph.values().size(), kNoNode);
  joins_.assign(graph.values().size(), {});
  readers_.assign(graph.values().size(), 0);
  done_.assign(graph.nodes().size(), false);
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
    const Node& node = graph.node(n);
    const bool joins = node.op_type == "Concat" && is_stored(node.output(0));
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId v = node.inputs[i];
      if (v == kNoValue) continue;
      last_reader_[index(v)] = n;
      ++readers_[index(v)];
      if (joins && is_stored(v) && !graph.is_constant(v) && joins_[index(v)].node == kNoNode) joins_[index(v)] = {.node = n, .part = i};
    }
  }
  for (const ValueId v : graph.outputs()) {
    last_reader_[index(v)] = static_cast<NodeId>(graph.nodes().size());
    ++readers_[index(v)];
  }
}

Shape PlanBuilder::shape(const Node& node, ValueId v) const {
  const TensorType& type = inferred_.types[index(v)];
  if (!type.has_rank || !std::all_of(type.dims.begin(), type.dims.end(), [](const Dim& d) { return d.known(); }))
    fail(ErrorCode::kUnsupported,
         "node '{}' ({}): the shape of '{}' is only known at run time ({}); leave the node in float (--nodes-to-exclude)", node.name,
         node.op_type, program_.model.graph.value(v).name, to_string(type));
  Shape shape;
  for (const Dim& dim : type.dims) shape.push_back(dim.size);
  if (element_count(shape) > kMostBytes)
    fail(ErrorCode::kUnsupported, "node '{}' ({}): '{}' of shape {} fits no memory", node.name, node.op_type,
         program_.model.graph.value(v).name, to_string(shape));
  return shape;
}

const Tensor* PlanBuilder::known(ValueId v) const {
  if (v == kNoValue) return nullptr;
  if (const Tensor* fixed = constant(v)) return fixed;
  const auto& computed = inferred_.constants[index(v)];
  return computed ? &*computed : nullptr;
}

const Tensor* PlanBuilder::constant(ValueId v) const {
  if (v == kNoValue) return nullptr;
  const auto& value = program_.model.graph.value(v).constant;
  if (value) return &*value;
  const auto& real = program_.reals[index(v)];
  return real ? &*real : nullptr;
}

Layout PlanBuilder::layout_of(ValueId v) const {
  return program_.model.graph.is_constant(v) ? Layout::kPlain : plan_->places[index(v)].layout;
}

Rows PlanBuilder::read_rows(const Node& node, ValueId v, Layout layout) {
  Place place;
  if (program_.model.graph.is_constant(v)) {
    const auto& stored = program_.constants[index(v)];
    if (!stored)
      fail(ErrorCode::kUnsupported, "node '{}' ({}): constant '{}' cannot be an operand here", node.name, node.op_type,
           program_.model.graph.value(v).name);
    place = {.ref = {.constant = stored->data()}, .shape = program_.model.graph.value(v).constant->shape()};
    place.ld = row_length(place.shape, Layout::kPlain);
  } else {
    place = plan_->places[index(v)];
    if (!place.stored)
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): '{}' is not there as integers", node.name, node.op_type,
           program_.model.graph.value(v).name);
  }
  Rows rows{.ref = place.ref, .ld = place.ld};
  if (place.layout != layout) {
    const bool dense = place.ld == row_length(place.shape, place.layout);
    if (!dense || !layouts_agree(place.shape)) rows.ref = convert(node, v, rows, layout);
    rows.ld = row_length(place.shape, layout);
  }
  if (rows.ref.buffer >= 0) pending_.push_back(rows.ref.buffer);
  return rows;
}

Ref PlanBuilder::read(const Node& node, ValueId v, Layout layout) {
  const Rows rows = read_rows(node, v, layout);
  const Place& place = plan_->places[index(v)];
  if (program_.model.graph.is_constant(v) || rows.ld == row_length(place.shape, layout)) return rows.ref;
  const Ref ref = convert(node, v, rows, layout);
  pending_.push_back(ref.buffer);
  return ref;
}

// A dense copy of a value in a layout.
Ref PlanBuilder::convert(const Node& node, ValueId v, const Rows& from, Layout to) {
  if (const auto known = copies_.find({v, to}); known != copies_.end()) return known->second;
  // A step of its own: what the current step has asked for so far must wait.
  std::vector<std::int32_t> waiting = std::exchange(pending_, {});
  std::vector<ValueId> waiting_values = std::exchange(pending_values_, {});
  const bool is_constant = program_.model.graph.is_constant(v);
  const Shape value_shape = is_constant ? program_.model.graph.value(v).constant->shape() : plan_->places[index(v)].shape;
  const Layout layout = layout_of(v);
  const Extents e = extents_of(value_shape);
  const std::int64_t size = element_count(value_shape);
  const std::int64_t length = row_length(value_shape, layout);
  if (from.ref.buffer >= 0) pending_.push_back(from.ref.buffer);
  const Ref ref = temporary(size);
  const kernels::Isa isa = program_.isa;
  const Rows src = from;
  if (layout == to || layouts_agree(value_shape)) {
    add_step(node, "dense", 0, [=](const RunContext& run) {
      kernels::copy_rows(run.in(src.ref), src.ld, run.ptr(ref), length, length, 0, length > 0 ? size / length : 0);
    });
  } else if (to == Layout::kChannelsLast) {
    // A plain value has room between its rows only where it is a slice of another.
    Rows dense = src;
    if (src.ld != length) {
      dense = {.ref = convert(node, v, src, Layout::kPlain), .ld = length};
      pending_ = {dense.ref.buffer, ref.buffer};
    }
    add_step(node, "nchw_to_nhwc", 0, [=](const RunContext& run) {
      kernels::nchw_to_nhwc(isa, run.in(dense.ref), e.batch, e.channels, e.pixels, run.ptr(ref), e.channels);
    });
  } else {
    add_step(node, "nhwc_to_nchw", 0, [=](const RunContext& run) {
      kernels::nhwc_to_nchw(isa, run.in(src.ref), src.ld, e.batch, e.channels, e.pixels, run.ptr(ref));
    });
  }
  copies_[{v, to}] = ref;
  if (!is_constant) used_until(ref, last_reader_[index(v)]);
  // The step that asked comes next: keep its operands alive until then.
  pending_ = std::move(waiting);
  pending_values_ = std::move(waiting_values);
  return ref;
}

Ref PlanBuilder::temporary(std::int64_t bytes) {
  if (bytes < 0 || bytes > 8 * kMostBytes) fail(ErrorCode::kUnsupported, "a step needs {} bytes, which fit no memory", bytes);
  Ref ref;
  ref.buffer = static_cast<std::int32_t>(plan_->buffers.size());
  plan_->buffers.push_back({.bytes = bytes});
  last_use_.push_back(kNoNode);
  pending_.push_back(ref.buffer);
  return ref;
}

void PlanBuilder::need_scratch(std::int64_t bytes_per_thread) {
  plan_->scratch_bytes = std::max(plan_->scratch_bytes, (bytes_per_thread + 63) / 64 * 64);
}

void PlanBuilder::add_step(const Node& node, std::string kernel, std::int64_t macs, std::function<void(const RunContext&)> run) {
  const int step = static_cast<int>(plan_->steps.size());
  for (const std::int32_t b : pending_) {
    Buffer& buffer = plan_->buffers[static_cast<std::size_t>(b)];
    if (buffer.first < 0) buffer.first = step;
    buffer.last = std::max(buffer.last, step);
  }
  plan_->steps.push_back({.node = node.name,
                          .op_type = node.op_type,
                          .kernel = std::move(kernel),
                          .macs = macs,
                          .produces = std::exchange(pending_values_, {}),
                          .frees = {},
                          .run = std::move(run)});
  pending_.clear();
}

// A loop costs about a microsecond to share out. One chunk a thread where that is all that pays, more where a thread that comes late may
// then be helped.
std::int64_t PlanBuilder::grain(std::int64_t n, double cost_ns) const {
  constexpr double kShareNs = 2500;
  constexpr double kLongNs = 40000;
  const double total = static_cast<double>(n) * cost_ns;
  if (options_.threads == 1 || total < kShareNs) return std::max<std::int64_t>(n, 1);
  const std::int64_t chunks = options_.threads * (total < kLongNs ? 1 : total < 10 * kLongNs ? 2 : 4);
  std::int64_t chunk = std::max<std::int64_t>((n + chunks - 1) / chunks, 1);
  // Whole tiles, where a part of one is little.
  constexpr std::int64_t kRows = 16;
  if (chunk >= 12 * kRows) chunk = (chunk + kRows - 1) / kRows * kRows;
  return chunk;
}

double PlanBuilder::macs_per_ns(std::int64_t rows) const {
  // A product of few rows waits for its weights.
  constexpr std::int64_t kFewRows = 4;
  constexpr double kBytesPerNs = 20;
  if (rows < kFewRows && isa() >= kernels::Isa::kAvx2) return kBytesPerNs * static_cast<double>(rows);
  switch (isa()) {
    case kernels::Isa::kReference: return 1;
    case kernels::Isa::kPortable: return 4;
    case kernels::Isa::kAvx2: return 60;
    case kernels::Isa::kAvxVnni: return 150;
    case kernels::Isa::kAvx512Vnni: return 250;
    case kernels::Isa::kAmx: return 400;
  }
  return 1;
}

void PlanBuilder::lower_node(const Node& node) {
  if (dynamic_.lower(*this, current_)) return;
  for (const ValueId v : node.inputs) dynamic_.need_tensor(*this, node, v);
  if (node.op_type == "QuantizeLinear" && is_integer(node.output(0))) return lower_quantize(*this, node);
  if (node.op_type == "DequantizeLinear" && is_integer(node.input(0))) return lower_dequantize(*this, node);
  if (!is_integer(node.output(0))) return lower_plain(node);
  if (is_base_products(node)) return lower_base_products(*this, node);
  if (is_wide(model(), node)) return lower_wide(*this, node);
  const OpDef* op = find_op(node.domain, node.op_type);
  if (node.op_type == "Requantize" || (op != nullptr && op->rule == QuantRule::kUnaryTable)) return lower_table(*this, node);
  if (const LowerFn lowering = find_lowering(node.op_type)) return lowering(*this, node);
  if (is_tied(node)) return lower_elements(*this, node) ? void() : lower_move(*this, node);
  fail(ErrorCode::kUnsupported, "node '{}' ({}): the integer runtime has no form of this operator", node.name, node.op_type);
}

// A float island, or arithmetic on shapes: the op itself, in fixed-order loops.
void PlanBuilder::lower_plain(const Node& node) {
  for (const ValueId v : node.outputs) {
    if (v != kNoValue) pending_values_.push_back(v);
  }
  const Graph& graph = program_.model.graph;
  bool all_known = true;
  for (const ValueId v : node.outputs) all_known = all_known && (v == kNoValue || known(v) != nullptr);
  if (all_known) {
    // Shape arithmetic that is settled by now.
    std::vector<std::pair<ValueId, Tensor>> results;
    for (const ValueId v : node.outputs) {
      if (v != kNoValue) results.emplace_back(v, *known(v));
    }
    const auto shared = own(std::move(results));
    add_step(node, "constant", 0, [shared](const RunContext& run) {
      for (const auto& [v, tensor] : *shared) (*run.tensors)[index(v)] = tensor;
    });
    return;
  }
  require_op(node, graph.opset(node.domain));  // an unknown operator fails by name now, not in the middle of a run
  // Kept between runs: reordered weights. The model's constants never change.
  struct State {
    std::unique_ptr<OpState> state;
  };
  const std::size_t count = node.inputs.size();
  const std::shared_ptr<bool[]> constant_inputs = std::make_shared<bool[]>(count);
  std::vector<const Tensor*> constants;  // they live as long as the program
  for (std::size_t i = 0; i < count; ++i) {
    constants.push_back(constant(node.inputs[i]));
    constant_inputs[static_cast<std::ptrdiff_t>(i)] = constants.back() != nullptr;
  }
  auto state = std::make_shared<State>();
  const Program::Impl* program = &program_;
  const NodeId id = current_;
  add_step(node, "float:" + node.op_type, 0, [program, id, state, constant_inputs, constants](const RunContext& run) {
    const Graph& g = program->model.graph;
    const Node& n = g.node(id);
    std::vector<const Tensor*> inputs;
    inputs.reserve(n.inputs.size());
    for (std::size_t i = 0; i < n.inputs.size(); ++i) {
      if (n.inputs[i] == kNoValue || constants[i] != nullptr)
        inputs.push_back(constants[i]);
      else
        inputs.push_back(&(*run.tensors)[index(n.inputs[i])]);
    }
    const EvalContext context{.node = n,
                              .opset = g.opset(n.domain),
                              .inputs = inputs,
                              .mode = ExecMode::kFixedOrder,
                              .pool = run.pool,
                              .state = &state->state,
                              .constant_inputs = {constant_inputs.get(), n.inputs.size()}};
    std::vector<Tensor> outputs = evaluate_node(context);
    for (std::size_t i = 0; i < n.outputs.size() && i < outputs.size(); ++i) {
      if (n.outputs[i] != kNoValue) (*run.tensors)[index(n.outputs[i])] = std::move(outputs[i]);
    }
  });
}

std::unique_ptr<const Plan> PlanBuilder::build() {
  const Graph& graph = program_.model.graph;
  for (std::size_t i = 0; i < graph.inputs().size(); ++i) {
    const ValueId v = graph.inputs()[i];
    if (!is_stored(v)) continue;
    // An integer input: copied into the arena, in the layout that its readers want.
    Node node;
    node.name = graph.value(v).name;
    node.op_type = "input";
    const Shape value_shape = shape(node, v);
    const bool moved = wants_channels_last(v) && !layouts_agree(value_shape);
    const Ref dst = write(node, v, moved ? Layout::kChannelsLast : Layout::kPlain);
    const Extents e = extents_of(value_shape);
    const std::int64_t bytes = element_count(value_shape);
    const bool flip = params(v).type.is_signed;
    const kernels::Isa isa = program_.isa;
    add_step(node, "copy", 0, [=](const RunContext& run) {
      const auto* src = reinterpret_cast<const std::uint8_t*>((*run.tensors)[index(v)].bytes());
      std::uint8_t* out = run.ptr(dst);
      if (moved)
        kernels::nchw_to_nhwc(isa, src, e.batch, e.channels, e.pixels, out, e.channels);
      else
        std::copy_n(src, bytes, out);
      if (flip) kernels::flip_sign(isa, out, out, bytes);
    });
  }
  for (current_ = 0; current_ < static_cast<NodeId>(graph.nodes().size()); ++current_) {
    if (done_[index(current_)]) continue;
    const Node& node = graph.node(current_);
    naming_node(node, [&] { lower_node(node); });
    // A node without a step of its own (an alias) hands its value to the step before.
    if (!plan_->steps.empty()) {
      auto& produces = plan_->steps.back().produces;
      produces.insert(produces.end(), pending_values_.begin(), pending_values_.end());
    }
    pending_values_.clear();
    pending_.clear();
  }
  for (const ValueId v : graph.outputs()) {
    Node node;
    node.name = graph.value(v).name;
    node.op_type = "output";
    dynamic_.need_tensor(*this, node, v);
    if (!is_stored(v) || graph.is_constant(v)) continue;
    const Ref src = read(node, v, Layout::kPlain);
    const Shape s = plan_->places[index(v)].shape;
    const bool is_signed = params(v).type.is_signed;
    const kernels::Isa isa = program_.isa;
    add_step(node, "copy", 0, [=](const RunContext& run) {
      Tensor out(is_signed ? DataType::kInt8 : DataType::kUInt8, s);
      auto* dst = reinterpret_cast<std::uint8_t*>(out.mutable_bytes());
      if (is_signed)
        kernels::flip_sign(isa, run.in(src), dst, out.size());
      else
        std::copy_n(run.in(src), out.size(), dst);
      (*run.tensors)[index(v)] = std::move(out);
    });
  }

  // Tensors die after their last reader.
  std::vector<int> last(graph.values().size(), -1);
  std::map<std::string, int> step_of;
  for (std::size_t s = 0; s < plan_->steps.size(); ++s) step_of[plan_->steps[s].node] = static_cast<int>(s);
  for (const Node& node : graph.nodes()) {
    const auto it = step_of.find(node.name);
    for (const ValueId v : node.inputs) {
      if (v != kNoValue)
        last[index(v)] = it != step_of.end() ? std::max(last[index(v)], it->second) : static_cast<int>(plan_->steps.size());
    }
  }
  for (const ValueId v : graph.outputs()) last[index(v)] = -1;
  for (const ValueId v : graph.inputs()) last[index(v)] = -1;
  for (std::size_t v = 0; v < last.size(); ++v) {
    if (last[v] >= 0 && last[v] < static_cast<int>(plan_->steps.size()) && !graph.values()[v].constant && !plan_->places[v].stored)
      plan_->steps[static_cast<std::size_t>(last[v])].frees.push_back(static_cast<ValueId>(v));
  }
  plan_->arena_bytes = plan_arena(plan_->buffers);
  return std::move(plan_);
}

std::unique_ptr<const Plan> make_plan(const Program::Impl& program, std::span<const TensorType> input_types, const PlanOptions& options) {
  return PlanBuilder(program, input_types, options).build();
}

std::string dump_plan(const Plan& plan) {
  std::string out;
  for (const Step& step : plan.steps)
    out += fmt::format("{:<40} {:<20} {:<40} {:>12} MACs\n", step.node, step.op_type, step.kernel, step.macs);
  out += fmt::format("arena {} bytes, scratch {} bytes a thread, {} steps\n", plan.arena_bytes, plan.scratch_bytes, plan.steps.size());
  return out;
}

}  // namespace nibble
