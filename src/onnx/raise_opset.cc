#include "onnx/raise_opset.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/fail.h"
#include "ops/op.h"

namespace nibble {
namespace {

class Raiser {
 public:
  Raiser(Graph graph, int target) : graph_(std::move(graph)), from_(graph_.opset("")), target_(target), editor_(graph_) {}

  Graph run() {
    if (from_ >= target_) return std::move(graph_);
    const auto node_count = static_cast<NodeId>(graph_.nodes().size());
    for (NodeId n = 0; n < node_count; ++n) {
      const Node node = graph_.node(n);  // copied: edits move what a reference points to
      if (node.domain.empty()) raise(n, node);
    }
    editor_.set_opset("", target_);
    editor_.finish();
    return std::move(graph_);
  }

 private:
  // A change that came with opset `version` concerns this graph.
  bool crosses(int version) const { return from_ < version && version <= target_; }

  [[noreturn]] void refuse(const Node& node, const std::string& why) const {
    fail(ErrorCode::kUnsupported, "node '{}' ({}) cannot be raised from opset {} to {}: {}; convert the model to opset {} first", node.name,
         node.op_type, from_, target_, why, target_);
  }

  ValueId ints(const Node& node, const std::string& what, const std::vector<std::int64_t>& values) {
    return editor_.add_constant(node.name + "_" + what, Tensor::from<std::int64_t>({static_cast<std::int64_t>(values.size())},
                                                                                   std::span<const std::int64_t>(values)));
  }
  ValueId scalar(const Node& node, const std::string& what, float value) {
    return editor_.add_constant(node.name + "_" + what, Tensor::scalar(value));
  }

  void raise(NodeId id, const Node& node) {
    const std::string& op = node.op_type;
    if (op == "Squeeze" || op == "Unsqueeze") {
      if (crosses(13)) axes_to_input(id, node);
    } else if (op == "ReduceSum") {
      if (crosses(13)) axes_to_input(id, node);
    } else if (op == "ReduceMax" || op == "ReduceMin" || op == "ReduceMean" || op == "ReduceProd" || op == "ReduceL1" || op == "ReduceL2" ||
               op == "ReduceLogSum" || op == "ReduceLogSumExp" || op == "ReduceSumSquare") {
      if (crosses(18)) axes_to_input(id, node);
    } else if (op == "Split") {
      raise_split(id, node);
    } else if (op == "Softmax" || op == "LogSoftmax" || op == "Hardmax") {
      if (crosses(13)) raise_softmax(id, node);
    } else if (op == "Clip") {
      if (crosses(11)) raise_clip(id, node);
    } else if (op == "Pad") {
      if (crosses(11)) raise_pad(id, node);
    } else if (op == "Slice") {
      if (crosses(10)) raise_slice(id, node);
    } else if (op == "TopK") {
      if (crosses(10)) {
        editor_.set_inputs(id, {node.input(0), ints(node, "k", {node.get_int("k", 1)})});
        editor_.remove_attribute(id, "k");
      }
    } else if (op == "Upsample" || op == "Resize") {
      if (crosses(11)) raise_resize(id, node);
    } else if (op == "Dropout") {
      if (crosses(12)) raise_dropout(id, node);
    } else if (op == "BatchNormalization") {
      raise_batch_norm(id, node);
    } else if (op == "Scatter") {
      if (crosses(11)) editor_.set_op_type(id, "ScatterElements");
    } else if (op == "RoiAlign") {
      if (crosses(16) && !node.has("coordinate_transformation_mode"))
        editor_.set_attribute(id, "coordinate_transformation_mode", std::string("output_half_pixel"));
    } else if (op == "GridSample") {
      if (crosses(20)) raise_grid_sample(id, node);
    } else if (op == "GroupNormalization") {
      if (crosses(21)) refuse(node, "its scale and bias changed their meaning");
    } else if (op == "DFT") {
      if (crosses(20)) refuse(node, "its axis became an input");
    } else if (find_op("", op) == nullptr) {
      refuse(node, "nibble does not know this op");
    }
  }

  void axes_to_input(NodeId id, const Node& node) {
    const auto axes = node.get_ints("axes");
    if (!axes) return;
    editor_.set_inputs(id, {node.input(0), ints(node, "axes", *axes)});
    editor_.remove_attribute(id, "axes");
  }

  void raise_split(NodeId id, const Node& node) {
    bool sized = node.input(1) != kNoValue;
    if (crosses(13)) {
      if (const auto split = node.get_ints("split")) {
        editor_.set_inputs(id, {node.input(0), ints(node, "split", *split)});
        editor_.remove_attribute(id, "split");
        sized = true;
      }
    }
    if (crosses(18) && !sized) editor_.set_attribute(id, "num_outputs", static_cast<std::int64_t>(node.outputs.size()));
  }

  std::optional<std::int64_t> rank_of(ValueId id) {
    if (id == kNoValue) return std::nullopt;
    const TensorType& known = graph_.value(id).type;
    if (known.has_rank) return static_cast<std::int64_t>(known.dims.size());
    return std::nullopt;
  }

  // Before opset 13 these saw a matrix: all axes from `axis` on were one.
  void raise_softmax(NodeId id, const Node& node) {
    const std::int64_t axis = node.get_int("axis", 1);
    const auto rank = rank_of(node.input(0));
    editor_.set_attribute(id, "axis", std::int64_t{-1});
    if (axis == -1 || (rank && (axis == *rank - 1 || axis == -1))) return;
    const std::string base = node.name;
    const ValueId matrix = editor_.add_value(base + "_matrix");
    const ValueId shape = editor_.add_value(base + "_shape");
    const ValueId result = editor_.add_value(base + "_result");
    const ValueId x = node.input(0);
    const ValueId y = node.output(0);
    editor_.set_inputs(id, {matrix});
    editor_.set_outputs(id, {result});
    Node flatten;
    flatten.op_type = "Flatten";
    flatten.name = base + "_flatten";
    flatten.inputs = {x};
    flatten.outputs = {matrix};
    flatten.attributes.emplace("axis", axis);
    editor_.add_node(std::move(flatten));
    Node shape_node;
    shape_node.op_type = "Shape";
    shape_node.name = base + "_shape";
    shape_node.inputs = {x};
    shape_node.outputs = {shape};
    editor_.add_node(std::move(shape_node));
    Node reshape;
    reshape.op_type = "Reshape";
    reshape.name = base + "_reshape";
    reshape.inputs = {result, shape};
    reshape.outputs = {y};
    editor_.add_node(std::move(reshape));
  }

  void raise_clip(NodeId id, const Node& node) {
    if (node.inputs.size() > 1) return;  // written by this room in the new form already
    std::vector<ValueId> inputs{node.input(0), kNoValue, kNoValue};
    if (node.has("min")) inputs[1] = scalar(node, "min", node.get_float("min", 0));
    if (node.has("max")) inputs[2] = scalar(node, "max", node.get_float("max", 0));
    editor_.set_inputs(id, std::move(inputs));
    editor_.remove_attribute(id, "min");
    editor_.remove_attribute(id, "max");
  }

  void raise_pad(NodeId id, const Node& node) {
    const auto pads = node.get_ints("pads");
    if (!pads) refuse(node, "it has no pads");
    std::vector<ValueId> inputs{node.input(0), ints(node, "pads", *pads)};
    if (node.get_string("mode", "constant") == "constant") inputs.push_back(scalar(node, "value", node.get_float("value", 0.0F)));
    editor_.set_inputs(id, std::move(inputs));
    editor_.remove_attribute(id, "pads");
    editor_.remove_attribute(id, "value");
  }

  void raise_slice(NodeId id, const Node& node) {
    const auto starts = node.get_ints("starts");
    const auto ends = node.get_ints("ends");
    if (!starts || !ends) refuse(node, "it has no starts or no ends");
    std::vector<ValueId> inputs{node.input(0), ints(node, "starts", *starts), ints(node, "ends", *ends)};
    if (const auto axes = node.get_ints("axes")) inputs.push_back(ints(node, "axes", *axes));
    editor_.set_inputs(id, std::move(inputs));
    for (const char* attribute : {"starts", "ends", "axes"}) editor_.remove_attribute(id, attribute);
  }

  // Upsample (until 9) and Resize 10 scaled about the corner and took the nearest element below.
  void raise_resize(NodeId id, const Node& node) {
    ValueId scales = node.input(1);
    if (const auto attribute = node.get_floats("scales"); attribute && scales == kNoValue) {
      scales = editor_.add_constant(
          node.name + "_scales", Tensor::from<float>({static_cast<std::int64_t>(attribute->size())}, std::span<const float>(*attribute)));
      editor_.remove_attribute(id, "scales");
    }
    if (scales == kNoValue) refuse(node, "it has no scales");
    const std::string mode = node.get_string("mode", "nearest");
    editor_.set_op_type(id, "Resize");
    editor_.set_attribute(id, "mode", mode == "bilinear" || mode == "linear" ? std::string("linear") : mode);
    editor_.set_attribute(id, "coordinate_transformation_mode", std::string("asymmetric"));
    if (mode == "nearest") editor_.set_attribute(id, "nearest_mode", std::string("floor"));
    // The region of interest is read in one mode only; an empty one does for all readers of opset 11 and 13.
    editor_.set_inputs(id, {node.input(0), editor_.add_constant(node.name + "_roi", Tensor(DataType::kFloat32, {0})), scales});
  }

  void raise_dropout(NodeId id, const Node& node) {
    if (node.output(1) != kNoValue) refuse(node, "its mask is used");
    if (node.get_int("is_test", 1) == 0) refuse(node, "it is in training mode");
    // In inference the ratio is not looked at.
    editor_.remove_attribute(id, "ratio");
    editor_.remove_attribute(id, "is_test");
    editor_.set_outputs(id, {node.output(0)});
  }

  void raise_batch_norm(NodeId id, const Node& node) {
    if (crosses(9)) {
      if (node.get_int("spatial", 1) == 0) refuse(node, "it normalises every pixel by itself (spatial = 0)");
      editor_.remove_attribute(id, "spatial");
    }
    if (crosses(14)) {
      for (std::size_t i = 1; i < node.outputs.size(); ++i) {
        if (node.outputs[i] != kNoValue) refuse(node, "its training outputs are used");
      }
      editor_.set_outputs(id, {node.output(0)});
    }
  }

  void raise_grid_sample(NodeId id, const Node& node) {
    const std::string mode = node.get_string("mode", "bilinear");
    if (mode == "bilinear") editor_.set_attribute(id, "mode", std::string("linear"));
    if (mode == "bicubic") editor_.set_attribute(id, "mode", std::string("cubic"));
  }

  Graph graph_;
  int from_;
  int target_;
  GraphEditor editor_;
};

}  // namespace

Graph raise_opset(Graph graph, int target) { return Raiser(std::move(graph), target).run(); }

}  // namespace nibble
