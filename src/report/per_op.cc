#include "report/per_op.h"

#include <fmt/format.h>

namespace nibble {
namespace {

StepKind kind_of(const StepProfile& step) {
  const std::string& kernel = step.kernel;
  if (kernel == "constant") return StepKind::kConstant;
  if (kernel.starts_with("float:")) return StepKind::kFloatIsland;
  const bool layout = kernel == "nchw_to_nhwc" || kernel == "nhwc_to_nchw";
  const bool edge = step.op_type == "QuantizeLinear" || step.op_type == "DequantizeLinear" || step.op_type == "Requantize";
  return layout || edge ? StepKind::kConversion : StepKind::kInteger;
}

const LayerInfo* layer_named(const QuantizedGraph& model, const std::string& name) {
  for (const LayerInfo& layer : model.layers)
    if (layer.name == name) return &layer;
  return nullptr;
}

// A kernel's name ends in its instruction set, but for what is done besides ("+pack").
double peak_of(const std::string& kernel, const std::map<std::string, double>& peaks) {
  const std::string name = kernel.substr(0, kernel.find('+'));
  for (const auto& [isa, peak] : peaks)
    if (name.ends_with("_" + isa)) return peak;
  return 0;
}

// Why an integer step loses. What can be told from outside: the kernel's name, the work, the distance from the peak.
std::string why_slower(const QuantizedGraph& model, const BenchmarkStep& step) {
  if (step.kind == StepKind::kFloatIsland) {
    const LayerInfo* layer = layer_named(model, step.node);
    const std::string reason = layer != nullptr && !layer->reason.empty() ? layer->reason : "it has no integer form here";
    return fmt::format("runs in float, in loops of fixed order: {}", reason);
  }
  if (step.kernel.find("_reference") != std::string::npos) return "plain loops: this instruction set has no kernel for it";
  if (step.kernel.starts_with("move:")) return "moved element by element";
  if (step.macs > 0)
    return fmt::format("{:.0f} % of the peak: too small, or of too few channels, to fill the kernel's tiles", step.peak_percent);
  return "no multiply-adds: rounding every value to the output's grid costs more than the operation";
}

}  // namespace

double gops_of(const StepProfile& step) {
  return step.macs > 0 && step.microseconds > 0 ? 2e-3 * static_cast<double>(step.macs) / step.microseconds : 0;
}

std::vector<BenchmarkStep> explain_steps(const QuantizedGraph& model, const std::vector<StepProfile>& steps,
                                         const std::map<std::string, double>& float_us, const std::map<std::string, double>& peaks) {
  // Differences below these are within what two runs differ by.
  constexpr double kSlower = 1.1, kLeastUs = 1;
  std::vector<BenchmarkStep> result;
  for (const StepProfile& profile : steps) {
    BenchmarkStep step{profile};
    step.kind = kind_of(profile);
    step.gops = gops_of(profile);
    if (const double peak = peak_of(profile.kernel, peaks); peak > 0) step.peak_percent = 100 * step.gops / peak;
    const auto found = float_us.find(profile.node);
    if (found != float_us.end() && step.kind != StepKind::kConversion && step.kind != StepKind::kConstant) step.float_us = found->second;
    if (step.float_us && step.microseconds > kSlower * *step.float_us && step.microseconds - *step.float_us > kLeastUs)
      step.note = why_slower(model, step);
    result.push_back(std::move(step));
  }
  return result;
}

}  // namespace nibble
