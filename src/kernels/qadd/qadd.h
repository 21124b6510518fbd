// Element-wise addition, subtraction and multiplication of 8-bit integers. The law is numeric/requantize.h (Adder, multiply_elements).
//
// Tensors are stored as uint8; stored = original + offset (offset 128 for an int8 tensor, else 0; no other). The formulas see the original
// integers:
//   qadd: q = adder(a, b, grid);  qmul: q = multiply_elements(a, za, b, zb, requantizer, grid);  stored = q + dst_offset
#pragma once

#include <cstdint>
#include <string>

#include "kernels/isa.h"
#include "numeric/requantize.h"

namespace nibble::kernels {

// How the second operand is read.
enum class BroadcastB {
  kNone,     // as the first: b[r * ld_b + c]
  kScalar,   // b[0]
  kChannel,  // b[c]
};

struct BinaryCall {
  const std::uint8_t* a = nullptr;  // rows x columns, ld_a between rows
  std::int64_t ld_a = 0;
  const std::uint8_t* b = nullptr;
  std::int64_t ld_b = 0;
  BroadcastB broadcast = BroadcastB::kNone;
  std::uint8_t* dst = nullptr;  // may be a or b itself (same ld)
  std::int64_t ld_dst = 0;
  std::int64_t columns = 0;
  std::int32_t offset_a = 0, offset_b = 0, offset_dst = 0;
  OutputGrid grid;  // of the original integers of dst
};

// A scalar or channel operand on the left: swap the operands (and, for a subtraction, their roles in the Adder: see swap_operands).
void qadd(Isa isa, const Adder& adder, const BinaryCall& call, std::int64_t row_begin, std::int64_t row_end);
void qmul(Isa isa, const Requantizer& requantizer, std::int32_t za, std::int32_t zb, const BinaryCall& call, std::int64_t row_begin,
          std::int64_t row_end);

std::string add_kernel_name(Isa isa, RequantizeLaw law);
std::string mul_kernel_name(Isa isa, RequantizeLaw law);

}  // namespace nibble::kernels
