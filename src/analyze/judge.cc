#include "analyze/judge.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/fail.h"
#include "nibble/interpreter.h"
#include "nibble/runtime.h"
#include "report/for_each_sample.h"
#include "report/stage.h"

namespace nibble {
namespace {

double percent(std::int64_t part, std::int64_t whole) {
  return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

// -ln of the label's probability; scores become probabilities by softmax unless they are probabilities already.
double log_loss(std::span<const float> scores, std::int64_t label) {
  double sum = 0;
  double largest = -std::numeric_limits<double>::infinity();
  bool probabilities = true;
  for (const float s : scores) {
    sum += static_cast<double>(s);
    largest = std::max(largest, static_cast<double>(s));
    probabilities = probabilities && s >= 0.0F && s <= 1.0001F;
  }
  constexpr double kFloor = 1e-9;
  const double own = static_cast<double>(scores[static_cast<std::size_t>(label)]);
  if (probabilities && std::abs(sum - 1) < 0.01) return -std::log(std::max(own, kFloor));
  double total = 0;
  for (const float s : scores) total += std::exp(static_cast<double>(s) - largest);
  // Bounded as the other branch is: a network that is beside itself must not outweigh all other samples.
  return std::min(std::log(total) + largest - own, -std::log(kFloor));
}

Verdict verdict_of(const Tensor& found, const Tensor& expected, const Sample& sample, std::int64_t offset) {
  Verdict verdict;
  const ScoreLayout layout = score_layout(found);
  if (sample.label && layout.rows == 1 && layout.classes > 1) {
    const std::int64_t label = *sample.label + offset;
    if (label < 0 || label >= layout.classes)
      fail(ErrorCode::kInvalidData,
           "{}: its label {} (offset {}) is none of the network's {} classes; check the labels, or label_offset in the recipe", sample.name,
           *sample.label, offset, layout.classes);
    verdict.labelled = true;
    verdict.right = rank_of(found, layout, 0, label) == 0;
    verdict.log_loss = log_loss(as_float(found).data<float>(), label);
  }
  if (!expected.defined()) return verdict;
  const auto a = predictions(found);
  const auto b = predictions(expected);
  verdict.rows = std::ssize(a);
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) verdict.agreeing += a[i] == b[i] ? 1 : 0;
  verdict.sums.add(as_float(expected).data<float>(), as_float(found).data<float>());
  if (score_layout(expected).classes > 1) verdict.kl = mean_kl(expected, found);
  return verdict;
}

Figures figures_of(const std::vector<Verdict>& samples) {
  Figures figures;
  figures.samples = std::ssize(samples);
  std::int64_t labelled = 0, right = 0, rows = 0, agreeing = 0, scored = 0;
  double kl = 0;
  SquareSums sums;
  for (const Verdict& v : samples) {
    labelled += v.labelled ? 1 : 0;
    right += v.right ? 1 : 0;
    rows += v.rows;
    agreeing += v.agreeing;
    scored += v.kl ? 1 : 0;
    kl += v.kl.value_or(0);
    sums.add(v.sums);
  }
  if (labelled > 0) figures.top1 = percent(right, labelled);
  if (rows > 0) figures.agreement = percent(agreeing, rows);
  if (scored > 0) figures.kl = std::max(kl / static_cast<double>(scored), 0.0);
  figures.sqnr_db = sums.sqnr_db();
  return figures;
}

}  // namespace

template <typename MakeRun>
Judgement Judge::judge(const Dataset& dataset, std::string_view name, const MakeRun& make_run) const {
  Judgement result;
  result.samples.resize(static_cast<std::size_t>(dataset.size()));
  Stage stage(progress_, name, dataset.size());
  for_each_sample(dataset, threads_, stage, [&]() -> SampleWorker {
    return [&, run = make_run()](std::int64_t i, const Sample& sample) {
      const std::vector<Tensor> outputs = run(sample.inputs);
      const auto at = static_cast<std::size_t>(i);
      if (outputs.empty()) fail(ErrorCode::kInvalidModel, "the model has no output");
      if (outputs[0].shape() != expected_[at].shape())
        fail(ErrorCode::kInvalidModel, "the changed network's output has the shape {}, the float network's {}",
             to_string(outputs[0].shape()), to_string(expected_[at].shape()));
      result.samples[at] = verdict_of(outputs[0], expected_[at], sample, dataset.label_offset());
    };
  });
  result.figures = figures_of(result.samples);
  return result;
}

Judge::Judge(const Graph& graph, std::shared_ptr<const Dataset> held, int threads, ProgressSink* progress)
    : samples_(std::move(held)), threads_(threads), progress_(progress), expected_(static_cast<std::size_t>(samples_->size())) {
  truth_.samples.resize(expected_.size());
  Stage stage(progress_, "float network", samples_->size());
  for_each_sample(*samples_, threads_, stage, [&]() -> SampleWorker {
    const auto interpreter = std::make_shared<Interpreter>(graph);
    return [&, interpreter](std::int64_t i, const Sample& sample) {
      std::vector<Tensor> outputs = interpreter->run(sample.inputs);
      if (outputs.empty()) fail(ErrorCode::kInvalidModel, "the model has no output");
      const auto at = static_cast<std::size_t>(i);
      truth_.samples[at] = verdict_of(outputs[0], outputs[0], sample, samples_->label_offset());
      expected_[at] = std::move(outputs[0]);
    };
  });
  truth_.figures = figures_of(truth_.samples);
}

std::vector<std::int64_t> Judge::truth_classes() const {
  std::vector<std::int64_t> result;
  for (std::size_t i = 0; i < expected_.size(); ++i) {
    const auto label = samples_->sample(static_cast<std::int64_t>(i)).label;
    const auto guesses = predictions(expected_[i]);
    result.push_back(label ? *label : guesses.size() == 1 ? guesses[0] : -1);
  }
  return result;
}

std::int64_t Judge::classes() const {
  if (expected_.empty()) return 0;
  const ScoreLayout layout = score_layout(expected_[0]);
  return layout.rows == 1 ? layout.classes : 0;
}

Judgement Judge::operator()(const QuantizedGraph& model) const {
  const Program program = lower(model);
  return judge(*samples_, "judge", [&] {
    const auto session = std::make_shared<Session>(program, ProgramOptions{.threads = 1});
    return [session](std::span<const Tensor> inputs) { return session->run(inputs); };
  });
}

Judgement Judge::of_float(const Graph& graph, const Dataset* other) const {
  return judge(other != nullptr ? *other : *samples_, "judge", [&] {
    const auto interpreter = std::make_shared<Interpreter>(graph);
    return [interpreter](std::span<const Tensor> inputs) { return interpreter->run(inputs); };
  });
}

PairedHits compare_hits(const Judgement& a, const Judgement& b) {
  PairedHits hits;
  double sum = 0, squares = 0;
  for (std::size_t i = 0; i < std::min(a.samples.size(), b.samples.size()); ++i) {
    const Verdict& x = a.samples[i];
    const Verdict& y = b.samples[i];
    if (!x.labelled || !y.labelled) continue;
    ++hits.count;
    hits.won += y.right && !x.right ? 1 : 0;
    hits.lost += x.right && !y.right ? 1 : 0;
    const double gain = x.log_loss - y.log_loss;
    sum += gain;
    squares += gain * gain;
  }
  if (hits.count < 2) return hits;
  const auto n = static_cast<double>(hits.count);
  hits.log_loss_gain = sum / n;
  const double variance = std::max(squares / n - hits.log_loss_gain * hits.log_loss_gain, 0.0) * n / (n - 1);
  hits.t = variance > 0 ? hits.log_loss_gain / std::sqrt(variance / n) : (sum > 0 ? std::numeric_limits<double>::infinity() : 0);
  return hits;
}

bool clearly_better(const PairedHits& hits) {
  constexpr double kSignTest = 2.6, kLogLoss = 3.5, kPoints = 3;
  const auto won = static_cast<double>(hits.won), lost = static_cast<double>(hits.lost);
  if (won > lost && hits.log_loss_gain > 0 && won - lost >= kSignTest * std::sqrt(won + lost)) return true;
  return hits.t >= kLogLoss && hits.points() >= kPoints;
}

double gain_of(const Figures& before, const Figures& after) {
  double points = 0;
  if (before.top1 && after.top1)
    points = *after.top1 - *before.top1;
  else if (before.agreement && after.agreement)
    points = *after.agreement - *before.agreement;
  // Top-1 may stay while agreement moves: networks can be wrong in different ways.
  if (points <= 0 && before.agreement && after.agreement) points = std::max(points, *after.agreement - *before.agreement);
  const auto noise = [](double db) { return std::pow(10.0, -db / 10); };
  const double fine = before.kl && after.kl ? *before.kl - *after.kl : noise(before.sqnr_db) - noise(after.sqnr_db);
  return points + fine / 100;
}

}  // namespace nibble
