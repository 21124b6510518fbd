#include "observers/state_json.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {

StateReader::StateReader(const nlohmann::json& state, std::string what, std::initializer_list<const char*> keys)
    : state_(state), what_(std::move(what)) {
  if (!state.is_object()) fail(ErrorCode::kInvalidData, "{}: expected a JSON object, found {}", what_, state.type_name());
  for (const char* key : keys) {
    if (!state.contains(key)) fail(ErrorCode::kInvalidData, "{}: the key \"{}\" is missing", what_, key);
  }
  for (const auto& [key, value] : state.items()) {
    if (std::none_of(keys.begin(), keys.end(), [&](const char* known) { return key == known; })) {
      fail(ErrorCode::kInvalidData, "{}: unknown key \"{}\"", what_, key);
    }
  }
}

void StateReader::refuse(const char* key, std::string_view why) const {
  fail(ErrorCode::kInvalidData, "{}: \"{}\" has {}; the file is damaged: make it again with nibble calibrate", what_, key, why);
}

double StateReader::number(const char* key) const {
  const auto& value = state_.at(key);
  if (!value.is_number()) refuse(key, "something that is not a number");
  const double result = value.get<double>();
  if (!std::isfinite(result)) refuse(key, "a number that is not finite");
  return result;
}

std::uint64_t StateReader::count(const char* key) const {
  const auto& value = state_.at(key);
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= (std::uint64_t{1} << 62)) refuse(key, "something that is not a count");
  return value.get<std::uint64_t>();
}

std::pair<double, double> StateReader::range(const char* lo, const char* hi) const {
  constexpr double kLargest = static_cast<double>(std::numeric_limits<float>::max());
  const double low = number(lo), high = number(hi);
  if (std::abs(low) > kLargest) refuse(lo, "a number outside of float32");
  if (std::abs(high) > kLargest) refuse(hi, "a number outside of float32");
  if (low > high) refuse(lo, "a number above the other end");
  return {low, high};
}

const nlohmann::json& StateReader::array(const char* key) const {
  const auto& value = state_.at(key);
  if (!value.is_array()) refuse(key, "something that is not an array");
  return value;
}

CompensatedSum StateReader::sum(const char* key) const {
  const auto& value = array(key);
  if (value.size() != 2 || !value[0].is_number() || !value[1].is_number()) refuse(key, "something that is not a pair of numbers");
  const double high = value[0].get<double>(), low = value[1].get<double>();
  if (!std::isfinite(high) || !std::isfinite(low)) refuse(key, "a number that is not finite");
  return {high, low};
}

nlohmann::json parse_state(const std::string& text, std::string_view what) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& e) {
    fail(ErrorCode::kInvalidData, "{}: not valid JSON ({})", what, e.what());
  }
}

}  // namespace nibble
