// The rows, and the rule of their order.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/fail.h"
#include "methods/method_list.h"
#include "nibble/methods.h"

namespace nibble {
namespace {

constexpr MethodInfo kMethods[] = {
    {"equalization", "scales channels of neighbouring layers so that their weights share the range", "Nagel et al. 2019 (DFQ), section 4.1",
     "rounds=50,clips=1", MethodPhase::kEqualize, false, equalize_layers},
    {"absorption", "takes high biases off channels behind a ReLU and gives them to the next layer", "Nagel et al. 2019, section 4.1.3",
     "deviations=3", MethodPhase::kAbsorb, false, absorb_biases},
    {"weight_clipping", "scales that minimise the weights' error, weighted with the second moments of the inputs",
     "Nagel et al. 2020, Eq. 12, diagonal; Banner et al. 2018", "", MethodPhase::kGrid, true, clip_weights},
    {"lapq", "clips that minimise the loss of the whole network", "Nahshan et al. 2021 (LAPQ), sections 4.2, 4.3", "", MethodPhase::kGrid,
     true, clip_by_loss},
    {"aciq_bits", "shares the bits of a layer's weights out among its channels", "Banner et al. 2018 (ACIQ), section 4", "",
     MethodPhase::kGrid, false, allocate_channel_bits},
    {"qiu", "power-of-two scales, layer by layer, closest to the float network's features", "Qiu et al. 2016, section 5.1", "",
     MethodPhase::kGrid, true, choose_fixed_point_greedily},
    {"ristretto", "power-of-two scales that hold everything, then as few weight bits as the margin allows", "Gysel et al. 2018 (Ristretto)",
     "margin=0.05", MethodPhase::kGrid, true, trim_fixed_point},
    {"adaround", "learns for each weight whether to round up or down", "Nagel et al. 2020 (AdaRound), Eqs. 21-25",
     "iterations=1000,batch=128,rate=0.1,lambda=5,places=4096,damping=0.5", MethodPhase::kRound, true, round_adaptively},
    {"gptq", "rounds column after column, the others make up for the error; below 8 bits it chooses the scales, too",
     "Frantar et al. 2023 (GPTQ), Algorithm 1", "damping=0.5,places=4096", MethodPhase::kRound, true, round_with_gptq},
    {"weight_correction", "puts mean and deviation of each channel's rounded weights right", "Banner et al. 2019, Eqs. 7-8", "",
     MethodPhase::kWeights, false, correct_weights},
    {"analytic_bias_correction", "bias_correction without data: means from BatchNormalization", "Nagel et al. 2019, section 4.2.1", "",
     MethodPhase::kBias, false, correct_biases_analytically},
    {"bias_correction", "takes the mean error that quantization makes at each layer's outputs off its biases",
     "Nagel et al. 2019, section 4.2", "", MethodPhase::kBias, true, correct_biases},
};

std::string known_names() {
  std::string names;
  for (const MethodInfo& row : kMethods) {
    if (!names.empty()) names += ", ";
    names += row.name;
  }
  return names;
}

// "a=1;b=2" (';' or, in a table's row, ',') into `options`; `known` empty: anything goes.
void parse_options(std::string_view text, const MethodInfo& method, char separator, bool check, MethodOptions& options) {
  while (!text.empty()) {
    const std::size_t end = text.find(separator);
    const std::string_view item = text.substr(0, end);
    const std::size_t equals = item.find('=');
    double value = 0;
    const std::string_view number = equals == std::string_view::npos ? std::string_view{} : item.substr(equals + 1);
    const auto [last, error] = std::from_chars(number.data(), number.data() + number.size(), value);
    const std::string name(item.substr(0, equals));
    if (error != std::errc() || last != number.data() + number.size() || !std::isfinite(value))
      fail(ErrorCode::kInvalidArgument, "method {}: expected option=number, found \"{}\"", method.name, item);
    if (check && options.count(name) == 0)
      fail(ErrorCode::kInvalidArgument, "method {}: it has no option '{}'; its options are: {}", method.name, name,
           method.options.empty() ? "none" : method.options);
    options[name] = value;
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  }
}

const MethodInfo& find_method(std::string_view name) {
  for (const MethodInfo& row : kMethods) {
    if (row.name == name) return row;
  }
  fail(ErrorCode::kInvalidArgument, "there is no method '{}'; known are {}", name, known_names());
}

const char* work_of(MethodPhase phase) {
  switch (phase) {
    case MethodPhase::kEqualize: return "rewrites the float network";
    case MethodPhase::kAbsorb: return "moves biases of the float network";
    case MethodPhase::kGrid: return "chooses the grids";
    case MethodPhase::kRound: return "rounds the weights onto their grids";
    case MethodPhase::kWeights: return "corrects the rounded weights";
    case MethodPhase::kBias: return "corrects what everything before it did to the outputs";
  }
  return "";
}

void check_order(std::span<const MethodStep> steps) {
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const MethodInfo& later = *steps[i].method;
    for (std::size_t j = 0; j < i; ++j) {
      const MethodInfo& earlier = *steps[j].method;
      if (earlier.name == later.name) fail(ErrorCode::kInvalidArgument, "method {} is named twice", later.name);
      if (earlier.phase > later.phase) {
        fail(ErrorCode::kInvalidArgument, "the order {}, {} makes no sense: {} {}, and {} {}; name {} before {}", earlier.name, later.name,
             earlier.name, work_of(earlier.phase), later.name, work_of(later.phase), later.name, earlier.name);
      }
      if (earlier.phase == MethodPhase::kRound && later.phase == MethodPhase::kRound)
        fail(ErrorCode::kInvalidArgument, "{} and {} both round the weights: the second would find them rounded; name one of them",
             earlier.name, later.name);
    }
  }
}

}  // namespace

std::span<const MethodInfo> method_table() { return kMethods; }

std::vector<MethodStep> parse_methods(std::string_view text) {
  std::vector<MethodStep> steps;
  if (text == "none" || text.empty()) return steps;
  while (true) {
    const std::size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    const std::size_t colon = item.find(':');
    MethodStep step{.method = &find_method(item.substr(0, colon)), .options = {}};
    parse_options(step.method->options, *step.method, ',', false, step.options);
    if (colon != std::string_view::npos) parse_options(item.substr(colon + 1), *step.method, ';', true, step.options);
    steps.push_back(std::move(step));
    if (comma == std::string_view::npos) break;
    text = text.substr(comma + 1);
  }
  check_order(steps);
  return steps;
}

std::string to_string(std::span<const MethodStep> steps) {
  if (steps.empty()) return "none";
  std::string text;
  for (const MethodStep& step : steps) {
    MethodOptions defaults;
    parse_options(step.method->options, *step.method, ',', false, defaults);
    if (!text.empty()) text += ',';
    text += step.method->name;
    char separator = ':';
    for (const auto& [name, value] : step.options) {
      if (defaults[name] == value) continue;
      text += fmt::format("{}{}={}", separator, name, value);
      separator = ';';
    }
  }
  return text;
}

MethodState method_state(Graph canonical, RangeTable ranges, QuantScheme scheme) {
  MethodState state;
  state.reference = canonical;
  state.graph = std::move(canonical);
  state.ranges = std::move(ranges);
  state.scheme = std::move(scheme);
  return state;
}

void apply_methods(MethodState& state, std::span<const MethodStep> steps, const MethodInputs& inputs) {
  check_order(steps);
  for (const MethodStep& step : steps) {
    if (step.method->needs_data && (inputs.calibration == nullptr || inputs.calibration->size() == 0))
      fail(ErrorCode::kInvalidArgument, "method {} needs calibration data (--data)", step.method->name);
  }
  for (const MethodStep& step : steps) step.method->apply(state, inputs, step.options);
}

}  // namespace nibble
