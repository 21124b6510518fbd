// The grammar of kernels' names. Internal to the room.
#pragma once

#include <string>
#include <string_view>

#include "kernels/isa.h"

namespace nibble::kernels {

// <family>_<types>_<mr>x<nr>c<kr>_<isa>, or <family>_<types>_<isa> where mr is 0.
std::string kernel_name(std::string_view family, std::string_view types, int mr, int nr, int kr, Isa isa);
// The widest kernel of the family that `isa` may use.
std::string best_kernel_name(std::string_view family, std::string_view types, Isa isa);

}  // namespace nibble::kernels
