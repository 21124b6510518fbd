#include "nibble/quant_params.h"

#include <algorithm>

namespace nibble {

std::int64_t QuantType::qmin() const {
  if (!is_signed) return 0;
  return -(std::int64_t{1} << (bit_width - 1)) + (narrow_range ? 1 : 0);
}

std::int64_t QuantType::qmax() const {
  return is_signed ? (std::int64_t{1} << (bit_width - 1)) - 1 : (std::int64_t{1} << bit_width) - 1;
}

bool QuantParams::symmetric() const {
  return std::all_of(zero_point.begin(), zero_point.end(), [](std::int32_t z) { return z == 0; });
}

std::string to_string(RequantizeLaw law) {
  switch (law) {
    case RequantizeLaw::kFloat32: return "float32";
    case RequantizeLaw::kFixedPoint: return "fixed_point";
    case RequantizeLaw::kShift: return "shift";
  }
  return "unknown";
}

}  // namespace nibble
