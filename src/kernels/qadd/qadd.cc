// The plain loops that are law, and the choice of the kernel.
#include "kernels/qadd/qadd.h"

#include <string_view>

#include "kernels/kernel_name.h"
#include "kernels/qadd/kernels.h"
#include "kernels/requantize/requantize.h"

namespace nibble::kernels {

#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) void fn(const BinaryRow&);
#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#include "kernels/qadd/kernels.inc"
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE
#endif

namespace {

template <typename Law>
void reference(const BinaryCall& call, std::int64_t row_begin, std::int64_t row_end, Law law) {
  for (std::int64_t r = row_begin; r < row_end; ++r)
    for (std::int64_t c = 0; c < call.columns; ++c) {
      std::int64_t at = 0;
      if (call.broadcast == BroadcastB::kNone) at = r * call.ld_b + c;
      if (call.broadcast == BroadcastB::kChannel) at = c;
      const std::int64_t a = std::int64_t{call.a[r * call.ld_a + c]} - call.offset_a;
      const std::int64_t b = std::int64_t{call.b[at]} - call.offset_b;
      call.dst[r * call.ld_dst + c] = static_cast<std::uint8_t>(law(a, b) + call.offset_dst);
    }
}

// The kernels' name for the arithmetic of a law.
std::string_view types_of(RequantizeLaw law) { return law == RequantizeLaw::kFloat32 ? "u8u8f32" : "u8u8s32"; }

using RowFn = void (*)(const BinaryRow&);

struct Row {
  std::string_view family;
  std::string_view types;
  Isa isa;
  RowFn fn;
};

[[maybe_unused]] constexpr Isa avx2 = Isa::kAvx2;
[[maybe_unused]] constexpr Isa avx512vnni = Isa::kAvx512Vnni;

constexpr Row kRows[] = {
#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) Row{#family, #types, isa, fn},
#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#include "kernels/qadd/kernels.inc"
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE
#endif
    Row{"", "", Isa::kReference, nullptr}};

// The widest that `isa` may use; null: the plain loops.
RowFn find(std::string_view family, std::string_view types, Isa isa) {
  const Row* best = nullptr;
  for (const Row& row : kRows)
    if (row.family == family && row.types == types && row.isa <= isa && (best == nullptr || row.isa > best->isa)) best = &row;
  return best == nullptr ? nullptr : best->fn;
}

void rows(RowFn kernel, BinaryRow row, const BinaryCall& call, std::int64_t row_begin, std::int64_t row_end) {
  row.b_step = call.broadcast == BroadcastB::kScalar ? 0 : 1;
  row.n = call.columns;
  row.offset_a = call.offset_a;
  row.offset_b = call.offset_b;
  row.offset_dst = call.offset_dst;
  row.zero_point = call.grid.zero_point;
  row.qmin = static_cast<std::int32_t>(call.grid.qmin);
  row.qmax = static_cast<std::int32_t>(call.grid.qmax);
  const bool dense = call.ld_a == call.columns && call.ld_dst == call.columns &&
                     (call.broadcast == BroadcastB::kScalar || call.ld_b == call.columns) && call.broadcast != BroadcastB::kChannel;
  if (dense) {  // one long row
    row.a = call.a + row_begin * call.ld_a;
    row.b = call.broadcast == BroadcastB::kNone ? call.b + row_begin * call.ld_b : call.b;
    row.dst = call.dst + row_begin * call.ld_dst;
    row.n = (row_end - row_begin) * call.columns;
    if (row.n > 0) kernel(row);
    return;
  }
  for (std::int64_t r = row_begin; r < row_end; ++r) {
    row.a = call.a + r * call.ld_a;
    row.b = call.broadcast == BroadcastB::kNone ? call.b + r * call.ld_b : call.b;
    row.dst = call.dst + r * call.ld_dst;
    kernel(row);
  }
}

}  // namespace

void qadd(Isa isa, const Adder& adder, const BinaryCall& call, std::int64_t row_begin, std::int64_t row_end) {
  // Each product is at most 2^8 2^21, so the sum and its rounding fit the kernels' 32-bit lanes for shifts up to 30.
  const bool float32 = adder.law == RequantizeLaw::kFloat32;
  const RowFn kernel = float32 || adder.shift <= 30 ? find("qadd", types_of(adder.law), isa) : nullptr;
  if (kernel == nullptr) {
    reference(call, row_begin, row_end, [&](std::int64_t a, std::int64_t b) { return adder(a, b, call.grid); });
    return;
  }
  BinaryRow row;
  row.ra = adder.ra;
  row.rb = adder.rb;
  row.f = adder.offset;
  row.za = adder.za;
  row.zb = adder.zb;
  row.ma = adder.ma;
  row.mb = adder.mb;
  row.shift = adder.shift;
  rows(kernel, row, call, row_begin, row_end);
}

void qmul(Isa isa, const Requantizer& requantizer, std::int32_t za, std::int32_t zb, const BinaryCall& call, std::int64_t row_begin,
          std::int64_t row_end) {
  const RowFn kernel = find("qmul", types_of(requantizer.law), isa);
  if (kernel == nullptr) {
    reference(call, row_begin, row_end,
              [&](std::int64_t a, std::int64_t b) { return multiply_elements(a, za, b, zb, requantizer, call.grid); });
    return;
  }
  BinaryRow row;
  row.ra = requantizer.multiplier;
  row.f = static_cast<float>(call.grid.zero_point);
  row.za = za;
  row.zb = zb;
  if (requantizer.law != RequantizeLaw::kFloat32) {
    const IntegerMultiplier m = integer_multiplier(requantizer);
    row.ma = m.m0;
    row.shift = m.shift;
  }
  rows(kernel, row, call, row_begin, row_end);
}

std::string add_kernel_name(Isa isa, RequantizeLaw law) { return best_kernel_name("qadd", types_of(law), isa); }
std::string mul_kernel_name(Isa isa, RequantizeLaw law) { return best_kernel_name("qmul", types_of(law), isa); }

}  // namespace nibble::kernels
