// QuantizeLinear and DequantizeLinear as ONNX writes them: scale and zero point are inputs.
#pragma once

#include <limits>
#include <optional>
#include <string_view>

#include "nibble/graph.h"
#include "nibble/quant_params.h"

namespace nibble {

// ai.onnx's op, or its twin in com.microsoft.
bool is_quantize_linear(const Node& node);
bool is_dequantize_linear(const Node& node);

// The integer grid of an element type; nullopt where it is no integer up to 32 bits.
std::optional<QuantType> grid_of(DataType type);
DataType element_type_of(const QuantType& type);

// The element type that an integer value has, where the graph tells: its constant, its type, or the zero point of the node that makes it.
DataType integer_type_of(const Graph& graph, ValueId id);

// The parameters of a QuantizeLinear or DequantizeLinear whose scale and zero point are constants; nullopt where they are computed.
// Throws Error{kInvalidModel} naming the node where they break their rules: a scale that is zero, negative or not finite, wrong types or
// counts.
std::optional<QuantParams> read_params(const Graph& graph, const Node& node);

// Constants and Constant nodes' values as constants of the graph, and identities of constants resolved. QuantizeLinear of a constant is
// computed.
void fold_constant_nodes(Graph& graph);

// QLinearConv, QLinearMatMul, com.microsoft's QLinear* and QGemm as DequantizeLinear, float op, QuantizeLinear; ops that move integers
// directly (a MaxPool between two QLinearConv ...) as the same op between DequantizeLinear and QuantizeLinear. Nodes with computed
// parameters stay.
void expand_qlinear_ops(Graph& graph);

// Bounds of a Relu or a Clip with constant bounds; nullopt for any other node.
struct ActivationBounds {
  float low = -std::numeric_limits<float>::infinity();
  float high = std::numeric_limits<float>::infinity();
};
std::optional<ActivationBounds> activation_bounds(const Graph& graph, const Node& node);

// x, QuantizeLinear, DequantizeLinear, Relu or Clip, QuantizeLinear of the same parameters -> without the first pair: Q(clip(DQ(Q(x)))) and
// Q(clip(x)) are the same clamp of Q(x), since Q is monotone and Q(DQ(q)) = q.
void merge_activations(Graph& graph);

// Puts QuantizeLinear in front of ops that commute with it (Reshape, MaxPool ...), with the same parameters: the integers are the same, and
// the node before can compute them directly.
void pull_quantize_up(Graph& graph);

// True for an op that moves or selects elements and computes nothing, so that it gives the same integers on integers: its data are inputs
// [0, data_inputs).
struct Movement {
  bool moves = false;
  std::size_t data_inputs = 1;
  std::optional<float> fill;  // a real that a Pad puts around the data
};
Movement movement_of(const Graph& graph, const Node& node);

}  // namespace nibble
