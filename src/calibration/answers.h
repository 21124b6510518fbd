// How the values that are the network's answer are observed.
#pragma once

#include <string>

namespace nibble {

// Whatever method was asked for; the saved state of such a value is under this name.
inline const std::string kAnswerMethod = "min_max";

}  // namespace nibble
