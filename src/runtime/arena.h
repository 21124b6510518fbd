// Offsets for buffers whose lifetimes are known.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/plan.h"

namespace nibble {

// Gives every buffer an offset (64-byte aligned) such that buffers alive at the same step do not overlap; returns the arena's size. Greedy: the
// largest first, each into the lowest gap that is free during its life. O(n (life + alive log alive)), where `life` is how many steps a buffer
// lives and `alive` how many are alive then.
std::int64_t plan_arena(std::vector<Buffer>& buffers);

}  // namespace nibble
