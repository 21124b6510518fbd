#include "nibble/train.h"

#include <torch/torch.h>

#include <algorithm>

#include "base/fail.h"
#include "report/for_each_sample.h"
#include "report/scores.h"
#include "report/stage.h"
#include "train/processes.h"
#include "train/trainer.h"

namespace nibble {

TrainQuantization quantization_of_method(std::string_view name) {
  TrainQuantization quantization;
  if (name == "none") return quantization;
  const train::QuantizerRow& row = train::find_quantizer(name);
  const std::string_view partner = row.pair.empty() ? "ema" : row.pair;
  quantization.weight_method = row.make_weight != nullptr ? row.name : partner;
  quantization.activation_method = row.make_activation != nullptr ? row.name : partner;
  quantization.weight_bits = widest_weight_bits(quantization.weight_method);
  quantization.activation_bits = widest_activation_bits(quantization.activation_method);
  return quantization;
}

int widest_weight_bits(std::string_view method) {
  return method == "none" ? 8 : std::min(8, train::find_quantizer(method).weight_bits_max);
}

int widest_activation_bits(std::string_view method) {
  return method == "none" ? 8 : std::min(8, train::find_quantizer(method).activation_bits_max);
}

TrainResult train_network(const Graph& graph, const Dataset& data, const Dataset& evaluation, const TrainOptions& options,
                          TrainSink* sink) {
  if (options.device != "cpu")
    fail(ErrorCode::kUnsupported, "--device {}: nibble trains on the CPU alone; use --device cpu", options.device);
  torch::set_num_threads(options.threads);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  TrainSink quiet;
  const train::Rendezvous rendezvous = train::rendezvous_from_environment();
  std::unique_ptr<train::Reducer> joined;
  if (rendezvous.world_size > 1) joined = train::join_processes(rendezvous);
  train::Reducer& reducer = joined != nullptr ? *joined : train::single_process();
  try {
    return train::Trainer(graph, data, evaluation, options, reducer, sink != nullptr ? *sink : quiet).run();
  } catch (const c10::Error& error) {  // its what() has a backtrace
    const std::string text = error.what_without_backtrace();
    fail(ErrorCode::kUnsupported, "libtorch cannot train this network: {}", text.substr(0, text.find('\n')));
  }
}

RuntimeCheck check_in_runtime(const Model& model, const Dataset& evaluation, const std::vector<std::int64_t>& predicted, int threads,
                              ProgressSink* progress) {
  const std::int64_t count = evaluation.size();
  if (static_cast<std::int64_t>(predicted.size()) != count)
    fail(ErrorCode::kInvalidArgument, "{} predictions for {} samples", predicted.size(), count);
  std::vector<std::int64_t> found(predicted.size(), -1), labels(predicted.size(), -1);
  {
    Stage stage(progress, "evaluate", count);
    for_each_sample(evaluation, threads, stage, [&]() -> SampleWorker {
      const std::shared_ptr<Runner> runner = make_runner(model, 1);
      return [&, runner](std::int64_t index, const Sample& sample) {
        const auto classes = predictions(runner->run(sample.inputs).at(0));
        const auto i = static_cast<std::size_t>(index);
        if (classes.size() == 1) found[i] = classes[0];
        if (sample.label) labels[i] = *sample.label + evaluation.label_offset();
      };
    });
  }
  RuntimeCheck check{.samples = count};
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    check.top1 += found[i] == labels[i] ? 1 : 0;
    check.agreement += found[i] == predicted[i] ? 1 : 0;
  }
  check.top1 *= 100.0 / static_cast<double>(count);
  check.agreement *= 100.0 / static_cast<double>(count);
  return check;
}

}  // namespace nibble
