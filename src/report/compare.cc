// Where does the error come in? Both networks run on the same samples; every value that exists in both, by name, is compared as real
// numbers.
#include <algorithm>
#include <array>
#include <map>

#include "base/fail.h"
#include "nibble/interpreter.h"
#include "nibble/passes.h"
#include "nibble/report.h"
#include "numeric/quantize.h"
#include "report/sample_stream.h"
#include "report/scores.h"
#include "report/stage.h"

namespace nibble {
namespace {

// Names that quantizers derive from the real value's.
std::string real_name(std::string name) {
  constexpr std::array<std::string_view, 6> kSuffixes = {"_DequantizeLinear_Output", "_QuantizeLinear_Output", "_quantized", "_dequantized",
                                                         "_QuantizeLinear",          "_DequantizeLinear"};
  for (bool stripped = true; stripped;) {
    stripped = false;
    for (const std::string_view suffix : kSuffixes) {
      if (name.size() > suffix.size() && name.ends_with(suffix)) {
        name.resize(name.size() - suffix.size());
        stripped = true;
      }
    }
  }
  return name;
}

Tensor to_real(const Tensor& tensor, const QuantParams* params) {
  if (params == nullptr) return as_float(tensor);
  const Tensor wide = cast(tensor, DataType::kInt32);
  Tensor real(DataType::kFloat32, tensor.shape());
  dequantize(wide.data<std::int32_t>(), tensor.shape(), *params, real.mutable_data<float>());
  return real;
}

struct Pair {
  ValueId in_float = kNoValue;
  ValueId in_quantized = kNoValue;
  SquareSums sums;
};

// Values of both graphs, in the order of the float graph.
std::vector<Pair> match(const Graph& float_graph, const QuantizedGraph& quantized) {
  std::map<std::string, ValueId> by_name;
  const Graph& graph = quantized.graph;
  for (ValueId v = 0; v < static_cast<ValueId>(graph.values().size()); ++v) {
    if (graph.is_constant(v) || (graph.value(v).producer == kNoNode)) continue;
    // The integer value itself rather than its copies on either side of an edge.
    const std::string name = real_name(graph.value(v).name);
    const auto [it, fresh] = by_name.emplace(name, v);
    if (!fresh && quantized.params_of(it->second) == nullptr && quantized.params_of(v) != nullptr) it->second = v;
  }
  std::vector<Pair> pairs;
  for (const Node& node : float_graph.nodes()) {
    for (const ValueId v : node.outputs) {
      if (v == kNoValue) continue;
      const auto it = by_name.find(float_graph.value(v).name);
      if (it != by_name.end()) pairs.push_back({.in_float = v, .in_quantized = it->second, .sums = {}});
    }
  }
  return pairs;
}

}  // namespace

CompareResult compare(const Model& float_model, const Model& quantized_model, const Dataset& dataset, const EvaluateOptions& options) {
  if (float_model.quantized)
    fail(ErrorCode::kInvalidArgument, "{}: the first model of compare must be the float one, this one is quantized", float_model.path);
  if (!quantized_model.quantized)
    fail(ErrorCode::kInvalidArgument, "{}: the second model of compare must be a quantized one, this one holds no quantization",
         quantized_model.path);
  const QuantizedGraph& quantized = *quantized_model.quantized;
  Graph graph = float_model.graph;
  canonicalize(graph);
  Interpreter interpreter(graph, {.threads = options.threads, .mode = ExecMode::kFast});
  std::optional<Program> program;
  std::optional<Session> session;
  if (options.as != RunAs::kSimulation) {
    program = lower(quantized);
    session.emplace(*program, ProgramOptions{.threads = options.threads});
  }

  std::vector<Pair> pairs = match(graph, quantized);
  std::vector<std::size_t> pair_of_float(graph.values().size(), pairs.size());
  std::vector<std::size_t> pair_of_quantized(quantized.graph.values().size(), pairs.size());
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    pair_of_float[static_cast<std::size_t>(pairs[i].in_float)] = i;
    pair_of_quantized[static_cast<std::size_t>(pairs[i].in_quantized)] = i;
  }
  std::vector<SquareSums> output_sums(graph.outputs().size());

  CompareResult result;
  std::int64_t agreeing = 0;
  std::int64_t compared = 0;
  Stage stage(options.progress, "compare", dataset.size());
  SampleStream samples(dataset, options.threads);
  std::vector<Tensor> real(pairs.size());
  while (const auto sample = samples.next()) {
    const auto expected = interpreter.run(sample->inputs, [&](ValueId v, const Tensor& tensor) {
      const std::size_t i = pair_of_float[static_cast<std::size_t>(v)];
      if (i < pairs.size() && is_float(tensor.type())) real[i] = as_float(tensor);
    });
    const ValueCallback observe = [&](ValueId v, const Tensor& tensor) {
      const std::size_t i = pair_of_quantized[static_cast<std::size_t>(v)];
      if (i >= pairs.size() || !real[i].defined()) return;
      if (real[i].shape() != tensor.shape()) return;
      pairs[i].sums.add(real[i].data<float>(), to_real(tensor, quantized.params_of(v)).data<float>());
      real[i] = Tensor();
    };
    const auto found = session ? session->run(sample->inputs, observe) : simulate(quantized, sample->inputs, observe);
    if (found.size() != expected.size())
      fail(ErrorCode::kInvalidModel, "{} has {} outputs, {} has {}", float_model.path, expected.size(), quantized_model.path, found.size());
    for (std::size_t o = 0; o < found.size(); ++o) {
      if (found[o].shape() != expected[o].shape())
        fail(ErrorCode::kInvalidModel, "{}: output {} has the shape {}, that of {} has {}", quantized_model.path, o,
             to_string(found[o].shape()), float_model.path, to_string(expected[o].shape()));
      output_sums[o].add(as_float(expected[o]).data<float>(), as_float(found[o]).data<float>());
    }
    if (!found.empty()) {
      const auto a = predictions(expected[0]);
      const auto b = predictions(found[0]);
      compared += static_cast<std::int64_t>(std::min(a.size(), b.size()));
      for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) agreeing += a[i] == b[i] ? 1 : 0;
    }
    stage.advance(++result.samples);
  }

  if (compared > 0) result.agreement = 100.0 * static_cast<double>(agreeing) / static_cast<double>(compared);
  const auto row = [&](ValueId v, const SquareSums& sums) {
    const NodeId producer = graph.value(v).producer;
    return LayerCompare{.name = graph.value(v).name,
                        .op_type = producer == kNoNode ? "" : graph.node(producer).op_type,
                        .sqnr_db = sums.sqnr_db(),
                        .float_rms = sums.signal_rms(),
                        .error_rms = sums.error_rms()};
  };
  for (const Pair& pair : pairs) {
    if (pair.sums.count > 0) result.layers.push_back(row(pair.in_float, pair.sums));
  }
  for (std::size_t o = 0; o < graph.outputs().size(); ++o) result.outputs.push_back(row(graph.outputs()[o], output_sums[o]));
  return result;
}

}  // namespace nibble
