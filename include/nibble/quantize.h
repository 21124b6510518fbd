// quantize(): Graph + RangeTable + QuantScheme -> QuantizedGraph. The one place where a scale is born.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nibble/calibrate.h"
#include "nibble/graph.h"
#include "nibble/quant_params.h"

namespace nibble {

// Which values a weight may take. kNone: every one of its grid, evenly spaced. kKMeans: the 2^bit_width that fit the weights best, one table a
// tensor (Han et al., Deep Compression, 3). kPowersOfTwo: 0 and +-2^k, bit_width up to 4 (Zhou et al., INQ). Both are held as codes of 8 bits.
enum class Codebook { kNone, kKMeans, kPowersOfTwo };

// How one tensor kind is quantized.
struct TensorScheme {
  QuantType type;
  bool symmetric = false;
  bool per_channel = false;     // weights: along the output channels
  std::int64_t block_size = 0;  // weights: above 0, a scale for each block of so many input channels of each output channel
  Codebook codebook = Codebook::kNone;  // weights
};

// What a layer with weights computes with; what has none stays float in the last four.
enum class NodeForm {
  kInteger,     // integer weights and activations
  kWeightOnly,  // integer weights, dequantized; float activations
  kDynamic,     // integer weights; activations get their grid while the network runs (DynamicQuantizeLinear)
  kFloat16,     // weights held in 16 bits, computed in float32
  kBFloat16,
};

// What to do, for the whole network or for one node.
struct NodeScheme {
  TensorScheme weights = {.type = {.bit_width = 8, .is_signed = true, .narrow_range = true}, .symmetric = true, .per_channel = true};
  TensorScheme activations = {.type = {.bit_width = 8, .is_signed = false}, .symmetric = false, .per_channel = false};
  NodeForm form = NodeForm::kInteger;
  bool quantized = true;  // false: stays float
  std::string reason;     // why not, for the report
};

// Overrides by node name (ECMAScript regex, whole name) or op type; later rules win.
struct NodeRule {
  std::string node_regex;  // empty: any
  std::string op_type;     // empty: any
  std::optional<bool> quantized;
  std::optional<NodeForm> form = std::nullopt;
  std::optional<TensorScheme> weights;
  std::optional<TensorScheme> activations;  // of the node's outputs
  std::string reason = {};                  // for the report, where `quantized` is false; not part of a recipe
};

enum class FirstLastPolicy { kSame, kFloat, k8Bit };

struct QuantScheme {
  NodeScheme defaults;
  std::vector<NodeRule> rules;
  RequantizeLaw law = RequantizeLaw::kFloat32;
  FirstLastPolicy first_last = FirstLastPolicy::kSame;
  bool fine_bias = false;                        // pinned weights of few bits are held as multiples in 8 bits, for biases of finer steps
  bool reduce_range = false;                     // 7-bit weights, for targets whose 16-bit sums saturate
  std::vector<std::string> op_types_to_quantize;  // empty: every op with an integer path
  std::vector<std::string> unsupported_ops;      // integer forms that the target lacks
  std::string target = "ort-cpu";
};
// Presets from schemes/targets/*.json, compiled in. Throws Error{kInvalidArgument} listing the known ones.
struct TargetInfo {
  std::string name;
  std::string summary;
};
std::vector<TargetInfo> list_targets();
QuantScheme scheme_for_target(const std::string& target);
// Applies a recipe file (JSON) on top of a scheme; unknown keys are errors.
QuantScheme apply_scheme_recipe(QuantScheme scheme, const std::string& json_text, const std::string& origin);
std::string to_json(const QuantScheme& scheme);
// What a target takes of a quantized network (docs/formats.md). Type names are those of the file: "int8", "uint4" ...
struct TargetLimits {
  struct Tensors {
    std::vector<std::string> types;  // empty: any
    bool zero_points = true;
    bool per_channel = true;
    bool full_range = true;  // signed weights may use their lowest code
    int code_bits = 0;       // weights around 0 need at most so many bits; 0: no such limit
    std::vector<std::int64_t> block_sizes;
  };
  Tensors weights, activations;
  std::optional<Tensors> weight_only;  // nullopt: float layers with integer weights are not taken
  bool dynamic = true;
  bool power_of_two_scales = false;
  std::vector<std::string> unsupported_ops;
};
// Of a target that states none, everything is taken. Throws Error{kInvalidArgument} listing the known targets.
TargetLimits limits_of_target(const std::string& target);

// False where no node can have form kInteger: quantize() then needs no ranges.
bool needs_ranges(const QuantScheme& scheme);

// The accumulator proof of one integer layer: the exact bound over all inputs that the grid allows.
struct AccumulatorProof {
  std::int64_t lo = 0, hi = 0;  // of the accumulator, bias included
  int bits_needed = 0;          // two's complement width that holds [lo, hi]
  int worst_case_bits = 0;      // 2n + ceil(log2(c k^2)), from the shapes alone
};

// What became of one node.
struct LayerInfo {
  std::string name;
  std::string op_type;
  bool integer = false;
  std::string reason;  // for float nodes: why
  std::optional<AccumulatorProof> proof;
  std::vector<std::string> notes;  // widened scale, tied output ...
};

// A network with integer values. `graph` has the ONNX op of every node; a value with parameters in `params` holds integers q, a value without
// holds reals (or plain integers: shapes, indices). A node is an *integer node* iff its output has parameters and it is not QuantizeLinear:
// it computes its op on integers under `law`. The edges are explicit nodes of the graph:
//   QuantizeLinear(x) -> q      real to integer; the parameters are params[q] (no scale inputs)
//   DequantizeLinear(q) -> x    integer to real; the parameters are params[input]
//   Requantize(q) -> q'         integer to integer under other parameters (domain "nibble")
// Constants with parameters are stored as integers (int8/uint8; biases int32).
// Fused activations: attributes "activation" ("Relu" or "Clip") with "activation_min"/"activation_max" (float) on Conv/Gemm/Add... nodes.
struct QuantizedGraph {
  Graph graph;
  std::vector<std::optional<QuantParams>> params;  // by ValueId
  RequantizeLaw law = RequantizeLaw::kFloat32;
  std::vector<LayerInfo> layers;  // one a node that computes, in order
  std::vector<std::string> warnings;

  const QuantParams* params_of(ValueId id) const {
    if (id == kNoValue) return nullptr;
    const auto& p = params[static_cast<std::size_t>(id)];
    return p ? &*p : nullptr;
  }
};
void verify(const QuantizedGraph& model);

// `graph` is canonical (after the passes). Warnings and every decision are in the result.
QuantizedGraph quantize(const Graph& graph, const RangeTable& ranges, const QuantScheme& scheme);

// What a target will not take of a model, node by node in order, with the reason.
struct TargetFinding {
  std::string node, op_type, reason;
};
std::vector<TargetFinding> check_target(const QuantizedGraph& model, const TargetLimits& limits);

// The accumulator proofs of a quantized model, by node; recomputed from its integers.
std::optional<AccumulatorProof> prove_accumulator(const QuantizedGraph& model, NodeId node);

// Runs a QuantizedGraph on the integer values themselves (int64 sums, no kernel of the runtime): the simulation that the runtime must equal
// bit for bit. Inputs and outputs as the graph's. `observe`, if set, gets every value as it is made (integers for quantized ones).
using ValueCallback = std::function<void(ValueId, const Tensor&)>;
std::vector<Tensor> simulate(const QuantizedGraph& model, std::span<const Tensor> inputs, const ValueCallback& observe = {});

}  // namespace nibble
