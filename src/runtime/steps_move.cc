// Operators that move values and compute nothing.
#include <algorithm>
#include <cstring>

#include "base/fail.h"
#include "kernels/layout/layout.h"
#include "ops/op.h"
#include "quantize/node_arithmetic.h"
#include "runtime/plan_builder.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

std::int64_t product(const Shape& shape, std::size_t from, std::size_t to) {
  std::int64_t p = 1;
  for (std::size_t i = from; i < to; ++i) p *= shape[i];
  return p;
}

}  // namespace

// What could be written into its place was (PlanBuilder::write_rows); the rest is copied.
void lower_concat(PlanBuilder& plan, const Node& node) {
  const Shape y = plan.shape(node, node.output(0));
  const auto rank = static_cast<std::int64_t>(y.size());
  std::int64_t axis = node.get_int("axis", 1);
  if (axis < 0) axis += rank;
  Layout layout = Layout::kPlain;
  for (const ValueId v : node.inputs) {
    if (plan.layout_of(v) == Layout::kChannelsLast) layout = Layout::kChannelsLast;
  }
  const auto at = static_cast<std::size_t>(physical_axis(axis, rank, layout));
  const Shape whole = physical_shape(y, layout);
  const bool is_last = at + 1 == whole.size();
  const Rows dst = is_last ? plan.write_rows(node, node.output(0), layout)
                           : Rows{.ref = plan.write(node, node.output(0), layout), .ld = row_length(y, layout)};
  // Joined along the last axis, rows of the output take rows of the parts; else whatever lies behind the axis is one run.
  const std::int64_t rows = product(whole, 0, at);
  const std::int64_t row_bytes = is_last ? dst.ld : product(whole, at, whole.size());
  struct Part {
    Ref src;
    std::int64_t ld = 0, bytes = 0, offset = 0;
  };
  std::vector<Part> parts;
  std::int64_t offset = 0;
  for (const ValueId v : node.inputs) {
    const Shape part = physical_shape(plan.shape(node, v), layout);
    const std::int64_t bytes = product(part, at, part.size());
    Rows there = dst;
    there.ref.offset += offset;
    if (!is_last) there.ld = part.back();
    if (bytes > 0 && !plan.lies_at(v, there, layout)) {
      const Rows src = is_last ? plan.read_rows(node, v, layout) : Rows{.ref = plan.read(node, v, layout), .ld = bytes};
      parts.push_back({.src = src.ref, .ld = src.ld, .bytes = bytes, .offset = offset});
    }
    offset += bytes;
  }
  if (parts.empty()) return;
  const std::int64_t grain = plan.grain(rows, static_cast<double>(row_bytes) / 16.0);
  plan.add_step(node, "concat", 0, [=](const RunContext& run) {
    run.pool->parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
      for (const Part& part : parts)
        kernels::copy_rows(run.in(part.src), part.ld, run.ptr(dst.ref) + part.offset, row_bytes, part.bytes, begin, end);
    });
  });
}

void lower_reshape(PlanBuilder& plan, const Node& node) {
  const Shape y = plan.shape(node, node.output(0));
  const Layout layout = plan.layout_of(node.input(0));
  if (plan.shape(node, node.input(0)) == y) {
    const Rows src = plan.read_rows(node, node.input(0), layout);
    return plan.alias(node.output(0), src.ref, layout, y, src.ld);
  }
  plan.alias(node.output(0), plan.read(node, node.input(0), Layout::kPlain), Layout::kPlain, y);
}

namespace {

// Nearest-neighbour resizing moves whole pixels: what the op does to an image of pixel numbers tells where each comes from.
bool lower_nearest(PlanBuilder& plan, const Node& node) {
  const Shape x = plan.shape(node, node.input(0));
  const Shape y = plan.shape(node, node.output(0));
  if (x.size() != 4 || x[0] != y[0] || x[1] != y[1]) return false;
  const auto axis_indices = [&](std::size_t axis) -> std::vector<std::int32_t> {
    // One axis at a time, the others as they are: numbers up to 2^24 are exact in float32.
    Shape line = {1, 1, 1, 1};
    line[axis] = x[axis];
    std::vector<float> numbers(static_cast<std::size_t>(x[axis]));
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
    const Tensor input = Tensor::from<float>(line, numbers);
    Node probe = node;
    std::vector<Tensor> owned;
    owned.reserve(node.inputs.size());
    std::vector<const Tensor*> inputs = {&input};
    for (std::size_t i = 1; i < node.inputs.size(); ++i) {
      const Tensor* known = plan.known(node.inputs[i]);
      if (known == nullptr || known->size() != 4 || (known->type() != DataType::kFloat32 && known->type() != DataType::kInt64)) {
        inputs.push_back(known);
        continue;
      }
      // scales or sizes: 1 along the other axes.
      std::vector<double> values = to_doubles(*known);
      for (std::size_t d = 0; d < 4; ++d) {
        if (d != axis) values[d] = 1;
      }
      owned.push_back(cast(Tensor::from<double>({4}, values), known->type()));
      inputs.push_back(&owned.back());
    }
    if (auto scales = node.get_floats("scales"); scales && scales->size() == 4) {
      for (std::size_t d = 0; d < 4; ++d) {
        if (d != axis) (*scales)[d] = 1;
      }
      probe.attributes.insert_or_assign("scales", *scales);
    }
    const EvalContext context{.node = probe, .opset = plan.model().graph.opset(node.domain), .inputs = inputs};
    const Tensor output = evaluate_node(context).at(0);
    std::vector<std::int32_t> result;
    for (const float f : output.data<float>()) result.push_back(static_cast<std::int32_t>(f));
    return result;
  };
  if (node.has("axes") || node.get_string("keep_aspect_ratio_policy", "stretch") != "stretch" ||
      node.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize")
    return false;
  const auto rows = plan.own(axis_indices(2));
  const auto columns = plan.own(axis_indices(3));
  if (static_cast<std::int64_t>(rows->size()) != y[2] || static_cast<std::int64_t>(columns->size()) != y[3]) return false;
  kernels::ResizeCall call;
  call.channels = x[1];
  call.batch = x[0];
  call.in_h = x[2];
  call.in_w = x[3];
  call.out_h = y[2];
  call.out_w = y[3];
  call.index_h = rows->data();
  call.index_w = columns->data();
  const Rows src = plan.read_rows(node, node.input(0), Layout::kChannelsLast);
  const Rows dst = plan.write_rows(node, node.output(0), Layout::kChannelsLast);
  call.ld_src = src.ld;
  call.ld_dst = dst.ld;
  const std::int64_t total = call.batch * call.out_h;
  const std::int64_t grain = plan.grain(total, static_cast<double>(call.out_w * call.channels) / 16.0);
  plan.add_step(node, "resize_nearest", 0, [=](const RunContext& run) {
    kernels::ResizeCall c = call;
    c.src = run.in(src.ref);
    c.dst = run.ptr(dst.ref);
    run.pool->parallel_for(total, grain, [&](std::int64_t begin, std::int64_t end) { kernels::resize_nearest_nhwc(c, begin, end); });
  });
  return true;
}

}  // namespace

void lower_resize(PlanBuilder& plan, const Node& node) {
  if (!lower_nearest(plan, node)) lower_move(plan, node);
}

// The op itself, on the stored codes: it only copies or compares, and stored codes are in the order of the integers.
void lower_move(PlanBuilder& plan, const Node& node) {
  struct Operand {
    ValueId value = kNoValue;
    Ref ref;
    Shape shape;
    std::shared_ptr<const Tensor> tensor;  // known beforehand: axes, starts, the value that fills
    bool stored = false;
  };
  std::vector<Operand> operands;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const ValueId v = node.inputs[i];
    Operand operand{.value = v, .ref = {}, .shape = {}, .tensor = nullptr, .stored = plan.is_integer(v)};
    if (operand.stored) {
      operand.shape = plan.shape(node, v);
      operand.ref = plan.read(node, v, Layout::kPlain);
    } else if (const Tensor* known = plan.known(v)) {
      operand.tensor = std::make_shared<const Tensor>(*known);
    }
    operands.push_back(std::move(operand));
  }
  Node copy = node;
  const int opset = plan.model().graph.opset(node.domain);
  if (node.op_type == "Pad") {
    const QuantParams& p = plan.params(node.input(0));
    float fill = node.get_float("value", 0.0F);
    if (node.input(2) != kNoValue && operands[2].tensor) fill = cast(*operands[2].tensor, DataType::kFloat32).data<float>()[0];
    const std::int32_t code = quantize_scalar(fill, p) + stored_grid(p).offset;
    if (opset < 11) {
      copy.attributes.insert_or_assign("value", static_cast<float>(code));
    } else {
      if (operands.size() < 3) operands.resize(3);
      operands[2] = {.value = kNoValue,
                     .ref = {},
                     .shape = {},
                     .tensor = std::make_shared<const Tensor>(Tensor::scalar(static_cast<std::uint8_t>(code))),
                     .stored = false};
    }
  }
  std::vector<Ref> outputs;
  std::vector<Shape> shapes;
  for (const ValueId v : node.outputs) {
    outputs.push_back(v == kNoValue ? Ref{} : plan.write(node, v, Layout::kPlain));
    shapes.push_back(v == kNoValue ? Shape{} : plan.shape(node, v));
  }
  const auto shared_node = plan.own(std::move(copy));
  plan.add_step(node, "move:" + node.op_type, 0, [=](const RunContext& run) {
    std::vector<Tensor> owned;
    owned.reserve(operands.size());
    std::vector<const Tensor*> inputs;
    for (const Operand& operand : operands) {
      if (operand.stored) {
        // Borrowed from the arena for the length of the call.
        auto* bytes = const_cast<std::byte*>(reinterpret_cast<const std::byte*>(run.in(operand.ref)));
        owned.emplace_back(DataType::kUInt8, operand.shape, std::shared_ptr<std::byte>(bytes, [](std::byte*) {}));
        inputs.push_back(&owned.back());
      } else if (operand.tensor) {
        inputs.push_back(operand.tensor.get());
      } else {
        inputs.push_back(operand.value == kNoValue ? nullptr : &(*run.tensors)[index(operand.value)]);
      }
    }
    const EvalContext context{.node = *shared_node, .opset = opset, .inputs = inputs, .mode = ExecMode::kFixedOrder, .pool = run.pool};
    const std::vector<Tensor> results = evaluate_node(context);
    for (std::size_t i = 0; i < outputs.size() && i < results.size(); ++i) {
      if (outputs[i].buffer < 0) continue;
      if (results[i].shape() != shapes[i] || results[i].type() != DataType::kUInt8)
        fail(ErrorCode::kInvalidModel, "node '{}' ({}): gave {} where {} was planned", shared_node->name, shared_node->op_type,
             to_string(results[i].shape()), to_string(shapes[i]));
      std::memcpy(run.ptr(outputs[i]), results[i].bytes(), results[i].size_bytes());
    }
  });
}

}  // namespace nibble
