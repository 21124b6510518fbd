// PlanBuilder: what the lowering functions of the operators write a Plan with.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ops/op.h"
#include "runtime/plan.h"
#include "runtime/steps_dynamic.h"

namespace nibble {

class PlanBuilder {
 public:
  PlanBuilder(const Program::Impl& program, std::span<const TensorType> input_types, const PlanOptions& options);
  std::unique_ptr<const Plan> build();

  // --- what there is ---------------------------------------------------------------------------------------------------------------------
  const Program::Impl& program() const { return program_; }
  const QuantizedGraph& model() const { return program_.model; }
  kernels::Isa isa() const { return program_.isa; }
  int threads() const { return options_.threads; }
  const QuantParams& params(ValueId v) const { return *program_.model.params_of(v); }
  bool is_integer(ValueId v) const { return v != kNoValue && program_.model.params_of(v) != nullptr; }
  // Integers that the kernels take lie in the arena; wider ones are tensors, and only edges touch them.
  bool is_stored(ValueId v) const { return is_integer(v) && params(v).type.bit_width <= kStoredBits; }
  // The concrete shape of a value. Throws Error{kUnsupported} naming `node` where it is only known at run time.
  Shape shape(const Node& node, ValueId v) const;
  // The value of an operand that is known beforehand (axes, starts ...); nullptr if not.
  const Tensor* known(ValueId v) const;
  // The same for every input: an initializer of reals, or what a DequantizeLinear makes of one of integers.
  const Tensor* constant(ValueId v) const;
  // Values that nobody asked for need not exist.
  bool may_fuse() const { return options_.values != Values::kEvery; }
  // The node is part of another one's steps.
  void set_done(NodeId id) { done_[static_cast<std::size_t>(id)] = true; }
  // What lowering prepared for the current node.
  template <typename T>
  const T* prepared() const {
    return std::get_if<T>(&program_.prepared[static_cast<std::size_t>(current_)]);
  }

  // --- operands of the step that is being written ---------------------------------------------------------------------------------
  // The layout that a stored value has now (constants: plain).
  Layout layout_of(ValueId v) const;
  // Who reads a value decides how one that comes from outside is laid out.
  bool wants_channels_last(ValueId v) const { return wants_channels_last_[static_cast<std::size_t>(v)]; }
  // The stored value in a layout, dense; a conversion step is put in front where needed. Values whose two layouts are the same bytes are
  // not moved.
  Ref read(const Node& node, ValueId v, Layout layout);
  // The same for a step that can step over what lies between the rows.
  Rows read_rows(const Node& node, ValueId v, Layout layout);
  // A new place for a value, dense.
  Ref write(const Node& node, ValueId v, Layout layout);
  // The same for a step that can leave room between the rows: the value's final place, if it is joined with others (Concat).
  Rows write_rows(const Node& node, ValueId v, Layout layout);
  // As write(), over the memory of one of `operands` that nobody reads after this node, where there is one. For steps that write element i
  // after they have read element i of each operand and before they read element i + 1. The operands have been read in this layout.
  Ref write_over(const Node& node, ValueId v, Layout layout, std::span<const ValueId> operands);
  // The sum that is all that becomes of the current node's output, if the other operand is there already and has its shape. The step then
  // makes the sum, and is the last word on it.
  struct Sum {
    kernels::ResidualAdd law;  // src is left to the run
    Rows other;
    Rows dst;
  };
  std::optional<Sum> write_sum(const Node& node, Layout layout);
  // A value whose bytes are those of `source`, or some of them (reshape, slice): no step. ld as in Place; 0: dense.
  void alias(ValueId v, const Ref& source, Layout layout, Shape shape, std::int64_t ld = 0);
  // A Concat wants the value in its own output.
  bool is_joined(ValueId v) const { return joins_[static_cast<std::size_t>(v)].node != kNoNode; }
  // The rows lie there already: written by the steps before, into the place that their join has.
  bool lies_at(ValueId v, const Rows& rows, Layout layout) const;
  // The step that is being written makes this tensor (floats, shapes).
  void produce(ValueId v) { pending_values_.push_back(v); }
  // Memory for this step alone.
  Ref temporary(std::int64_t bytes);
  // `ref` is read by the step that is being written.
  void keep(const Ref& ref) {
    if (ref.buffer >= 0) pending_.push_back(ref.buffer);
  }
  void need_scratch(std::int64_t bytes_per_thread);

  // Ends the step: what read(), write() and temporary() gave lives at least until here.
  void add_step(const Node& node, std::string kernel, std::int64_t macs, std::function<void(const RunContext&)> run);

  // Keeps an object alive as long as the plan.
  template <typename T>
  std::shared_ptr<const T> own(T object) {
    auto shared = std::make_shared<const T>(std::move(object));
    plan_->owned.push_back(shared);
    return shared;
  }

  // How many indices one chunk of a loop over `n` has, for work of `cost` (about nanoseconds) an index.
  std::int64_t grain(std::int64_t n, double cost_ns) const;
  // About how many multiply-adds the matrix kernels do in a nanosecond on so many rows: enough to tell what is worth sharing out.
  double macs_per_ns(std::int64_t rows) const;

 private:
  // A Concat, and which of its inputs.
  struct Join {
    NodeId node = kNoNode;
    std::size_t part = 0;
  };

  void find_uses();
  bool can_lie_over(ValueId operand, Layout layout, std::int64_t size, NodeId last, std::span<const ValueId> read) const;
  void lower_node(const Node& node);
  void lower_plain(const Node& node);
  Ref convert(const Node& node, ValueId v, const Rows& from, Layout to);
  void settle(ValueId v, Place place);
  void used_until(const Ref& ref, NodeId node);
  enum class Room { kNone, kBetweenRows };
  std::optional<Place> joined_place(ValueId v, Layout layout, Room room);

  const Program::Impl& program_;
  PlanOptions options_;
  InferredGraph inferred_;
  std::unique_ptr<Plan> plan_ = std::make_unique<Plan>();
  NodeId current_ = kNoNode;
  std::vector<std::int32_t> pending_;  // buffers of the step that is being written
  std::vector<ValueId> pending_values_;
  std::map<std::pair<ValueId, Layout>, Ref> copies_;  // dense copies of values that lie otherwise
  std::vector<int> readers_;                          // by ValueId: uses as an input; graph outputs count, too
  std::vector<bool> wants_channels_last_;             // by ValueId
  std::vector<bool> done_;                            // by NodeId: part of a step before
  std::vector<NodeId> last_reader_;                   // by ValueId; graph outputs: behind the last node
  std::vector<NodeId> last_use_;                      // by buffer: the last reader of anything that lies there
  std::vector<Join> joins_;                           // by ValueId
  DynamicLowering dynamic_;
};

// One row an op that has an integer form: src/runtime/lowering_table.cc.
using LowerFn = void (*)(PlanBuilder& plan, const Node& node);
// nullptr for ops without a row.
LowerFn find_lowering(std::string_view op_type);

// The two layouts of a shape hold the same bytes (rank < 3, one channel, or one pixel).
bool layouts_agree(const Shape& shape);
// The shape as it lies in memory.
Shape physical_shape(const Shape& shape, Layout layout);
// The extent of the last physical axis: how far apart the rows of a dense value lie.
std::int64_t row_length(const Shape& shape, Layout layout);
// ONNX axis -> physical axis.
std::int64_t physical_axis(std::int64_t axis, std::int64_t rank, Layout layout);
// Batch, channels and pixels of a channels-last shape of rank >= 2.
struct Extents {
  std::int64_t batch = 1, channels = 1, height = 1, width = 1, pixels = 1;
};
Extents extents_of(const Shape& shape);

// The lowering functions, by file.
void lower_conv(PlanBuilder& plan, const Node& node);  // steps_conv.cc
void lower_conv_transpose(PlanBuilder& plan, const Node& node);
void lower_matmul(PlanBuilder& plan, const Node& node);  // steps_matmul.cc
void lower_add(PlanBuilder& plan, const Node& node);     // steps_elementwise.cc
void lower_mul(PlanBuilder& plan, const Node& node);
void lower_table(PlanBuilder& plan, const Node& node);
void lower_bound(PlanBuilder& plan, const Node& node);  // steps_bound.cc
void lower_max_pool(PlanBuilder& plan, const Node& node);  // steps_pool.cc
void lower_average_pool(PlanBuilder& plan, const Node& node);
void lower_reduce_mean(PlanBuilder& plan, const Node& node);
void lower_concat(PlanBuilder& plan, const Node& node);  // steps_move.cc
void lower_reshape(PlanBuilder& plan, const Node& node);
void lower_resize(PlanBuilder& plan, const Node& node);
void lower_move(PlanBuilder& plan, const Node& node);      // any other tied op: the op itself, on the codes
bool lower_elements(PlanBuilder& plan, const Node& node);  // steps_elements.cc: tied ops as strided copies, or as views
void lower_wide(PlanBuilder& plan, const Node& node);            // steps_wide.cc: more bits than the kernels take
void lower_base_products(PlanBuilder& plan, const Node& node);   // steps_bases.cc
void lower_quantize(PlanBuilder& plan, const Node& node);  // steps_edge.cc
void lower_dequantize(PlanBuilder& plan, const Node& node);

}  // namespace nibble
