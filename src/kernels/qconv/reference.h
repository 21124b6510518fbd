// The plain loops that are law. Internal to the room.
#pragma once

#include "kernels/qconv/qconv.h"

namespace nibble::kernels {

void qconv_reference(const PackedConv& conv, const ConvCall& call, std::int64_t begin, std::int64_t end);

}  // namespace nibble::kernels
