// One engine on one model, for compare.mjs: says what it is in one line of JSON, then for every line with a number on stdin runs the model
// for about so many milliseconds, three times at least, and answers with the median of a run in milliseconds.
//
//   nibble_model_runner MODEL.onnx [--threads N]                   nibble: float interpreter or integer runtime, as the file has it
//   nibble_model_runner INT8.onnx [--threads N] --onednn           the file's convolutions and dense layers alone, as oneDNN's int8
//   primitives
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "nibble/error.h"
#include "nibble/report.h"
#include "onednn.h"
#include "report/macs.h"

namespace nibble {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

std::vector<Tensor> random_inputs(const Graph& graph) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::vector<Tensor> inputs;
  for (const ValueId id : graph.inputs()) {
    TensorType type = graph.value(id).type;
    for (Dim& dim : type.dims)
      if (!dim.known()) dim.size = 1;
    Tensor tensor(DataType::kFloat32, type.shape());
    for (float& x : tensor.mutable_data<float>()) x = normal(engine);
    inputs.push_back(cast(tensor, type.dtype));
  }
  return inputs;
}

// The most that the integer values before and behind one node take together, one byte an element: no engine needs less.
std::int64_t largest_live_bytes(const QuantizedGraph& model) {
  const std::vector<TensorType> types = shapes_of(model, 1);
  const auto bytes = [&](ValueId id) {
    const bool moves = id != kNoValue && !model.graph.is_constant(id) && types[static_cast<std::size_t>(id)].fully_known();
    return moves ? element_count(types[static_cast<std::size_t>(id)].shape()) : 0;
  };
  std::int64_t largest = 0;
  for (const Node& node : model.graph.nodes()) {
    if (node.op_type == "QuantizeLinear" || node.op_type == "DequantizeLinear") continue;
    std::int64_t sum = 0;
    for (const ValueId id : node.inputs) sum += bytes(id);
    for (const ValueId id : node.outputs) sum += bytes(id);
    largest = std::max(largest, sum);
  }
  return largest;
}

std::vector<kernels::PeerKernel> onednn_chain(const QuantizedGraph& model) {
  const std::vector<TensorType> types = shapes_of(model, 1);
  std::vector<kernels::PeerKernel> chain;
  const auto add = [&](kernels::PeerKernel kernel) {
    if (kernel.run) chain.push_back(std::move(kernel));
  };
  for (const Node& node : model.graph.nodes()) {
    const auto shape = [&](ValueId id) { return types[static_cast<std::size_t>(id)].shape(); };
    if (node.op_type == "Conv") {
      const Shape x = shape(node.input(0)), w = shape(node.input(1)), y = shape(node.output(0));
      if (x.size() != 4) continue;
      const auto ints = [&](const char* name, std::size_t i, std::int64_t fallback) {
        const auto all = node.get_ints(name);
        return all && i < all->size() ? (*all)[i] : fallback;
      };
      add(kernels::onednn_conv({.in_channels = x[1],
                                .out_channels = y[1],
                                .groups = node.get_int("group", 1),
                                .kernel_h = w[2],
                                .kernel_w = w[3],
                                .stride_h = ints("strides", 0, 1),
                                .stride_w = ints("strides", 1, 1),
                                .dilation_h = ints("dilations", 0, 1),
                                .dilation_w = ints("dilations", 1, 1),
                                .pad_top = ints("pads", 0, 0),
                                .pad_left = ints("pads", 1, 0)},
                               {.in_h = x[2], .in_w = x[3], .out_h = y[2], .out_w = y[3]}, kernels::DstType::kUint8));
    } else if (node.op_type == "Gemm" || node.op_type == "MatMul") {
      const Shape x = shape(node.input(0)), y = shape(node.output(0));
      if (x.size() == 2 && y.size() == 2) add(kernels::onednn_gemm(x[0], y[1], x[1], kernels::DstType::kUint8));
    }
  }
  return chain;
}

double timed_median(const std::function<void()>& run, double milliseconds) {
  constexpr std::size_t kMinRuns = 3;
  run();  // what another engine has left in the caches
  std::vector<double> times;
  const auto start = Clock::now();
  while (times.size() < kMinRuns || milliseconds_since(start) < milliseconds) {
    const auto before = Clock::now();
    run();
    times.push_back(milliseconds_since(before));
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

int serve(int argc, char** argv) {
  CLI::App app("One engine on one model, timed on demand; see benchmarks/model/compare.mjs");
  std::string path;
  int threads = 1;
  bool onednn = false;
  app.add_option("model", path, "an ONNX file")->required();
  app.add_option("--threads", threads, "threads")->check(CLI::Range(1, 256));
  app.add_flag("--onednn", onednn, "its convolutions and dense layers in oneDNN");
  CLI11_PARSE(app, argc, argv);

  nlohmann::json facts;
  const auto start = Clock::now();
  const Model model = load_model(path);
  facts["load_ms"] = milliseconds_since(start);
  const std::vector<Tensor> inputs = random_inputs(model.quantized ? model.quantized->graph : model.graph);
  std::function<void()> run;
  std::optional<Program> program;
  std::optional<Session> session;
  std::unique_ptr<Runner> runner;
  std::vector<kernels::PeerKernel> chain;
  if (onednn) {
    if (!model.quantized) throw Error(ErrorCode::kInvalidArgument, "--onednn needs a quantized model");
    kernels::limit_onednn(kernels::best_isa(), threads);
    chain = onednn_chain(*model.quantized);
    facts["layers"] = chain.size();
    run = [&] {
      for (const kernels::PeerKernel& kernel : chain) kernel.run();
    };
  } else if (model.quantized) {
    const auto before = Clock::now();
    program.emplace(lower(*model.quantized));
    facts["lower_ms"] = milliseconds_since(before);
    facts["isa"] = active_isa();
    session.emplace(*program, ProgramOptions{.threads = threads});
    session->run(inputs);
    facts["first_run_ms"] = milliseconds_since(before) - facts["lower_ms"].get<double>();
    facts["arena_bytes"] = session->arena_bytes();
    facts["weight_bytes"] = session->weight_bytes();
    facts["largest_live_bytes"] = largest_live_bytes(*model.quantized);
    run = [&] { session->run(inputs); };
  } else {
    runner = make_runner(model, threads);
    run = [&] { runner->run(inputs); };
  }
  std::cout << facts.dump() << std::endl;
  double milliseconds = 0;
  while (std::cin >> milliseconds) std::cout << timed_median(run, milliseconds) << std::endl;
  return 0;
}

}  // namespace
}  // namespace nibble

int main(int argc, char** argv) {
  try {
    return nibble::serve(argc, argv);
  } catch (const nibble::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
