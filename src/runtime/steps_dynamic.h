// Dynamic quantization: DynamicQuantizeLinear and the integer layers behind it, as quantizers write them:
//
//   x -> DynamicQuantizeLinear -> q, s, z
//   q, z -> ConvInteger | MatMulInteger (constant weights) -> Cast -> Mul(Mul(s, weight scale)) [-> Add(bias)] [-> Relu | Clip] -> y
//
// become one step each for the quantization and for the layer (kernels/dynamic/dynamic.h). Between such layers, and sums of their results,
// reals stay in the arena, channels last, and come with their range; any other reader gets a tensor first.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <vector>

#include "kernels/quantize_linear/quantize_linear.h"
#include "runtime/plan.h"

namespace nibble {

class PlanBuilder;

// Packs the constant weights of a ConvInteger or MatMulInteger that the kernels take; else the monostate.
Prepared prepare_integer_product(const Program::Impl& program, const Node& node);

class DynamicLowering {
 public:
  // True: the node has its steps, or is part of those of another one.
  bool lower(PlanBuilder& plan, NodeId id);
  // Makes a tensor of a value that lies in the arena, if it does.
  void need_tensor(PlanBuilder& plan, const Node& reader, ValueId v);

 private:
  // Floats in the arena, and one FloatRange a thread.
  struct Real {
    Ref data, ranges;
    Layout layout = Layout::kPlain;
    Shape shape;
    bool has_tensor = false;
  };
  // What follows an integer product.
  struct Layer {
    std::vector<NodeId> nodes;  // all but the product
    ValueId scales = kNoValue;  // Mul(s, weight scale)
    ValueId output = kNoValue;
    std::vector<float> wei_scale, bias;  // one a channel; bias may be empty
    float lo = 0, hi = 0;
    Ref codes, grid;  // of the quantization in front
    Layout layout = Layout::kPlain;
  };

  void find_readers(const PlanBuilder& plan);
  NodeId only_reader(const PlanBuilder& plan, ValueId v) const;
  std::optional<Layer> match(const PlanBuilder& plan, NodeId product, ValueId scale) const;
  void match_clip(const PlanBuilder& plan, ValueId& output, std::vector<NodeId>& nodes, float& lo, float& hi) const;
  bool lower_quantize(PlanBuilder& plan, NodeId id);
  void lower_product(PlanBuilder& plan, NodeId id, const Layer& layer);
  bool lower_sum(PlanBuilder& plan, NodeId id);

  bool ready_ = false;
  std::vector<std::vector<NodeId>> readers_;  // by ValueId; graph outputs: kNoNode
  std::map<NodeId, Layer> layers_;            // products to come
  std::map<ValueId, Real> reals_;
};

}  // namespace nibble
