// Rounding to integers.
#pragma once

#include <cmath>

namespace nibble {

// Round half to even (docs/arithmetic.md, rne). The processor's default rounding mode is part of the contract: nibble never changes it.
inline float rne(float x) { return std::nearbyintf(x); }
inline double rne(double x) { return std::nearbyint(x); }

}  // namespace nibble
