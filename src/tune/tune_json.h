#pragma once

#include <nlohmann/json.hpp>

#include "nibble/tune.h"

namespace nibble {

nlohmann::ordered_json json_of(const TuneTrial& trial);
// Throws nlohmann's exceptions.
TuneTrial trial_from_json(const nlohmann::ordered_json& json);

}  // namespace nibble
