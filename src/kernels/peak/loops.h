// The loops of each instruction set.
#pragma once

#include <cstdint>

namespace nibble::kernels {

// Multiply-adds done by `rounds` rounds.
std::int64_t peak_avx2(std::int64_t rounds);
std::int64_t peak_avxvnni(std::int64_t rounds);
std::int64_t peak_avx512vnni(std::int64_t rounds);
std::int64_t peak_amx(std::int64_t rounds);

// Blocks of kReadBlock bytes. Four streams with prefetches: one alone leaves a cold cache a third below what it can give.
inline constexpr std::int64_t kReadBlock = 1024;
inline constexpr std::int64_t kReadAhead = 1024;
std::uint64_t read_avx2(const void* memory, std::int64_t bytes);
std::uint64_t read_avx512(const void* memory, std::int64_t bytes);

}  // namespace nibble::kernels
