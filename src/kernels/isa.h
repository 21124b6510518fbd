// Which instruction set the kernels use.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace nibble::kernels {

// From the plain loops that are law to the widest; each later one is preferred where the processor has it.
//   kAvx512Vnni asks for F, BW, DQ, VL and VNNI; kernels that use VBMI as well fall back by themselves where it is missing.
//   kAmx adds tile registers (AMX-TILE, AMX-INT8), for which the operating system is asked once. They serve matrix products alone: all
//   other kernels are those of vector_isa().
//   kPortable is C++ alone, in the form that compilers turn into vectors; families without such a kernel run their plain loops.
enum class Isa { kReference, kPortable, kAvx2, kAvxVnni, kAvx512Vnni, kAmx };
inline constexpr std::size_t kIsaCount = 6;

std::string_view to_string(Isa isa);  // "reference", "portable", "avx2", "avxvnni", "avx512vnni", "amx"
// The one whose vector instructions `isa` uses: itself, or what kAmx builds on.
constexpr Isa vector_isa(Isa isa) { return isa == Isa::kAmx ? Isa::kAvx512Vnni : isa; }
// Built for this target, and the processor and the operating system have it.
bool isa_available(Isa isa);
std::vector<Isa> available_isas();  // from the reference up
// The best available one, or the one that the environment variable NIBBLE_FORCE_ISA names. Throws Error{kInvalidArgument} that lists the
// choices if that name is unknown or not available here.
Isa best_isa();
bool has_vbmi();

// One kernel: what `nibble list kernels` shows. name is <family>_<src><wei><acc>_<mr>x<nr>c<kr>_<isa> for matrix kernels,
// <family>_<types>_<isa> for others.
struct KernelRow {
  std::string name;
  std::string family;
  Isa isa = Isa::kReference;
  bool usable = false;
};
std::vector<KernelRow> list_kernels();

}  // namespace nibble::kernels
