// For the files of one instruction set: their helpers are inlined, or kept inside of the file, so that no other file can end up with them.
#pragma once

#include <immintrin.h>

#define NIBBLE_INLINE inline __attribute__((always_inline))
