// Sense out of the times of steps: what kind each is, how near the peak, and why one is slower than in float.
#pragma once

#include <vector>

#include "nibble/report.h"

namespace nibble {

// `steps` of a quantized model, as the session profiled them. `float_us` by node name: the float network's times; empty if there are none. `peaks` by
// instruction set.
std::vector<BenchmarkStep> explain_steps(const QuantizedGraph& model, const std::vector<StepProfile>& steps,
                                         const std::map<std::string, double>& float_us, const std::map<std::string, double>& peaks);

// GOPS, two operations a multiply-add.
double gops_of(const StepProfile& step);

}  // namespace nibble
