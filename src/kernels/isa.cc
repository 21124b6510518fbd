#include "kernels/isa.h"

#include <array>
#include <cstdlib>

#include "base/fail.h"
#include "kernels/kernel_name.h"

#if defined(NIBBLE_KERNELS_X86)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace nibble::kernels {
namespace {

constexpr std::array kAll = {Isa::kReference, Isa::kPortable, Isa::kAvx2, Isa::kAvxVnni, Isa::kAvx512Vnni, Isa::kAmx};

struct Features {
  bool avx2 = false;
  bool avxvnni = false;
  bool avx512vnni = false;
  bool vbmi = false;
  bool amx = false;
};

#if defined(NIBBLE_KERNELS_X86)
// The processor has tiles of bytes, the operating system saves them, and lets this process use them: Linux wants to be asked, once for all
// threads, since tiles make the state that it keeps for a thread 8 KB larger.
bool detect_amx() {
#if defined(__linux__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  constexpr unsigned kTileAndInt8 = 3U << 24;
  if ((edx & kTileAndInt8) != kTileAndInt8) return false;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & bit_OSXSAVE) == 0) return false;
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr unsigned kTileState = 3U << 17;
  if ((low & kTileState) != kTileState) return false;
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM of asm/prctl.h, Linux 5.16
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

Features detect() {
  Features f;
#if defined(NIBBLE_KERNELS_X86)
  // __builtin_cpu_supports asks the operating system for the registers' state too; AVX-VNNI uses those of AVX2.
  __builtin_cpu_init();
  f.avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (f.avx2 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0) f.avxvnni = (eax & (1U << 4)) != 0;
  f.avx512vnni = f.avx2 && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
                 __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
                 __builtin_cpu_supports("avx512vnni") != 0;
  f.vbmi = f.avx512vnni && __builtin_cpu_supports("avx512vbmi") != 0;
  f.amx = f.avx512vnni && detect_amx();
#endif
  return f;
}

const Features& features() {
  static const Features f = detect();
  return f;
}

// The lists of the families, one constexpr array.
struct ListRow {
  std::string_view family;
  std::string_view types;
  int mr, nr, kr;
  Isa isa;
};

constexpr Isa reference = Isa::kReference;
constexpr Isa portable = Isa::kPortable;
constexpr Isa avx2 = Isa::kAvx2;
constexpr Isa avxvnni = Isa::kAvxVnni;
constexpr Isa avx512vnni = Isa::kAvx512Vnni;
constexpr Isa amx = Isa::kAmx;
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) ListRow{#family, #types, mr, nr, kr, isa},
#define NIBBLE_REFERENCE NIBBLE_KERNEL
#define NIBBLE_PORTABLE NIBBLE_KERNEL
#define NIBBLE_BLOCKS NIBBLE_KERNEL
constexpr ListRow kList[] = {
#include "kernels/dynamic/kernels.inc"
#include "kernels/lut/kernels.inc"
#include "kernels/qadd/kernels.inc"
#include "kernels/qconv_depthwise/bands.inc"
#include "kernels/qconv_depthwise/kernels.inc"
#include "kernels/qgemm/kernels.inc"
#include "kernels/qpool/kernels.inc"
#include "kernels/quantize_linear/kernels.inc"
};
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE
#undef NIBBLE_PORTABLE
#undef NIBBLE_BLOCKS

}  // namespace

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::kReference: return "reference";
    case Isa::kPortable: return "portable";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvxVnni: return "avxvnni";
    case Isa::kAvx512Vnni: return "avx512vnni";
    case Isa::kAmx: return "amx";
  }
  return "";
}

bool isa_available(Isa isa) {
  switch (isa) {
    case Isa::kReference:
    case Isa::kPortable: return true;
    case Isa::kAvx2: return features().avx2;
    case Isa::kAvxVnni: return features().avxvnni;
    case Isa::kAvx512Vnni: return features().avx512vnni;
    case Isa::kAmx: return features().amx;
  }
  return false;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> result;
  for (const Isa isa : kAll)
    if (isa_available(isa)) result.push_back(isa);
  return result;
}

Isa best_isa() {
  const std::vector<Isa> available = available_isas();
  const char* forced = std::getenv("NIBBLE_FORCE_ISA");
  if (forced == nullptr || *forced == '\0') return available.back();
  std::string choices;
  for (const Isa isa : available) {
    if (to_string(isa) == forced) return isa;
    choices += (choices.empty() ? "" : ", ") + std::string(to_string(isa));
  }
  bool known = false;
  for (const Isa isa : kAll) known = known || to_string(isa) == forced;
  fail(ErrorCode::kInvalidArgument, "NIBBLE_FORCE_ISA: \"{}\" is {}; this processor can use: {}", forced,
       known ? "not available on this processor" : "unknown", choices);
}

bool has_vbmi() { return features().vbmi; }

std::string kernel_name(std::string_view family, std::string_view types, int mr, int nr, int kr, Isa isa) {
  if (mr == 0) return fmt::format("{}_{}_{}", family, types, to_string(isa));
  return fmt::format("{}_{}_{}x{}c{}_{}", family, types, mr, nr, kr, to_string(isa));
}

std::string best_kernel_name(std::string_view family, std::string_view types, Isa isa) {
  const ListRow* best = nullptr;
  for (const ListRow& row : kList)
    if (row.family == family && row.types == types && row.isa <= isa && (best == nullptr || row.isa > best->isa)) best = &row;
  return best == nullptr ? std::string() : kernel_name(family, types, best->mr, best->nr, best->kr, best->isa);
}

std::vector<KernelRow> list_kernels() {
  std::vector<KernelRow> rows;
  for (const ListRow& row : kList)
    rows.push_back(
        {kernel_name(row.family, row.types, row.mr, row.nr, row.kr, row.isa), std::string(row.family), row.isa, isa_available(row.isa)});
  return rows;
}

}  // namespace nibble::kernels
