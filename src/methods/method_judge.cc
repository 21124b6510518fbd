#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "nibble/interpreter.h"
#include "nibble/methods.h"
#include "nibble/runtime.h"
#include "report/for_each_sample.h"
#include "report/scores.h"
#include "report/stage.h"

namespace nibble {
namespace {

const Tensor& first_of(const std::vector<Tensor>& outputs) {
  if (outputs.empty()) fail(ErrorCode::kInvalidModel, "the network has no output to judge methods by");
  return outputs[0];
}

}  // namespace

MethodJudge::MethodJudge(const Graph& graph, std::shared_ptr<const Dataset> samples, int threads, ProgressSink* progress)
    : samples_(std::move(samples)), threads_(threads), progress_(progress) {
  expected_.resize(static_cast<std::size_t>(samples_->size()));
  Stage stage(progress_, "deciding samples", samples_->size());
  for_each_sample(*samples_, threads_, stage, [&]() -> SampleWorker {
    const auto interpreter = std::make_shared<Interpreter>(graph, InterpreterOptions{.threads = 1, .mode = ExecMode::kFast});
    return [&, interpreter](std::int64_t i, const Sample& sample) {
      expected_[static_cast<std::size_t>(i)] = first_of(interpreter->run(sample.inputs));
    };
  });
}

template <typename MakeRun>
MethodLoss MethodJudge::judge(MakeRun&& make_run, std::string_view what, double* sqnr_db) const {
  struct One {
    SquareSums sums;
    std::optional<double> kl;
    std::int64_t rows = 0, agreeing = 0;
  };
  std::vector<One> ones(expected_.size());
  {
    Stage stage(progress_, what, samples_->size());
    for_each_sample(*samples_, threads_, stage, [&]() -> SampleWorker {
      return [&, run = make_run()](std::int64_t index, const Sample& sample) {
        const auto i = static_cast<std::size_t>(index);
        const std::vector<Tensor> outputs = run(sample.inputs);
        const Tensor& found = first_of(outputs);
        if (found.shape() != expected_[i].shape())
          fail(ErrorCode::kInvalidModel, "the rewritten network's output has the shape {}, expected {}", to_string(found.shape()),
               to_string(expected_[i].shape()));
        ones[i].sums.add(as_float(expected_[i]).template data<float>(), as_float(found).template data<float>());
        if (score_layout(expected_[i]).classes > 1) ones[i].kl = std::max(mean_kl(expected_[i], found), 0.0);
        const auto a = predictions(found);
        const auto b = predictions(expected_[i]);
        ones[i].rows = static_cast<std::int64_t>(std::min(a.size(), b.size()));
        for (std::size_t k = 0; k < std::min(a.size(), b.size()); ++k) ones[i].agreeing += a[k] == b[k] ? 1 : 0;
      };
    });
  }
  MethodLoss result;
  SquareSums sums;
  std::int64_t rows = 0, agreeing = 0;
  result.is_kl = !ones.empty() && std::all_of(ones.begin(), ones.end(), [](const One& one) { return one.kl.has_value(); });
  for (const One& one : ones) {
    sums.add(one.sums);
    rows += one.rows;
    agreeing += one.agreeing;
  }
  const double mean_signal = sums.signal / std::max<double>(1.0, static_cast<double>(ones.size()));
  for (const One& one : ones)
    result.samples.push_back(result.is_kl ? *one.kl : mean_signal > 0 ? one.sums.error / mean_signal : one.sums.error);
  if (result.is_kl && rows > 0) result.agreement = 100.0 * static_cast<double>(agreeing) / static_cast<double>(rows);
  const auto n = static_cast<double>(std::max<std::size_t>(1, result.samples.size()));
  for (const double x : result.samples) result.loss += x / n;
  double squares = 0;
  for (const double x : result.samples) squares += (x - result.loss) * (x - result.loss);
  result.error = n > 1 ? std::sqrt(squares / (n - 1) / n) : 0;
  if (sqnr_db != nullptr) *sqnr_db = sums.sqnr_db();
  return result;
}

MethodLoss MethodJudge::operator()(const QuantizedGraph& model) const {
  const Program program = lower(model);
  return judge(
      [&] {
        const auto session = std::make_shared<Session>(program, ProgramOptions{.threads = 1});
        return [session](const std::vector<Tensor>& inputs) { return session->run(inputs); };
      },
      "judge", nullptr);
}

MethodLoss MethodJudge::of_float(const Graph& graph) const {
  return judge(
      [&] {
        const auto interpreter = std::make_shared<Interpreter>(graph, InterpreterOptions{.threads = 1, .mode = ExecMode::kFast});
        return [interpreter](const std::vector<Tensor>& inputs) { return interpreter->run(inputs); };
      },
      "judge float", nullptr);
}

double MethodJudge::float_sqnr_db(const Graph& graph) const {
  double sqnr_db = 0;
  judge(
      [&] {
        const auto interpreter = std::make_shared<Interpreter>(graph, InterpreterOptions{.threads = 1, .mode = ExecMode::kFast});
        return [interpreter](const std::vector<Tensor>& inputs) { return interpreter->run(inputs); };
      },
      "judge float", &sqnr_db);
  return sqnr_db;
}

}  // namespace nibble
