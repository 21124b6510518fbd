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

namespace nibble {

class PlanBuilder {
 public:
  PlanBuilder(const Program::Impl& program, std::span<const TensorType> input_types, int threads);
  std::unique_ptr<const Plan> build();

  // --- what there is ---------------------------------------------------------------------------------------------------------------------
  const Program::Impl& program() const { return program_; }
  const QuantizedGraph& model() const { return program_.model; }
  kernels::Isa isa() const { return program_.isa; }
  int threads() const { return threads_; }
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
  // What lowering prepared for the current node.
  template <typename T>
  const T* prepared() const {
    return std::get_if<T>(&program_.prepared[static_cast<std::size_t>(current_)]);
  }

  // --- operands of the step that is being written -------------------------------------------------------------------------------------------
  // The layout that a stored value has now (constants: plain).
  Layout layout_of(ValueId v) const;
  // The stored value in a layout; a conversion step is put in front where needed. Values whose two layouts are the same bytes are not moved.
  Ref read(const Node& node, ValueId v, Layout layout);
  // A new place for a value.
  Ref write(const Node& node, ValueId v, Layout layout);
  // A value whose bytes are those of `source` (reshape): no step.
  void alias(ValueId v, const Ref& source, Layout layout, Shape shape);
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

 private:
  void lower_node(const Node& node);
  void lower_plain(const Node& node);
  Ref convert(const Node& node, ValueId v, const Ref& from, Layout to);

  const Program::Impl& program_;
  int threads_;
  InferredGraph inferred_;
  std::unique_ptr<Plan> plan_ = std::make_unique<Plan>();
  NodeId current_ = kNoNode;
  std::vector<std::int32_t> pending_;  // buffers of the step that is being written
  std::vector<ValueId> pending_values_;
  std::map<std::pair<ValueId, Layout>, Ref> other_layout_;
};

// One row an op that has an integer form: src/runtime/lowering_table.cc.
using LowerFn = void (*)(PlanBuilder& plan, const Node& node);
// nullptr for ops without a row.
LowerFn find_lowering(std::string_view op_type);

// The two layouts of a shape hold the same bytes (rank < 3, one channel, or one pixel).
bool layouts_agree(const Shape& shape);
// The shape as it lies in memory.
Shape physical_shape(const Shape& shape, Layout layout);
// ONNX axis -> physical axis.
std::int64_t physical_axis(std::int64_t axis, std::int64_t rank, Layout layout);
// Batch, channels and pixels of a channels-last shape of rank >= 2.
struct Extents {
  std::int64_t batch = 1, channels = 1, height = 1, width = 1, pixels = 1;
};
Extents extents_of(const Shape& shape);

// The lowering functions, by file.
void lower_conv(PlanBuilder& plan, const Node& node);            // steps_conv.cc
void lower_conv_transpose(PlanBuilder& plan, const Node& node);
void lower_matmul(PlanBuilder& plan, const Node& node);          // steps_matmul.cc
void lower_add(PlanBuilder& plan, const Node& node);             // steps_elementwise.cc
void lower_mul(PlanBuilder& plan, const Node& node);
void lower_table(PlanBuilder& plan, const Node& node);
void lower_max_pool(PlanBuilder& plan, const Node& node);        // steps_pool.cc
void lower_average_pool(PlanBuilder& plan, const Node& node);
void lower_reduce_mean(PlanBuilder& plan, const Node& node);
void lower_concat(PlanBuilder& plan, const Node& node);          // steps_move.cc
void lower_reshape(PlanBuilder& plan, const Node& node);
void lower_resize(PlanBuilder& plan, const Node& node);
void lower_move(PlanBuilder& plan, const Node& node);            // any other tied op: the op itself, on the codes
void lower_quantize(PlanBuilder& plan, const Node& node);        // steps_edge.cc
void lower_dequantize(PlanBuilder& plan, const Node& node);

}  // namespace nibble
