// PlanBuilder's answers to where a value lies: in memory of its own, inside of the join that reads it, or over an operand that nobody reads any more.
#include <algorithm>

#include "base/fail.h"
#include "runtime/plan_builder.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

}  // namespace

void PlanBuilder::used_until(const Ref& ref, NodeId node) {
  if (ref.buffer < 0) return;
  NodeId& last = last_use_[index(ref.buffer)];
  last = std::max(last, node);
}

void PlanBuilder::settle(ValueId v, Place place) {
  used_until(place.ref, last_reader_[index(v)]);
  plan_->places[index(v)] = std::move(place);
  pending_values_.push_back(v);
}

// Where the Concat that reads `v` wants it: inside of its own output, which gets its memory now. That is possible where v's rows are parts
// of the output's rows (the axis lies last), or where v is one run of the output's bytes (nothing lies before the axis).
std::optional<Place> PlanBuilder::joined_place(ValueId v, Layout layout, Room room) {
  const Join join = joins_[index(v)];
  if (join.node == kNoNode) return std::nullopt;
  const Node& concat = program_.model.graph.node(join.node);
  const ValueId whole = concat.output(0);
  const auto known_shape = [&](ValueId id) -> std::optional<Shape> {
    const TensorType& type = inferred_.types[index(id)];
    if (!type.has_rank) return std::nullopt;
    Shape result;
    for (const Dim& dim : type.dims) {
      if (!dim.known()) return std::nullopt;
      result.push_back(dim.size);
    }
    return result;
  };
  const auto shape_v = known_shape(v);
  const auto shape_y = known_shape(whole);
  if (!shape_v || !shape_y || shape_y->size() != shape_v->size()) return std::nullopt;
  const auto rank = static_cast<std::int64_t>(shape_y->size());
  std::int64_t axis = concat.get_int("axis", 1);
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) return std::nullopt;
  // A join of images is one of channels-last images; whether its other parts are, nobody knows yet.
  if (rank >= 3 && layout == Layout::kPlain) return std::nullopt;
  const auto at = static_cast<std::size_t>(physical_axis(axis, rank, layout));
  const Shape lies = physical_shape(*shape_y, layout);
  const bool is_run = std::all_of(lies.begin(), lies.begin() + static_cast<std::ptrdiff_t>(at), [](std::int64_t d) { return d == 1; });
  const bool is_last = at + 1 == lies.size();
  if (!is_run && (!is_last || room == Room::kNone)) return std::nullopt;
  std::int64_t first = 0;  // along the axis
  for (std::size_t i = 0; i < join.part; ++i) {
    const auto before = known_shape(concat.input(i));
    if (!before || before->size() != shape_y->size()) return std::nullopt;
    first += (*before)[static_cast<std::size_t>(axis)];
  }

  Place& place = plan_->places[index(whole)];
  if (!place.stored) {
    // What is joined along another axis than the last one lies dense.
    auto outer = joined_place(whole, layout, is_last ? Room::kBetweenRows : Room::kNone);
    if (outer && (is_last || outer->ld == row_length(*shape_y, layout))) {
      place = std::move(*outer);
    } else {
      place = {.ref = temporary(element_count(*shape_y)),
               .layout = layout,
               .shape = *shape_y,
               .ld = row_length(*shape_y, layout),
               .stored = true};
    }
  }
  if (place.layout != layout) return std::nullopt;
  const bool dense = place.ld == row_length(*shape_y, layout);
  std::int64_t step = 1;
  for (std::size_t d = at + 1; d < lies.size(); ++d) step *= lies[d];
  Place part{
      .ref = place.ref, .layout = layout, .shape = *shape_v, .ld = is_last ? place.ld : row_length(*shape_v, layout), .stored = true};
  part.ref.offset += first * step;
  if (is_last && is_run && dense) part.ld = row_length(*shape_v, layout);
  used_until(part.ref, last_reader_[index(whole)]);
  return part;
}

Rows PlanBuilder::write_rows(const Node& node, ValueId v, Layout layout) {
  const Shape value_shape = shape(node, v);
  if (value_shape.size() < 3) layout = Layout::kPlain;
  Place place = plan_->places[index(v)];
  if (!place.stored) {
    if (auto joined = joined_place(v, layout, Room::kBetweenRows))
      place = std::move(*joined);
    else
      place = {.ref = temporary(element_count(value_shape)),
               .layout = layout,
               .shape = value_shape,
               .ld = row_length(value_shape, layout),
               .stored = true};
  }
  pending_.push_back(place.ref.buffer);
  const Rows rows{.ref = place.ref, .ld = place.ld};
  settle(v, std::move(place));
  return rows;
}

Ref PlanBuilder::write(const Node& node, ValueId v, Layout layout) {
  const Shape value_shape = shape(node, v);
  if (value_shape.size() < 3) layout = Layout::kPlain;
  const std::int64_t length = row_length(value_shape, layout);
  if (plan_->places[index(v)].stored) return write_rows(node, v, layout).ref;  // a join that has its parts already, dense
  if (auto joined = joined_place(v, layout, Room::kNone); joined && joined->ld == length) return write_rows(node, v, layout).ref;
  const Ref ref = temporary(element_count(value_shape));
  settle(v, {.ref = ref, .layout = layout, .shape = value_shape, .ld = length, .stored = true});
  return ref;
}

// The operand lies dense in this layout, nobody reads anything in its memory after node `last`, and nothing else of what is `read` lies
// there.
bool PlanBuilder::can_lie_over(ValueId operand, Layout layout, std::int64_t size, NodeId last, std::span<const ValueId> read) const {
  if (program_.model.graph.is_constant(operand)) return false;
  const Place& place = plan_->places[index(operand)];
  if (!place.stored || place.ref.buffer < 0 || place.layout != layout || element_count(place.shape) != size) return false;
  if (place.ld != row_length(place.shape, layout) || last_use_[index(place.ref.buffer)] > last) return false;
  return std::all_of(read.begin(), read.end(), [&](ValueId other) {
    return other == kNoValue || !plan_->places[index(other)].stored || plan_->places[index(other)].ref.buffer != place.ref.buffer;
  });
}

Ref PlanBuilder::write_over(const Node& node, ValueId v, Layout layout, std::span<const ValueId> operands) {
  const Shape value_shape = shape(node, v);
  if (value_shape.size() < 3) layout = Layout::kPlain;
  if (is_joined(v)) return write(node, v, layout);
  const std::int64_t length = row_length(value_shape, layout);
  for (const ValueId operand : operands) {
    std::vector<ValueId> others = node.inputs;
    std::erase(others, operand);
    if (!can_lie_over(operand, layout, element_count(value_shape), current_, others)) continue;
    const Ref ref = plan_->places[index(operand)].ref;
    pending_.push_back(ref.buffer);
    settle(v, {.ref = ref, .layout = layout, .shape = value_shape, .ld = length, .stored = true});
    return ref;
  }
  return write(node, v, layout);
}

std::optional<PlanBuilder::Sum> PlanBuilder::write_sum(const Node& node, Layout layout) {
  const ValueId v = node.output(0);
  if (options_.values == Values::kEvery || readers_[index(v)] != 1) return std::nullopt;
  const NodeId reader = last_reader_[index(v)];
  if (reader >= static_cast<NodeId>(program_.model.graph.nodes().size())) return std::nullopt;
  const Node& add = program_.model.graph.node(reader);
  const ValueId sum = add.output(0);
  if ((add.op_type != "Add" && add.op_type != "Sub") || !is_stored(sum)) return std::nullopt;
  const bool second = add.input(0) == v;  // the other operand is the adder's second
  const ValueId other = add.input(second ? 1 : 0);
  // Computed by a node before this one, so that the sum is, too.
  if (!is_stored(other) || program_.model.graph.is_constant(other) || !plan_->places[index(other)].stored) return std::nullopt;
  const NodeId made = program_.model.graph.value(other).producer;
  if (made != kNoNode && made >= current_) return std::nullopt;
  const Shape value_shape = shape(add, sum);
  if (shape(node, v) != value_shape || plan_->places[index(other)].shape != value_shape) return std::nullopt;
  if (value_shape.size() < 3) layout = Layout::kPlain;

  const QuantParams& out = params(sum);
  Sum result;
  result.law = kernels::residual_add(
      node_adder(program_.model, add), second ? kernels::ResidualRole::kSecond : kernels::ResidualRole::kFirst,
      {.requantized = stored_grid(params(v)).offset, .other = stored_grid(params(other)).offset, .dst = stored_grid(out).offset},
      output_grid(out, add));
  result.other = read_rows(add, other, layout);
  // Kernels write rows of columns under masks of up to 64 bytes; what they read next must not lie behind a mask, or it waits for the store.
  constexpr std::int64_t kWidestStore = 64;
  // Nodes between this one and the sum's run after it.
  const auto is_read_between = [&](std::int32_t buffer) {
    for (NodeId between = current_ + 1; between < reader; ++between) {
      for (const ValueId input : program_.model.graph.node(between).inputs) {
        if (input != kNoValue && plan_->places[index(input)].stored && plan_->places[index(input)].ref.buffer == buffer) return true;
      }
    }
    return false;
  };
  if (result.other.ld % kWidestStore == 0 && !is_joined(sum) &&
      can_lie_over(other, layout, element_count(value_shape), reader, node.inputs) && !is_read_between(result.other.ref.buffer)) {
    result.dst = result.other;
    settle(sum, {.ref = result.dst.ref, .layout = layout, .shape = value_shape, .ld = result.dst.ld, .stored = true});
  } else {
    result.dst = write_rows(add, sum, layout);
  }
  done_[index(reader)] = true;
  return result;
}

void PlanBuilder::alias(ValueId v, const Ref& source, Layout layout, Shape value_shape, std::int64_t ld) {
  const std::int64_t length = row_length(value_shape, layout);
  settle(v, {.ref = source, .layout = layout, .shape = std::move(value_shape), .ld = ld == 0 ? length : ld, .stored = true});
}

bool PlanBuilder::lies_at(ValueId v, const Rows& rows, Layout layout) const {
  if (program_.model.graph.is_constant(v)) return false;
  const Place& place = plan_->places[index(v)];
  if (!place.stored || place.layout != layout || !(place.ref == rows.ref)) return false;
  const std::int64_t length = row_length(place.shape, layout);
  return place.ld == rows.ld || (length > 0 && element_count(place.shape) <= length);
}

}  // namespace nibble
