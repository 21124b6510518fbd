// Strict reading of saved observer states: they come from files that anybody may have touched.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "base/fail.h"
#include "observers/compensated_sum.h"

namespace nibble {

// An object with exactly the given keys. Everything wrong is Error{kInvalidData} "<what>: ...".
class StateReader {
 public:
  StateReader(const nlohmann::json& state, std::string what, std::initializer_list<const char*> keys);

  double number(const char* key) const;                                   // finite
  std::uint64_t count(const char* key) const;                             // below 2^62
  std::pair<double, double> range(const char* lo, const char* hi) const;  // lo <= hi, both within float32
  const nlohmann::json& array(const char* key) const;
  CompensatedSum sum(const char* key) const;  // [high, low]
  const nlohmann::json& at(const char* key) const { return state_.at(key); }
  [[noreturn]] void refuse(const char* key, std::string_view why) const;

 private:
  const nlohmann::json& state_;
  std::string what_;
};

// The text of a state as JSON; Error{kInvalidData} where it is none.
nlohmann::json parse_state(const std::string& text, std::string_view what);
inline nlohmann::json to_json(const CompensatedSum& sum) { return nlohmann::json::array({sum.high(), sum.low()}); }

}  // namespace nibble
