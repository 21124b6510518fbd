#include "tune/tune_json.h"

namespace nibble {
namespace {

using nlohmann::ordered_json;

ordered_json maybe(const std::optional<double>& value) { return value ? ordered_json(*value) : ordered_json(nullptr); }
std::optional<double> number(const ordered_json& json) { return json.is_null() ? std::nullopt : std::optional(json.get<double>()); }

}  // namespace

ordered_json json_of(const TuneTrial& t) {
  return {{"number", t.number},
          {"methods", t.methods},
          {"layers", t.layers},
          {"size_bytes", t.size_bytes},
          {"value", t.value},
          {"low", t.low},
          {"high", t.high},
          {"passes", t.passes},
          {"milliseconds", t.milliseconds},
          {"samples", t.figures.samples},
          {"top1", maybe(t.figures.top1)},
          {"agreement", maybe(t.figures.agreement)},
          {"kl", maybe(t.figures.kl)},
          {"sqnr_db", t.figures.sqnr_db}};
}

TuneTrial trial_from_json(const ordered_json& json) {
  TuneTrial t;
  t.number = json.at("number").get<std::int64_t>();
  t.methods = json.at("methods").get<std::string>();
  t.layers = json.at("layers").get<std::string>();
  t.size_bytes = json.at("size_bytes").get<std::int64_t>();
  t.value = json.at("value").get<double>();
  t.low = json.at("low").get<double>();
  t.high = json.at("high").get<double>();
  t.passes = json.at("passes").get<bool>();
  t.milliseconds = json.at("milliseconds").get<double>();
  t.figures.samples = json.at("samples").get<std::int64_t>();
  t.figures.top1 = number(json.at("top1"));
  t.figures.agreement = number(json.at("agreement"));
  t.figures.kl = number(json.at("kl"));
  t.figures.sqnr_db = json.at("sqnr_db").get<double>();
  return t;
}

std::string to_json(const TuneResult& result) {
  ordered_json trials = ordered_json::array();
  for (const TuneTrial& trial : result.trials) trials.push_back(json_of(trial));
  ordered_json layers = ordered_json::array();
  for (const TuneLayer& l : result.layers)
    layers.push_back({{"name", l.name}, {"op_type", l.op_type}, {"weights", l.weights}, {"form", l.form}, {"reason", l.reason}});
  const ordered_json root = {{"metric", to_string(result.metric)},
                             {"max_drop", result.max_drop},
                             {"float_value", result.float_value},
                             {"calibrating_samples", result.calibrating},
                             {"deciding_samples", result.deciding},
                             {"best", result.best},
                             {"pareto", result.pareto},
                             {"trials", std::move(trials)},
                             {"layers", std::move(layers)},
                             {"recipe", result.recipe.empty() ? ordered_json(nullptr) : ordered_json::parse(result.recipe)},
                             {"notes", result.notes}};
  return root.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace nibble
