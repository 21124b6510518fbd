#include <nlohmann/json.hpp>

#include "nibble/analyze.h"

namespace nibble {
namespace {

using nlohmann::ordered_json;

template <typename T>
ordered_json maybe(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json json_of(const Figures& f) {
  return {{"samples", f.samples}, {"top1", maybe(f.top1)}, {"agreement", maybe(f.agreement)}, {"kl", maybe(f.kl)}, {"sqnr_db", f.sqnr_db}};
}
ordered_json json_of(const std::optional<Figures>& f) { return f ? json_of(*f) : ordered_json(nullptr); }

}  // namespace

std::string to_json(const AnalyzeResult& result) {
  ordered_json layers = ordered_json::array();
  for (const LayerSensitivity& l : result.layers) {
    layers.push_back({{"name", l.name},
                      {"op_type", l.op_type},
                      {"own_weights_db", maybe(l.own_weights_db)},
                      {"own_activations_db", maybe(l.own_activations_db)},
                      {"own_alone_db", l.own_alone_db},
                      {"own_up_to_db", l.own_up_to_db},
                      {"output_weights_db", maybe(l.output_weights_db)},
                      {"output_activations_db", maybe(l.output_activations_db)},
                      {"output_alone_db", l.output_alone_db},
                      {"weights_kl", maybe(l.weights_kl)},
                      {"activations_kl", maybe(l.activations_kl)},
                      {"alone_kl", maybe(l.alone_kl)}});
  }
  ordered_json causes = ordered_json::array();
  for (const Cause& c : result.causes) {
    causes.push_back({{"id", c.id},
                      {"where", c.where},
                      {"evidence", c.evidence},
                      {"option", c.option},
                      {"measured_on", c.measured_on},
                      {"before", json_of(c.before)},
                      {"after", json_of(c.after)},
                      {"damage", c.damage}});
  }
  const ordered_json root = {{"data", result.data},
                             {"judged_on", result.judged_on},
                             {"calibration_method", result.method},
                             {"float_top1", maybe(result.float_top1)},
                             {"quantized", json_of(result.quantized)},
                             {"causes", std::move(causes)},
                             {"sensitivity_samples", result.sensitivity_samples},
                             {"layers", std::move(layers)},
                             {"observations", result.observations}};
  return root.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace nibble
