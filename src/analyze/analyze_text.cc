#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "nibble/analyze.h"

namespace nibble {
namespace {

constexpr std::size_t kLayersShown = 15;

std::string cell(const std::optional<double>& value, int width, int digits) {
  return value ? fmt::format("{:{}.{}f}", *value, width, digits) : fmt::format("{:>{}}", "-", width);
}

}  // namespace

std::string to_string(const Figures& f) {
  std::string text;
  if (f.top1) text += fmt::format("top-1 {:.2f} %, ", *f.top1);
  if (f.agreement) text += fmt::format("agreement {:.2f} %, ", *f.agreement);
  if (f.kl) text += fmt::format("KL {:.4g}, ", *f.kl);
  return text + fmt::format("{:.1f} dB", f.sqnr_db);
}

std::string to_text(const AnalyzeResult& result) {
  std::string text = fmt::format("calibrated with {} on {}, judged on {}\n", result.method, result.data, result.judged_on);
  if (result.float_top1) text += fmt::format("float      top-1 {:.2f} %\n", *result.float_top1);
  text += fmt::format("quantized  {} ({} samples)\n\n", to_string(result.quantized), result.quantized.samples);

  if (result.causes.empty()) text += "causes: none found\n";
  int number = 0;
  for (const Cause& cause : result.causes) {
    text += fmt::format("cause {}: {} at {}\n  found:  {}\n  fix:    {}\n", ++number, cause.id, cause.where, cause.evidence, cause.option);
    if (cause.before && cause.after)
      text += fmt::format("  wins:   {} -> {} ({})\n", to_string(*cause.before), to_string(*cause.after), cause.measured_on);
  }

  std::vector<std::size_t> order(result.layers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return result.layers[a].output_alone_db < result.layers[b].output_alone_db; });
  const std::size_t shown = std::min(order.size(), kLayersShown);
  text += fmt::format("\nSQNR in dB over {} samples; the {} of {} layers that cost the network's output most\n", result.sensitivity_samples,
                      shown, order.size());
  text += fmt::format("{:<36} {:<10} | at its own output: {:>7} {:>7} {:>7} {:>7} | at the network's: {:>7} {:>7} {:>7} {:>9}\n", "layer",
                      "op", "weights", "activ.", "alone", "up to", "weights", "activ.", "alone", "KL");
  for (std::size_t i = 0; i < shown; ++i) {
    const LayerSensitivity& l = result.layers[order[i]];
    std::string name = l.name;
    if (name.size() > 36) name = ".." + name.substr(name.size() - 34);
    text += fmt::format("{:<36} {:<10} |                    {} {} {:7.1f} {:7.1f} |                   {} {} {:7.1f} {}\n", name, l.op_type,
                        cell(l.own_weights_db, 7, 1), cell(l.own_activations_db, 7, 1), l.own_alone_db, l.own_up_to_db,
                        cell(l.output_weights_db, 7, 1), cell(l.output_activations_db, 7, 1), l.output_alone_db, cell(l.alone_kl, 9, 5));
  }
  if (!result.observations.empty()) text += "\n";
  for (const std::string& line : result.observations) text += "note: " + line + "\n";
  return text;
}

}  // namespace nibble
