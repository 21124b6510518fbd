// What a trial is worth, and whether it loses more than it may.
#pragma once

#include "analyze/judge.h"
#include "nibble/tune.h"

namespace nibble {

// Fills value, low, high and passes. `truth` is the float network on the same samples, `uniform` the first trial's value (kSqnr).
// `command_value` is the command's number, kCommand only; `float_value` that of the float network.
void rate(TuneTrial& trial, TuneMetric metric, double max_drop, const Judgement& truth, const Judgement& found, double float_value,
          std::optional<double> uniform, double command_value);

// Of the float network: 100 or less (top1), 100 (agreement), 0 (kl), infinite and shown as kLargestSqnr (sqnr).
double value_of_float(TuneMetric metric, const Judgement& truth);

// The greater the better: KL is the one metric that is to be small.
inline double worth(TuneMetric metric, double value) { return metric == TuneMetric::kKl ? -value : value; }

}  // namespace nibble
