// Matrix product of 8-bit integers.
//
//   acc[m, n] = sum_k (src[m, k] - zx) (wei[k, n] - zw[n]) + bias[n]       in int32, modulo 2^32 (the caller has proven that it holds)
//   dst[m, n] = requantize(acc[m, n], channel n)                            uint8, or acc itself as int32
//   dst[m, n] = add(requantize(acc[m, n], channel n), residual[m, n])       uint8, a fused addition
//
// src: uint8, M x K, rows `ld_src` elements apart. wei: int8, any strides, packed once by pack_gemm() into panels of 16 columns:
// [N/16][K/4][16][4] int8 for the VNNI kernels, [N/16][K/2][16][2] int16 for AVX2, [N/16][K][16] int16 for the portable kernel (vpmaddubsw
// would saturate, so AVX2 widens: exact), [K][N] for the reference. K and N are padded with zeros, for AMX K to a multiple of 64. The zero
// point of src is folded into the packed bias; a zero point of wei costs the sum of each row of src, which the kernel makes itself.
//
// No alignment is asked for. dst must not overlap src. Nothing outside src[m, 0..K) of the given rows, the packed memory and dst is read or
// written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/isa.h"
#include "kernels/requantize/requantize.h"

namespace nibble::kernels {

enum class DstType { kUint8, kInt32 };

// What pack_gemm reads. Element [k, n] is wei[k * stride_k + n * stride_n] ^ flip.
struct GemmWeights {
  std::int64_t n = 0;
  std::int64_t k = 0;
  const std::int8_t* wei = nullptr;
  std::int64_t stride_k = 0;
  std::int64_t stride_n = 1;
  std::uint8_t flip = 0;                        // 0x80 reads uint8 weights as int8 (their zero points then are 128 less)
  std::span<const std::int32_t> zero_points{};  // of int8 wei: none (all 0), 1 or n
  std::span<const std::int32_t> bias{};         // none (all 0) or n
  std::int32_t src_zero_point = 0;              // zx of uint8 src
  std::int64_t counted_k = -1;                  // rows of wei that count in K zx zw, if some are padding (all 0): qconv's runs. -1: all k
};

// Packed weights. Copies share the memory; immutable after packing, so any number of threads may use it.
struct PackedGemm {
  Isa isa = Isa::kReference;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t panel_bytes = 0;
  const std::byte* wei = nullptr;
  const std::int32_t* bias = nullptr;         // folded: bias[n] - zx sum_k (wei - zw); with slack
  const std::int32_t* raw_bias = nullptr;     // as given
  const std::int32_t* column_sums = nullptr;  // sum_k (wei[k, n] - zw[n])
  const std::int32_t* zero_points = nullptr;  // null: all 0
  std::int64_t bytes = 0;
  std::shared_ptr<const std::byte> memory;  // null when packed into the caller's
};

// Memory that pack_gemm needs for these sizes.
std::int64_t packed_gemm_bytes(std::int64_t n, std::int64_t k, Isa isa);
PackedGemm pack_gemm(const GemmWeights& weights, Isa isa);
// The same into `memory` (64-byte aligned, packed_gemm_bytes() long) that outlives the result: for products of two activations, where the
// packing is part of each run. Costs about one pass over wei: 1/M of the product's time at the kernels' speed.
PackedGemm pack_gemm_into(const GemmWeights& weights, Isa isa, std::span<std::byte> memory);
// bias for another zero point of src (dynamic quantization): out[n] for n + kChannelSlack elements.
void fold_bias(const PackedGemm& packed, std::int32_t src_zero_point, std::int32_t* out);

struct GemmCall {
  const std::uint8_t* src = nullptr;
  std::int64_t ld_src = 0;  // elements between rows, >= k
  void* dst = nullptr;      // uint8 or int32
  std::int64_t ld_dst = 0;  // elements between rows, >= n
  std::int64_t rows = 0;    // M: the whole matrix
  DstType dst_type = DstType::kUint8;
  Requantize requantize;               // with one entry a column and slack; unused for kInt32
  const std::int32_t* bias = nullptr;  // instead of packed.bias (from fold_bias)
  ResidualAdd residual{};              // kUint8 only; its row m belongs to row m of dst
};

// Rows [row_begin, row_end) of dst. Rows are independent: any split gives the same bits.
void qgemm(const PackedGemm& weights, const GemmCall& call, std::int64_t row_begin, std::int64_t row_end);
// The same for columns [16 panel_begin, min(16 panel_end, n)): to split a product of few rows over threads.
std::int64_t gemm_panels(const PackedGemm& weights);
void qgemm_panels(const PackedGemm& weights, const GemmCall& call, std::int64_t row_begin, std::int64_t row_end, std::int64_t panel_begin,
                  std::int64_t panel_end);

// Name of the kernel that does most of the work at these sizes, with its largest tile: "qgemm_u8s8s32_6x64c4_avx512vnni".
std::string gemm_kernel_name(Isa isa, std::int64_t rows, std::int64_t n, std::int64_t k);

}  // namespace nibble::kernels
