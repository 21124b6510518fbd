#include <filesystem>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "nibble/interpreter.h"
#include "nibble/onnx.h"
#include "nibble/passes.h"
#include "nibble/report.h"

namespace nibble {
namespace {

// Passes first: a float network is measured at its best, folded and fused, as the quantized one is.
class FloatRunner final : public Runner {
 public:
  FloatRunner(const Graph& graph, int threads) : graph_(graph) {
    canonicalize(graph_);
    interpreter_.emplace(graph_, InterpreterOptions{.threads = threads, .mode = ExecMode::kFast});
  }
  std::vector<Tensor> run(std::span<const Tensor> inputs) override { return interpreter_->run(inputs); }

 private:
  Graph graph_;
  std::optional<Interpreter> interpreter_;
};

class IntegerRunner final : public Runner {
 public:
  IntegerRunner(const QuantizedGraph& model, int threads) : program_(lower(model)), session_(program_, {.threads = threads}) {}
  std::vector<Tensor> run(std::span<const Tensor> inputs) override { return session_.run(inputs); }

 private:
  Program program_;
  Session session_;
};

class SimulationRunner final : public Runner {
 public:
  explicit SimulationRunner(const QuantizedGraph& model) : model_(model) {}
  std::vector<Tensor> run(std::span<const Tensor> inputs) override { return simulate(model_, inputs); }

 private:
  const QuantizedGraph& model_;
};

}  // namespace

Model load_model(const std::string& path) {
  Model model{.path = path, .graph = import_onnx(path), .quantized = std::nullopt, .file_bytes = 0};
  std::error_code ignored;
  const auto bytes = std::filesystem::file_size(path, ignored);
  if (!ignored) model.file_bytes = static_cast<std::int64_t>(bytes);
  if (has_quantization(model.graph)) model.quantized = quantized_from_onnx_graph(model.graph);
  return model;
}

std::unique_ptr<Runner> make_runner(const Model& model, int threads, RunAs as) {
  if (as == RunAs::kSimulation) {
    if (!model.quantized)
      fail(ErrorCode::kInvalidArgument, "{}: there is nothing to simulate, the model is not quantized; leave --simulate out", model.path);
    return std::make_unique<SimulationRunner>(*model.quantized);
  }
  if (model.quantized) return std::make_unique<IntegerRunner>(*model.quantized, threads);
  return std::make_unique<FloatRunner>(model.graph, threads);
}

void write_text_file(const std::string& path, const std::string& text) { write_file(path, text); }

}  // namespace nibble
