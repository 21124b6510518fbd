// Min and Max against a constant: clips, one for each channel perhaps (docs/arithmetic.md, Eq. 27).
#include <algorithm>
#include <array>

#include "base/fail.h"
#include "quantize/integer_form.h"
#include "runtime/plan_builder.h"

namespace nibble {
namespace {

// The axis of x along which the bounds lie; -1: one bound for all. nullopt where they vary along several, or enlarge x.
std::optional<std::int64_t> axis_of_bounds(const Shape& bounds, const Shape& x) {
  std::int64_t axis = -1;
  if (bounds.size() > x.size()) return std::nullopt;
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    if (bounds[i] == 1) continue;
    const std::size_t at = x.size() - bounds.size() + i;
    if (axis >= 0 || bounds[i] != x[at]) return std::nullopt;
    axis = static_cast<std::int64_t>(at);
  }
  return axis;
}

template <typename F>
void bound_rows(const std::uint8_t* src, std::int64_t ld_src, std::uint8_t* dst, std::int64_t ld_dst, std::int64_t rows,
                std::int64_t length, const std::uint8_t* bounds, F f) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::uint8_t* in = src + r * ld_src;
    std::uint8_t* out = dst + r * ld_dst;
#pragma GCC ivdep  // `out` is `in`, or far from it
    for (std::int64_t i = 0; i < length; ++i) out[i] = f(in[i], bounds[i]);
  }
}

}  // namespace

void lower_bound(PlanBuilder& plan, const Node& node) {
  const std::size_t at = bound_operand(plan.model().graph, node).value_or(2);
  if (at > 1) fail(ErrorCode::kUnsupported, "node '{}' ({}): the integer runtime bounds by a constant only", node.name, node.op_type);
  const ValueId x = node.inputs[1 - at];
  const ValueId y = node.output(0);
  const Shape shape = plan.shape(node, x);
  const auto axis = axis_of_bounds(plan.shape(node, node.inputs[at]), shape);
  if (!axis || plan.shape(node, y) != shape) return lower_move(plan, node);

  const Layout layout = plan.layout_of(x);
  const std::int64_t length = row_length(shape, layout);
  const std::int64_t rows = length > 0 ? element_count(shape) / length : 0;
  const std::uint8_t* codes = plan.read_rows(node, node.inputs[at], Layout::kPlain).ref.constant;
  // One row of bounds, or as many as there are until they repeat.
  const Shape lies = physical_shape(shape, layout);
  const auto rank = static_cast<std::int64_t>(shape.size());
  const std::int64_t along = *axis < 0 ? rank - 1 : physical_axis(*axis, rank, layout);
  std::int64_t repeats = 1;  // rows of the same bounds, one behind the other
  for (std::int64_t d = along + 1; d + 1 < rank; ++d) repeats *= lies[static_cast<std::size_t>(d)];
  const bool in_row = along + 1 == rank;
  const std::int64_t kinds = in_row ? 1 : lies[static_cast<std::size_t>(along)];
  std::vector<std::uint8_t> table(static_cast<std::size_t>(kinds * length));
  for (std::int64_t k = 0; k < kinds; ++k) {
    for (std::int64_t i = 0; i < length; ++i) table[static_cast<std::size_t>(k * length + i)] = codes[*axis < 0 ? 0 : in_row ? i : k];
  }
  const auto bounds = plan.own(std::move(table));

  const Rows src = plan.read_rows(node, x, layout);
  Rows dst{.ref = {}, .ld = length};
  if (src.ld == length && !plan.is_joined(y))
    dst.ref = plan.write_over(node, y, layout, std::array{x});
  else
    dst = plan.write_rows(node, y, layout);
  const bool lower = node.op_type == "Max";
  const std::int64_t grain = plan.grain(rows, static_cast<double>(length) * 0.05 + 2.0);
  plan.add_step(node, lower ? "max_rows" : "min_rows", 0, [=](const RunContext& run) {
    run.pool->parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
      while (begin < end) {
        const std::int64_t kind = begin / repeats % kinds;
        const std::int64_t count = kinds == 1 ? end - begin : std::min(end - begin, repeats - begin % repeats);
        const std::uint8_t* in = run.in(src.ref) + begin * src.ld;
        std::uint8_t* out = run.ptr(dst.ref) + begin * dst.ld;
        const std::uint8_t* b = bounds->data() + kind * length;
        if (lower)
          bound_rows(in, src.ld, out, dst.ld, count, length, b, [](std::uint8_t p, std::uint8_t q) { return std::max(p, q); });
        else
          bound_rows(in, src.ld, out, dst.ld, count, length, b, [](std::uint8_t p, std::uint8_t q) { return std::min(p, q); });
        begin += count;
      }
    });
  });
}

}  // namespace nibble
