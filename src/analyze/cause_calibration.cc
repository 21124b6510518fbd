// Calibration data of one class: what other classes need was never seen.
#include <algorithm>
#include <map>

#include "analyze/cause.h"
#include "analyze/held_samples.h"
#include "base/fail.h"

namespace nibble {
namespace {

constexpr std::size_t kFewest = 8;
constexpr double kOneClass = 0.9;
constexpr double kSpread = 0.5;

struct Common {
  std::int64_t label = -1;
  double share = 0;
  std::size_t samples = 0;
};
Common most_common(const std::vector<std::int64_t>& classes) {
  std::map<std::int64_t, std::size_t> count;
  Common result;
  for (const std::int64_t c : classes) {
    if (c < 0) continue;
    ++result.samples;
    ++count[c];
  }
  for (const auto& [label, n] : count) {
    const double share = static_cast<double>(n) / static_cast<double>(result.samples);
    if (share > result.share) result = {.label = label, .share = share, .samples = result.samples};
  }
  return result;
}

}  // namespace

void find_calibration(const CauseContext& context, std::vector<Cause>& causes, std::vector<std::string>&) {
  const Common seen = most_common(context.calibration_classes);
  const std::int64_t classes = context.judge.classes();
  if (seen.samples < kFewest || seen.share < kOneClass || classes < 3) return;
  Cause cause{.id = "one_class_calibration",
              .where = context.calibration->description(),
              .evidence = fmt::format("{:.0f} % of {} calibration samples are of class {}; the network knows {}", 100 * seen.share,
                                      seen.samples, seen.label, classes),
              .option = "--data with samples of all classes, e.g. one folder a class and --samples N, which spreads them",
              .measured_on = "the quantized network",
              .before = std::nullopt,
              .after = std::nullopt,
              .damage = 0};
  // The judging samples show more: half of them calibrate, the other half tells what that wins.
  const Dataset& judging = context.judge.samples();
  if (most_common(context.judge.truth_classes()).share <= kSpread && judging.size() >= 2 * static_cast<std::int64_t>(kFewest)) {
    std::vector<std::int64_t> odd, even;
    for (std::int64_t i = 0; i < judging.size(); ++i) (i % 2 == 0 ? even : odd).push_back(i);
    CalibrateOptions calibrate_options{.methods = {context.ranges.method}, .target = context.ranges.target};
    calibrate_options.threads = context.options.threads;
    calibrate_options.keep_states = false;
    const RangeTable wide = std::move(calibrate(context.graph, *subset(context.judge.shared_samples(), odd), calibrate_options).at(0));
    const Judge judge(context.graph, hold_samples(judging, even, context.options.threads, nullptr), context.options.threads,
                      context.options.progress);
    cause.before = judge(context.quantized).figures;
    cause.after = judge(quantize(context.graph, wide, context.options.scheme)).figures;
    cause.damage = gain_of(*cause.before, *cause.after);
  } else {
    cause.option += "; give --evaluation-data with all classes to have the fix measured";
  }
  causes.push_back(std::move(cause));
}

}  // namespace nibble
