// The ladder of `auto`.
#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "base/fail.h"
#include "nibble/methods.h"

namespace nibble {
namespace {

// "A helps": its loss is lower, sample by sample, by more than the standard error of the difference.
bool helps(const MethodLoss& candidate, const MethodLoss& best) {
  double mean = 0, squares = 0;
  const auto n = static_cast<double>(best.samples.size());
  for (std::size_t i = 0; i < best.samples.size(); ++i) mean += (best.samples[i] - candidate.samples[i]) / n;
  for (std::size_t i = 0; i < best.samples.size(); ++i) {
    const double d = best.samples[i] - candidate.samples[i] - mean;
    squares += d * d;
  }
  const double error = n > 1 ? std::sqrt(squares / (n - 1) / n) : 0;
  return std::isfinite(candidate.loss) && mean > error;
}

// Weights with a zero point and every code, where they are without and the target takes such.
std::optional<QuantScheme> with_affine_weights(QuantScheme scheme) {
  NodeScheme& node = scheme.defaults;
  if (!node.weights.symmetric || node.weights.codebook != Codebook::kNone) return std::nullopt;
  if (node.form != NodeForm::kInteger && node.form != NodeForm::kWeightOnly) return std::nullopt;
  const TargetLimits limits = limits_of_target(scheme.target);
  const TargetLimits::Tensors& takes = node.form == NodeForm::kWeightOnly && limits.weight_only ? *limits.weight_only : limits.weights;
  // The zero point taken off, n bits need one more.
  if (!takes.zero_points || !takes.full_range || (takes.code_bits > 0 && takes.code_bits <= node.weights.type.bit_width))
    return std::nullopt;
  node.weights.symmetric = false;
  node.weights.type.narrow_range = false;
  return scheme;
}

}  // namespace

MethodsChoice choose_methods(const MethodState& start, const MethodInputs& inputs) {
  if (inputs.deciding == nullptr || inputs.deciding->size() == 0)
    fail(ErrorCode::kInvalidArgument, "--methods auto needs calibration data (--data)");
  const MethodJudge judge(start.reference, inputs.deciding, inputs.threads, inputs.progress);
  MethodsChoice choice{.state = start, .methods = "none", .ladder = {}};
  MethodLoss best = judge(quantize(start.graph, start.ranges, start.scheme));
  choice.ladder.push_back({.methods = "none", .loss = best.loss, .is_kl = best.is_kl, .agreement = best.agreement, .kept = true});

  // Parts of the list that is being built, in the order of the phases.
  std::string equalize, round, correct;
  QuantScheme scheme = start.scheme;
  const auto joined = [](const std::string& a, const std::string& b, const std::string& c) {
    std::string text;
    for (const std::string* part : {&a, &b, &c}) {
      if (!part->empty()) text += (text.empty() ? "" : ",") + *part;
    }
    return text;
  };
  const auto attempt = [&](const std::string& e, const std::string& r, const std::string& c, const QuantScheme& with,
                           const char* label = "") {
    const std::string text = joined(e, r, c);
    MethodState state = start;
    state.scheme = with;
    try {
      apply_methods(state, parse_methods(text), inputs);
      const MethodLoss loss = judge(quantize(state.graph, state.ranges, state.scheme));
      const bool kept = helps(loss, best);
      choice.ladder.push_back({.methods = text + label, .loss = loss.loss, .is_kl = loss.is_kl, .agreement = loss.agreement, .kept = kept});
      if (!kept) return;
      best = loss;
      equalize = e;
      round = r;
      correct = c;
      scheme = with;
      choice.state = std::move(state);
      choice.methods = text;
    } catch (const Error& error) {
      // What a method makes may be outside of what the grids hold; that is a lost rung, not a lost run.
      if (error.code() == ErrorCode::kInterrupted) throw;
      choice.state.notes.push_back(fmt::format("auto: {} was given up: {}", text, error.what()));
    }
  };
  attempt("", "", "bias_correction", scheme);
  attempt("equalization", "", "bias_correction", scheme);
  // Rounding takes the mean error off by itself, so it is tried without the correction, on top of the equalization that won.
  attempt(equalize, "gptq", "", scheme);
  if (start.scheme.defaults.weights.type.bit_width < 8) {
    if (const auto affine = with_affine_weights(scheme)) {
      attempt(equalize, "gptq", "", *affine, " (affine weights)");
      if (!scheme.defaults.weights.symmetric)
        choice.state.notes.push_back("auto: weights got zero points, as with --weight-affine --full-range");
    }
    attempt(equalize, "adaround", "", scheme);
  }
  if (!round.empty()) attempt(equalize, round, "bias_correction", scheme);
  return choice;
}

std::string to_text(std::span<const LadderRung> ladder) {
  std::string text;
  for (const LadderRung& rung : ladder) {
    text += fmt::format("{:<60} {} {:.6f}", rung.methods, rung.is_kl ? "KL" : "noise/signal", rung.loss);
    if (rung.agreement) text += fmt::format("  agreement {:6.2f} %", *rung.agreement);
    text += rung.kept ? "  kept\n" : "\n";
  }
  return text;
}

}  // namespace nibble
