// QuantScheme as JSON: the one form of target files and of recipes (docs/recipe.md).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "nibble/quantize.h"

namespace nibble {

// Puts `text`, an object that may hold comments, on top of `scheme`. `extra` keys ("name", "summary" of targets) are given back in `extras`
// as strings. Throws Error{kInvalidData} naming `origin` and the key.
struct SchemeExtras {
  std::string name, summary;
  TargetLimits takes;  // "takes"
};
QuantScheme apply_scheme_json(QuantScheme scheme, std::string_view text, const std::string& origin, SchemeExtras* extras);

}  // namespace nibble
