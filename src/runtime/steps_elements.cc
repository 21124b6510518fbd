// Operators that only move elements, without knowing any of them: what the operator does to an image of element numbers tells where each
// element of its output comes from. Where that is a constant step along each axis (Slice, Split, Transpose, Expand ...), the output is a
// view of the input, if its rows lie as rows must, or one strided copy. Pad is that inside of a box, and a constant around it.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "kernels/layout/layout.h"
#include "ops/op.h"
#include "quantize/node_arithmetic.h"
#include "runtime/plan_builder.h"

namespace nibble {
namespace {

// Element numbers are int32.
constexpr std::int64_t kMostElements = std::int64_t{1} << 30;

struct Axis {
  std::int64_t extent = 1;
  std::int64_t from = 0, to = 0;  // steps in bytes
};

std::vector<std::int64_t> dense_steps(const Shape& shape) {
  std::vector<std::int64_t> steps(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) steps[i - 1] = steps[i] * shape[i];
  return steps;
}

// Steps between neighbours along each ONNX axis of a value that lies in a layout with rows `ld` apart.
std::vector<std::int64_t> steps_of(const Shape& shape, Layout layout, std::int64_t ld) {
  const auto rank = static_cast<std::int64_t>(shape.size());
  Shape lies = physical_shape(shape, layout);
  if (!lies.empty()) lies.back() = ld;
  std::vector<std::int64_t> physical = dense_steps(lies);
  std::vector<std::int64_t> result(shape.size());
  for (std::int64_t d = 0; d < rank; ++d)
    result[static_cast<std::size_t>(d)] = physical[static_cast<std::size_t>(physical_axis(d, rank, layout))];
  return result;
}

// Where the elements of an output come from: at index i (in ONNX order) from byte base + sum i[d] step[d] of the input, inside of the box
// [low, high); outside of it the output is filled.
struct Origin {
  std::int64_t base = 0;
  std::vector<std::int64_t> step;
  Shape low, high;
};

// `numbers`: for each element of the output the number of the input's element, or -1. nullopt where the steps are not constant.
std::optional<Origin> find_origin(std::span<const std::int32_t> numbers, const Shape& y, const Shape& x,
                                  const std::vector<std::int64_t>& x_steps) {
  const std::vector<std::int64_t> x_dense = dense_steps(x);
  const auto byte_of = [&](std::int32_t number) {
    std::int64_t rest = number;
    std::int64_t at = 0;
    for (std::size_t d = 0; d < x.size(); ++d) {
      at += rest / x_dense[d] * x_steps[d];
      rest %= x_dense[d];
    }
    return at;
  };
  const std::vector<std::int64_t> y_dense = dense_steps(y);
  const auto first = std::find_if(numbers.begin(), numbers.end(), [](std::int32_t n) { return n >= 0; });
  if (first == numbers.end()) return std::nullopt;
  Origin origin;
  std::int64_t flat = first - numbers.begin();
  const std::int64_t corner = flat;
  origin.base = byte_of(*first);
  for (std::size_t d = 0; d < y.size(); ++d) {
    const std::int64_t low = flat / y_dense[d];
    flat %= y_dense[d];
    std::int64_t count = 1;
    while (low + count < y[d] && numbers[static_cast<std::size_t>(corner + count * y_dense[d])] >= 0) ++count;
    origin.low.push_back(low);
    origin.high.push_back(low + count);
    origin.step.push_back(count > 1 ? byte_of(numbers[static_cast<std::size_t>(corner + y_dense[d])]) - origin.base : 0);
  }
  for (std::size_t d = 0; d < y.size(); ++d) origin.base -= origin.low[d] * origin.step[d];
  std::vector<std::int64_t> at(y.size(), 0);
  std::int64_t expected = origin.base;
  for (const std::int32_t number : numbers) {
    bool inside = true;
    for (std::size_t d = 0; d < y.size(); ++d) inside = inside && at[d] >= origin.low[d] && at[d] < origin.high[d];
    if (inside != (number >= 0) || (inside && byte_of(number) != expected)) return std::nullopt;
    for (std::size_t d = y.size(); d-- > 0;) {
      expected += origin.step[d];
      if (++at[d] < y[d]) break;
      at[d] = 0;
      expected -= origin.step[d] * y[d];
    }
  }
  return origin;
}

// The distance of the rows, if an output in `layout` with these steps is rows of neighbouring bytes, one after the other: a view.
std::optional<std::int64_t> row_distance(const Origin& origin, const Shape& y, Layout layout) {
  const auto rank = static_cast<std::int64_t>(y.size());
  std::vector<Axis> axes(y.size());
  for (std::int64_t d = 0; d < rank; ++d)
    axes[static_cast<std::size_t>(physical_axis(d, rank, layout))] = {.extent = y[static_cast<std::size_t>(d)],
                                                                      .from = origin.step[static_cast<std::size_t>(d)]};
  const std::int64_t length = row_length(y, layout);
  if (axes.empty()) return length;
  if (axes.back().extent > 1 && axes.back().from != 1) return std::nullopt;
  std::int64_t ld = 0;
  std::int64_t rows = 1;
  for (std::size_t d = axes.size() - 1; d-- > 0;) {
    if (axes[d].extent == 1) continue;
    if (ld == 0) {
      if (axes[d].from < length) return std::nullopt;
      ld = axes[d].from;
    }
    if (axes[d].from != rows * ld) return std::nullopt;
    rows *= axes[d].extent;
  }
  return ld == 0 ? length : ld;
}

// A copy of bytes between two sets of steps.
struct StridedCopy {
  std::vector<Axis> axes;  // the last ones: what `transposes` or the innermost loop does
  bool transposes = false;

  explicit StridedCopy(std::vector<Axis> all) {
    std::erase_if(all, [](const Axis& a) { return a.extent == 1; });
    for (const Axis& axis : all) {
      // Two axes that are one on both sides.
      if (!axes.empty() && axes.back().from == axis.from * axis.extent && axes.back().to == axis.to * axis.extent)
        axes.back() = {.extent = axes.back().extent * axis.extent, .from = axis.from, .to = axis.to};
      else
        axes.push_back(axis);
    }
    if (axes.empty()) axes.push_back({.extent = 1, .from = 1, .to = 1});
    if (axes.back().to == 1 && axes.back().from != 1) {
      const auto across = std::find_if(axes.begin(), axes.end() - 1, [](const Axis& a) { return a.from == 1; });
      if (across != axes.end() - 1) {
        std::rotate(across, across + 1, axes.end() - 1);
        transposes = true;
      }
    }
  }

  std::size_t outer_axes() const { return axes.size() - (transposes ? 2 : 1); }
  std::int64_t outer_count() const {
    std::int64_t count = 1;
    for (std::size_t d = 0; d < outer_axes(); ++d) count *= axes[d].extent;
    return count;
  }

  void run(kernels::Isa isa, const std::uint8_t* src, std::uint8_t* dst, std::int64_t begin, std::int64_t end) const {
    const Axis& inner = axes.back();
    for (std::int64_t i = begin; i < end; ++i) {
      std::int64_t rest = i;
      std::int64_t from = 0;
      std::int64_t to = 0;
      for (std::size_t d = outer_axes(); d-- > 0;) {
        from += rest % axes[d].extent * axes[d].from;
        to += rest % axes[d].extent * axes[d].to;
        rest /= axes[d].extent;
      }
      if (transposes) {
        const Axis& across = axes[axes.size() - 2];
        kernels::transpose_u8(isa, src + from, inner.from, dst + to, across.to, inner.extent, across.extent);
      } else if (inner.from == 1 && inner.to == 1) {
        std::memcpy(dst + to, src + from, static_cast<std::size_t>(inner.extent));
      } else {
        for (std::int64_t k = 0; k < inner.extent; ++k) dst[to + k * inner.to] = src[from + k * inner.from];
      }
    }
  }
};

bool moves_elements(const Node& node) {
  for (const std::string_view op : {"Slice", "Split", "Transpose", "Pad", "Expand", "Gather"}) {
    if (node.op_type == op) return true;
  }
  return false;
}

// The operator on numbers instead of elements; what fills is -1. Empty where it takes something that is not known yet.
std::vector<Tensor> move_numbers(const PlanBuilder& plan, const Node& node, const Shape& x) {
  Tensor numbers(DataType::kInt32, x);
  auto data = numbers.mutable_data<std::int32_t>();
  std::iota(data.begin(), data.end(), 0);
  const Tensor fill = Tensor::scalar<std::int32_t>(-1);
  std::vector<const Tensor*> inputs = {&numbers};
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    const Tensor* known = plan.known(node.inputs[i]);
    if (node.inputs[i] != kNoValue && known == nullptr) return {};
    inputs.push_back(known);
  }
  Node moving = node;
  const int opset = plan.model().graph.opset(node.domain);
  if (node.op_type == "Pad") {
    if (node.get_string("mode", "constant") != "constant") return {};
    if (opset < 11) {
      moving.attributes.insert_or_assign("value", -1.0F);
    } else {
      if (inputs.size() < 3) inputs.resize(3, nullptr);
      inputs[2] = &fill;
    }
  }
  return evaluate_node({.node = moving, .opset = opset, .inputs = inputs});
}

std::uint8_t fill_code(const PlanBuilder& plan, const Node& node) {
  const QuantParams& p = plan.params(node.input(0));
  float fill = node.get_float("value", 0.0F);
  if (node.input(2) != kNoValue) fill = cast(*plan.known(node.input(2)), DataType::kFloat32).data<float>()[0];
  return static_cast<std::uint8_t>(quantize_scalar(fill, p) + stored_grid(p).offset);
}

}  // namespace

bool lower_elements(PlanBuilder& plan, const Node& node) {
  const ValueId source = node.input(0);
  if (!moves_elements(node) || !plan.is_stored(source)) return false;
  const Shape x = plan.shape(node, source);
  if (element_count(x) == 0 || element_count(x) > kMostElements) return false;
  const std::vector<Tensor> numbers = move_numbers(plan, node, x);
  if (numbers.size() < node.outputs.size()) return false;
  const Layout layout = plan.layout_of(source);
  const Rows src = plan.read_rows(node, source, layout);
  const std::vector<std::int64_t> steps = steps_of(x, layout, src.ld);
  std::vector<Origin> origins;
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) {
      origins.emplace_back();
      continue;
    }
    const Shape y = plan.shape(node, node.outputs[i]);
    if (numbers[i].shape() != y || numbers[i].type() != DataType::kInt32) return false;
    auto origin = find_origin(numbers[i].data<std::int32_t>(), y, x, steps);
    if (!origin) return false;
    origins.push_back(std::move(*origin));
  }

  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    const ValueId output = node.outputs[i];
    if (output == kNoValue) continue;
    const Origin& origin = origins[i];
    const Shape y = plan.shape(node, output);
    const auto rank = static_cast<std::int64_t>(y.size());
    const bool whole = origin.high == y;
    const bool fills = !whole || std::any_of(origin.low.begin(), origin.low.end(), [](std::int64_t low) { return low > 0; });
    const Layout other = layout == Layout::kPlain ? Layout::kChannelsLast : Layout::kPlain;
    Layout target = rank < 3 ? Layout::kPlain : layout;
    bool is_view = false;
    for (const Layout candidate : {target, rank < 3 ? Layout::kPlain : other}) {
      const auto ld = fills || is_view ? std::nullopt : row_distance(origin, y, candidate);
      if (!ld) continue;
      Ref ref = src.ref;
      if (ref.constant != nullptr)
        ref.constant += origin.base;
      else
        ref.offset += origin.base;
      plan.alias(output, ref, candidate, y, *ld);
      is_view = true;
    }
    if (is_view) continue;

    plan.keep(src.ref);
    const Rows dst = plan.write_rows(node, output, target);
    const std::vector<std::int64_t> to = steps_of(y, target, dst.ld);
    std::vector<Axis> axes(y.size());
    std::int64_t first_from = origin.base;
    std::int64_t first_to = 0;
    for (std::int64_t d = 0; d < rank; ++d) {
      const auto at = static_cast<std::size_t>(d);
      first_from += origin.low[at] * origin.step[at];
      first_to += origin.low[at] * to[at];
      axes[static_cast<std::size_t>(physical_axis(d, rank, target))] = {
          .extent = origin.high[at] - origin.low[at], .from = origin.step[at], .to = to[at]};
    }
    const StridedCopy copy(std::move(axes));
    const std::int64_t count = copy.outer_count();
    const kernels::Isa isa = plan.isa();
    const std::int64_t length = row_length(y, target);
    const std::int64_t rows = element_count(y) / length;
    const std::uint8_t code = fills ? fill_code(plan, node) : std::uint8_t{0};
    const std::int64_t grain = plan.grain(count, static_cast<double>(element_count(y)) / static_cast<double>(count) / 8.0);
    plan.add_step(node, "copy:" + node.op_type, 0, [=](const RunContext& run) {
      const std::uint8_t* in = run.in(src.ref) + first_from;
      std::uint8_t* out = run.ptr(dst.ref);
      if (fills) {
        for (std::int64_t r = 0; r < rows; ++r) std::memset(out + r * dst.ld, code, static_cast<std::size_t>(length));
      }
      run.pool->parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) { copy.run(isa, in, out + first_to, begin, end); });
    });
  }
  return true;
}

}  // namespace nibble
