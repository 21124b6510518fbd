#include "peak.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

#if defined(NIBBLE_KERNELS_X86)
// Multiply-adds done by `rounds` rounds.
std::int64_t peak_avx512vnni(std::int64_t rounds);
std::int64_t peak_avxvnni(std::int64_t rounds);
std::int64_t peak_avx2(std::int64_t rounds);
#endif

double measured_peak(nibble::kernels::Isa isa) {
  using nibble::kernels::Isa;
  std::int64_t (*loop)(std::int64_t) = nullptr;
#if defined(NIBBLE_KERNELS_X86)
  if (isa == Isa::kAvx512Vnni) loop = peak_avx512vnni;
  if (isa == Isa::kAvxVnni) loop = peak_avxvnni;
  if (isa == Isa::kAvx2) loop = peak_avx2;
#endif
  if (loop == nullptr) return 0;
  double best = 0;
  for (int i = 0; i < 30; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const std::int64_t macs = loop(100000);
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
    best = std::max(best, 2.0 * static_cast<double>(macs) / time.count());
  }
  return best;
}
