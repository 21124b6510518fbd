#include <immintrin.h>

#include "kernels/peak/loops.h"

namespace nibble::kernels {

// Six chains of sums of zeros, which take the time of any others. A product is worth about ten of the vector instructions, hence fewer
// rounds.
std::int64_t peak_amx(std::int64_t rounds) {
  struct alignas(64) {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  __asm__ volatile("" : : "r"(&config) : "memory");  // the compiler does not know that all of it is read
  _tile_loadconfig(&config);
  for (std::int64_t i = 0; i < rounds; i += 8) {
    _tile_dpbusd(0, 7, 6);
    _tile_dpbusd(1, 7, 6);
    _tile_dpbusd(2, 7, 6);
    _tile_dpbusd(3, 7, 6);
    _tile_dpbusd(4, 7, 6);
    _tile_dpbusd(5, 7, 6);
  }
  _tile_release();
  return (rounds + 7) / 8 * 6 * 16 * 16 * 64;
}

}  // namespace nibble::kernels
