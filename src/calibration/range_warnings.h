// What the user should know of a range table.
#pragma once

#include "nibble/calibrate.h"

namespace nibble {

// Replaces `table.warnings`: one for each value that was never reached, or whose range is a single point.
void add_range_warnings(RangeTable& table);

}  // namespace nibble
