#include "kernels/lut/lut.h"

#include "kernels/kernel_name.h"
#include "kernels/lut/kernels.h"

namespace nibble::kernels {

void lut_reference(const std::uint8_t* table, const std::uint8_t* src, std::uint8_t* dst, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) dst[i] = table[src[i]];
}

void lut([[maybe_unused]] Isa isa, const std::uint8_t* table, const std::uint8_t* src, std::uint8_t* dst, std::int64_t n) {
#if defined(NIBBLE_KERNELS_X86)
  if (isa >= Isa::kAvx512Vnni && has_vbmi()) return lut_avx512vbmi(table, src, dst, n);
  if (isa >= Isa::kAvx2) return lut_avx2(table, src, dst, n);
#endif
  lut_reference(table, src, dst, n);
}

std::string lut_kernel_name(Isa isa) { return best_kernel_name("lut", "u8u8", isa >= Isa::kAvx512Vnni && !has_vbmi() ? Isa::kAvx2 : isa); }

}  // namespace nibble::kernels
