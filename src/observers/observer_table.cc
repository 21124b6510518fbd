#include <charconv>
#include <cmath>

#include "base/fail.h"
#include "observers/observer_base.h"

namespace nibble {

namespace {

constexpr ObserverInfo kObservers[] = {
    {"min_max", "least and greatest value seen", "Jacob et al. 2018, section 3.1", "", make_min_max},
    {"average", "mean of the samples' least and greatest values", "Jacob et al. 2018, with a plain mean", "", make_average},
    {"moving_average", "exponential moving average of the samples' least and greatest values", "Jacob et al. 2018, section 3.1",
     "momentum=0.01", make_moving_average},
    {"mean_std", "mean -+ n standard deviations", "docs/calibration.md", "n=10", make_mean_std},
    {"percentile", "the value that `percentile` % of the values stay below, on both sides", "Wu et al. 2020", "percentile=99.99",
     make_percentile},
    {"entropy", "least KL divergence between the histogram and its quantized form", "Migacz 2017", "", make_entropy},
    {"mse", "least mean |x - Q(x)|^p on the target grid", "Banner et al. 2018; Choukroun et al. 2019", "p=2", make_mse},
    {"aciq", "optimal clip of a fitted Laplace or normal distribution", "Banner et al. 2018 (ACIQ)", "", make_aciq},
    {"power_of_two", "the power of two as scale that makes the least mean |x - Q(x)|", "Qiu et al. 2016, section 5.1", "",
     make_power_of_two},
};

std::string known_names() {
  std::string names;
  for (const ObserverInfo& info : kObservers) {
    if (!names.empty()) names += ", ";
    names += info.name;
  }
  return names;
}

double parse_number(std::string_view text, std::string_view method, std::string_view option) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    fail(ErrorCode::kInvalidArgument, "observer {}: option {}={} is not a number", method, option, text);
  }
  return value;
}

// "a=1,b=2" into `options`.
void parse_options(std::string_view text, std::string_view method, ObserverOptions& options) {
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos)
      fail(ErrorCode::kInvalidArgument, "observer {}: expected option=value, found \"{}\"", method, item);
    const std::string_view name = item.substr(0, equals);
    options[std::string(name)] = parse_number(item.substr(equals + 1), method, name);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
  }
}

}  // namespace

std::span<const ObserverInfo> observer_table() { return kObservers; }

std::unique_ptr<Observer> make_observer(std::string_view method) {
  const std::size_t colon = method.find(':');
  const std::string_view name = method.substr(0, colon);
  for (const ObserverInfo& info : kObservers) {
    if (info.name != name) continue;
    ObserverOptions options;
    parse_options(info.options, name, options);
    const std::size_t known = options.size();
    if (colon != std::string_view::npos) {
      const std::string_view given = method.substr(colon + 1);
      parse_options(given, name, options);
      if (options.size() != known) {
        fail(ErrorCode::kInvalidArgument, "observer {}: unknown option in \"{}\"; known: {}", name, given,
             known == 0 ? "none" : info.options);
      }
    }
    return info.make(options);
  }
  fail(ErrorCode::kInvalidArgument, "unknown observer \"{}\"; known: {}", name, known_names());
}

}  // namespace nibble
