// ONNX files in and out.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "nibble/graph.h"
#include "nibble/quantize.h"

namespace nibble {

// Reads a model: opset 7 to 21, IR 3 to 10, every initializer encoding, external data inside the model's folder. The graph is as the file has it
// (Q/DQ and QOperator nodes included), with missing names filled in, initializers taken out of the inputs, Constant nodes left as they are,
// nodes in topological order, verified. Ops that nibble does not know are kept: they fail by name when they must be run.
// Throws Error{kNotFound, kIo, kInvalidModel, kUnsupported} naming the file and the node.
Graph import_onnx(const std::string& path);

// One tensor of an ONNX test_data_set (.pb), with its name. Throws Error{kNotFound, kInvalidData}.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};
NamedTensor read_onnx_tensor(const std::string& path);

// Bytes of a float graph as an ONNX model (for passes' results and tests).
std::string serialize_onnx(const Graph& graph);

enum class QuantFormat { kQdq, kQOperator };
// kStandard: weights in ONNX's own types, up to 4 bits two a byte, up to 8 one a byte; any ONNX runtime reads the file. kPacked: weights that are smaller
// without gaps, or as indices into a table, behind the operator nibble.UnpackBits (docs/formats.md), which only nibble reads.
enum class WeightStorage { kStandard, kPacked };
struct ExportOptions {
  QuantFormat format = QuantFormat::kQdq;
  std::map<std::string, std::string> metadata;  // added to metadata_props; keys get the prefix "nibble."
  WeightStorage weights = WeightStorage::kStandard;
};
// The quantized model as a standard ONNX graph: opset >= 13, canonical Q/DQ placement (ONNX Runtime fuses it) or QLinear operators.
// Throws Error{kUnsupported} naming a node that cannot be written in the form.
Graph export_graph(const QuantizedGraph& model, const ExportOptions& options);
// serialize_onnx(export_graph(...)), written to a temporary file beside `path` and renamed. Refuses a target that exists and is no regular
// file, and `input_path` itself. Returns the file's size in bytes.
std::int64_t export_onnx(const QuantizedGraph& model, const std::string& path, const ExportOptions& options,
                         const std::string& input_path = "");

// Reads quantization out of a graph that holds it as nodes: QuantizeLinear/DequantizeLinear pairs of any placement, QLinear* operators,
// ConvInteger/MatMulInteger/DynamicQuantizeLinear (these stay as they are). Integer nodes are those whose inputs and output are quantized and whose
// op has an integer form; all else stays float between the edges, with a reason in QuantizedGraph::layers.
QuantizedGraph quantized_from_onnx_graph(Graph graph);
// True if the graph holds any quantization operator.
bool has_quantization(const Graph& graph);

}  // namespace nibble
