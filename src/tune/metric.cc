#include "tune/metric.h"

#include <algorithm>
#include <cmath>

#include "base/fail.h"

namespace nibble {
namespace {

constexpr double kZ = 1.959963984540054;  // 97.5 % of the normal distribution

// Few samples cannot tell a drop of one point: top-1 moves by whole samples, in both directions. What was right and is wrong now may be
// twice the drop, whatever else came right by luck; and classes that change, right or wrong, six times.
constexpr double kLost = 2, kDisagreement = 6;

}  // namespace

Interval wilson_interval(std::int64_t hits, std::int64_t count) {
  if (count <= 0) return {0, 100};
  const auto n = static_cast<double>(count);
  const double p = static_cast<double>(hits) / n;
  const double z2 = kZ * kZ;
  const double middle = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half = kZ * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n);
  return {.low = 100 * std::max(middle - half, 0.0), .high = 100 * std::min(middle + half, 1.0)};
}

TuneMetric parse_metric(const std::string& text, std::string& command) {
  constexpr std::string_view kCommandPrefix = "command:";
  if (text.starts_with(kCommandPrefix)) {
    command = text.substr(kCommandPrefix.size());
    if (command.find_first_not_of(" \t") == std::string::npos)
      fail(ErrorCode::kInvalidArgument, "metric '{}' names no program; expected command:CMD", text);
    return TuneMetric::kCommand;
  }
  for (const TuneMetric metric : {TuneMetric::kTop1, TuneMetric::kAgreement, TuneMetric::kKl, TuneMetric::kSqnr}) {
    if (text == to_string(metric)) return metric;
  }
  fail(ErrorCode::kInvalidArgument, "metric '{}' is unknown; known are top1, agreement, kl, sqnr, command:CMD", text);
}

std::string to_string(TuneMetric metric) {
  switch (metric) {
    case TuneMetric::kTop1: return "top1";
    case TuneMetric::kAgreement: return "agreement";
    case TuneMetric::kKl: return "kl";
    case TuneMetric::kSqnr: return "sqnr";
    case TuneMetric::kCommand: return "command";
  }
  return "";
}

double value_of_float(TuneMetric metric, const Judgement& truth) {
  switch (metric) {
    case TuneMetric::kTop1: return truth.figures.top1.value_or(0);
    case TuneMetric::kAgreement: return 100;
    case TuneMetric::kKl: return 0;
    case TuneMetric::kSqnr: return kLargestSqnr;
    case TuneMetric::kCommand: break;
  }
  return 0;
}

void rate(TuneTrial& trial, TuneMetric metric, double max_drop, const Judgement& truth, const Judgement& found, double float_value,
          std::optional<double> uniform, double command_value) {
  trial.figures = found.figures;
  std::int64_t right = 0, labelled = 0, agreeing = 0, rows = 0;
  double kl = 0, kl_squares = 0;
  std::int64_t scored = 0, lost = 0;
  for (std::size_t i = 0; i < found.samples.size(); ++i) {
    const Verdict& v = found.samples[i];
    labelled += v.labelled ? 1 : 0;
    right += v.right ? 1 : 0;
    agreeing += v.agreeing;
    rows += v.rows;
    lost += truth.samples[i].right && !v.right ? 1 : 0;
    if (v.kl) {
      ++scored;
      kl += *v.kl;
      kl_squares += *v.kl * *v.kl;
    }
  }
  const double disagreement = rows > 0 ? 100.0 * static_cast<double>(rows - agreeing) / static_cast<double>(rows) : 0;
  switch (metric) {
    case TuneMetric::kTop1: {
      const Interval interval = wilson_interval(right, labelled);
      trial.value = found.figures.top1.value_or(0);
      trial.low = interval.low;
      trial.high = interval.high;
      const double share_lost = labelled > 0 ? 100.0 * static_cast<double>(lost) / static_cast<double>(labelled) : 0;
      trial.passes = float_value - trial.value <= max_drop && disagreement <= kDisagreement * max_drop && share_lost <= kLost * max_drop;
      break;
    }
    case TuneMetric::kAgreement: {
      const Interval interval = wilson_interval(agreeing, rows);
      trial.value = found.figures.agreement.value_or(0);
      trial.low = interval.low;
      trial.high = interval.high;
      trial.passes = disagreement <= max_drop;
      break;
    }
    case TuneMetric::kKl: {
      const auto n = static_cast<double>(std::max<std::int64_t>(scored, 1));
      trial.value = found.figures.kl.value_or(0);
      const double variance = scored > 1 ? std::max(kl_squares / n - (kl / n) * (kl / n), 0.0) / (n - 1) : 0;
      trial.low = std::max(trial.value - kZ * std::sqrt(variance), 0.0);
      trial.high = trial.value + kZ * std::sqrt(variance);
      trial.passes = trial.value <= max_drop;
      break;
    }
    case TuneMetric::kSqnr:
      trial.value = trial.low = trial.high = found.figures.sqnr_db;
      trial.passes = trial.value >= uniform.value_or(trial.value) - max_drop;
      break;
    case TuneMetric::kCommand:
      trial.value = trial.low = trial.high = command_value;
      trial.passes = float_value - command_value <= max_drop;
      break;
  }
}

}  // namespace nibble
