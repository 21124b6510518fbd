// What one core of this machine can do at most, measured: the yardstick of benchmarks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/isa.h"

namespace nibble::kernels {

// Independent chains of the 8-bit dot-product instruction of an instruction set (AVX2: vpmaddwd and an addition), `rounds` times from
// registers. The multiply-adds that it did; 0 where there is no such loop (the reference).
std::int64_t run_peak_loop(Isa isa, std::int64_t rounds);
// The fastest of some runs of that loop, in GOPS (two operations a multiply-add); 0 for the reference. About 15 ms.
double measured_peak(Isa isa);

// Reads every byte once, with the widest loads of the instruction set (8 bytes for the reference). The result depends on all of them.
std::uint64_t read_all(Isa isa, std::span<const std::byte> memory);
// The fastest of some runs of that, in GB/s.
double measured_read_bandwidth(Isa isa, std::span<const std::byte> memory);

}  // namespace nibble::kernels
