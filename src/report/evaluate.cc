#include <algorithm>

#include "base/fail.h"
#include "nibble/interpreter.h"
#include "nibble/report.h"
#include "report/for_each_sample.h"
#include "report/scores.h"
#include "report/stage.h"

namespace nibble {
namespace {

constexpr std::int64_t kTop5 = 5;

double percent(std::int64_t part, std::int64_t whole) {
  return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

// What one sample says of one model: the label's place among the classes.
struct Hit {
  bool counted = false;
  bool has_top5 = false;
  std::int64_t rank = 0;
};

Hit hit_of(const Tensor& output, const Sample& sample, std::int64_t offset) {
  if (!sample.label) return {};
  const std::int64_t label = *sample.label + offset;
  const ScoreLayout layout = score_layout(output);
  if (layout.classes == 0) {  // the network gives classes itself
    const auto classes = predictions(output);
    if (classes.size() != 1) return {};
    return {.counted = true, .has_top5 = false, .rank = classes[0] == label ? 0 : kTop5};
  }
  if (layout.rows != 1 || layout.classes == 1) return {};
  if (label < 0 || label >= layout.classes)
    fail(ErrorCode::kInvalidData,
         "{}: its label {} (offset {}) is none of the network's {} classes; check the labels, or label_offset in the recipe", sample.name,
         *sample.label, offset, layout.classes);
  return {.counted = true, .has_top5 = layout.classes >= kTop5, .rank = rank_of(output, layout, 0, label)};
}

struct SampleResult {
  Hit own, reference;
  SquareSums sums;
  std::optional<double> kl;
  std::int64_t rows = 0, agreeing = 0;
};

void compare_outputs(const Tensor& expected, const Tensor& found, SampleResult& result) {
  const auto a = predictions(found);
  const auto b = predictions(expected);
  result.rows = static_cast<std::int64_t>(std::min(a.size(), b.size()));
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) result.agreeing += a[i] == b[i] ? 1 : 0;
  result.sums.add(as_float(expected).data<float>(), as_float(found).data<float>());
  if (score_layout(expected).classes > 1) result.kl = mean_kl(expected, found);
}

const Tensor& first_output(const std::vector<Tensor>& outputs, const std::string& path) {
  if (outputs.empty()) fail(ErrorCode::kInvalidModel, "{}: the model has no output", path);
  return outputs[0];
}

void check_shapes(const Tensor& found, const Tensor& expected, const std::string& path, const std::string& reference) {
  if (found.shape() != expected.shape())
    fail(ErrorCode::kInvalidModel, "{}: its first output has the shape {}, that of the reference {} has {}", path, to_string(found.shape()),
         reference, to_string(expected.shape()));
}

struct Totals {
  std::int64_t count = 0, top1 = 0, count5 = 0, top5 = 0;
  void add(const Hit& hit) {
    if (!hit.counted) return;
    ++count;
    if (hit.rank == 0) ++top1;
    if (hit.has_top5) ++count5;
    if (hit.has_top5 && hit.rank < kTop5) ++top5;
  }
};

}  // namespace

EvaluateResult evaluate(const Model& model, const Dataset& dataset, const EvaluateOptions& options, const Model* reference) {
  std::vector<SampleResult> samples(static_cast<std::size_t>(dataset.size()));
  {
    Stage stage(options.progress, "evaluate", dataset.size());
    for_each_sample(dataset, options.threads, stage, [&]() -> SampleWorker {
      const std::shared_ptr<Runner> runner = make_runner(model, 1, options.as);
      const std::shared_ptr<Runner> other = reference != nullptr ? make_runner(*reference, 1) : nullptr;
      return [&, runner, other](std::int64_t index, const Sample& sample) {
        SampleResult& result = samples[static_cast<std::size_t>(index)];
        const std::vector<Tensor> outputs = runner->run(sample.inputs);
        const Tensor& found = first_output(outputs, model.path);
        result.own = hit_of(found, sample, dataset.label_offset());
        if (other == nullptr) return;
        const std::vector<Tensor> references = other->run(sample.inputs);
        const Tensor& expected = first_output(references, reference->path);
        check_shapes(found, expected, model.path, reference->path);
        result.reference = hit_of(expected, sample, dataset.label_offset());
        compare_outputs(expected, found, result);
      };
    });
  }

  EvaluateResult result;
  result.samples = dataset.size();
  Totals own;
  Totals other;
  SquareSums sums;
  double kl = 0;
  std::int64_t kl_samples = 0;
  std::int64_t rows = 0;
  std::int64_t agreeing = 0;
  for (const SampleResult& sample : samples) {
    own.add(sample.own);
    other.add(sample.reference);
    sums.add(sample.sums);
    kl += sample.kl.value_or(0);
    kl_samples += sample.kl ? 1 : 0;
    rows += sample.rows;
    agreeing += sample.agreeing;
  }
  if (own.count > 0) result.top1 = percent(own.top1, own.count);
  if (own.count5 > 0) result.top5 = percent(own.top5, own.count5);
  if (dataset.has_labels() && own.count == 0) result.notes.push_back("the first output is no row of class scores: no accuracy");
  if (!dataset.has_labels()) result.notes.push_back("the data has no labels: no accuracy");
  if (own.count > 0 && own.count < result.samples)
    result.notes.push_back(fmt::format("{} samples without a label", result.samples - own.count));
  if (reference != nullptr) {
    if (other.count > 0) result.reference_top1 = percent(other.top1, other.count);
    if (rows > 0) result.agreement = percent(agreeing, rows);
    if (kl_samples > 0) result.kl = kl / static_cast<double>(kl_samples);
    result.sqnr_db = sums.sqnr_db();
    if (rows > result.samples) result.notes.push_back(fmt::format("agreement is over {} rows of scores, not over samples", rows));
  }
  if (dataset.is_random()) result.notes.push_back("random data: the figures say nothing about accuracy");
  return result;
}

QuantizationLoss::QuantizationLoss(const Graph& graph, QuantScheme scheme, const EvaluateOptions& options)
    : graph_(graph), scheme_(std::move(scheme)), options_(options) {}

double QuantizationLoss::operator()(const RangeTable& ranges, const Dataset& dataset) {
  const Program program = lower(quantize(graph_, ranges, scheme_));
  const auto size = static_cast<std::size_t>(dataset.size());
  const bool known = expected_of_ == &dataset && expected_.size() == size;
  if (!known) expected_.assign(size, Tensor());
  std::vector<SampleResult> results(size);
  {
    Stage stage(options_.progress, "try " + ranges.method, dataset.size());
    for_each_sample(dataset, options_.threads, stage, [&]() -> SampleWorker {
      const auto reference =
          known ? nullptr : std::make_shared<Interpreter>(graph_, InterpreterOptions{.threads = 1, .mode = ExecMode::kFast});
      const auto session = std::make_shared<Session>(program, ProgramOptions{.threads = 1});
      return [&, reference, session](std::int64_t index, const Sample& sample) {
        const auto i = static_cast<std::size_t>(index);
        if (reference) expected_[i] = first_output(reference->run(sample.inputs), "the model");
        const std::vector<Tensor> found = session->run(sample.inputs);
        check_shapes(first_output(found, "the quantized model"), expected_[i], "the quantized model", "the float model");
        compare_outputs(expected_[i], found[0], results[i]);
      };
    });
  }
  expected_of_ = &dataset;
  SquareSums sums;
  double kl = 0;
  bool scores = true;
  for (const SampleResult& sample : results) {
    sums.add(sample.sums);
    kl += sample.kl.value_or(0);
    scores = scores && sample.kl.has_value();
  }
  if (scores && size > 0) return std::max(kl / static_cast<double>(size), 0.0);
  return sums.signal > 0 ? sums.error / sums.signal : sums.error;
}

}  // namespace nibble
