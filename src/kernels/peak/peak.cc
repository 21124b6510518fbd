#include "kernels/peak/peak.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "kernels/peak/loops.h"

namespace nibble::kernels {
namespace {

std::uint64_t read_plain(const std::byte* memory, std::size_t bytes) {
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < bytes; i += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, memory + i, std::min(sizeof(word), bytes - i));
    all ^= word;
  }
  return all;
}

// Most of `amount(run)` a nanosecond.
template <typename Run>
double best_rate(int runs, Run run) {
  double best = 0;
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const double amount = run();
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
    best = std::max(best, amount / time.count());
  }
  return best;
}

}  // namespace

std::int64_t run_peak_loop(Isa isa, std::int64_t rounds) {
#if defined(NIBBLE_KERNELS_X86)
  switch (isa) {
    case Isa::kReference:
    case Isa::kPortable: break;
    case Isa::kAvx2: return peak_avx2(rounds);
    case Isa::kAvxVnni: return peak_avxvnni(rounds);
    case Isa::kAvx512Vnni: return peak_avx512vnni(rounds);
    case Isa::kAmx: return peak_amx(rounds);
  }
#else
  static_cast<void>(isa), static_cast<void>(rounds);
#endif
  return 0;
}

double measured_peak(Isa isa) {
  if (run_peak_loop(isa, 1) == 0) return 0;
  return best_rate(30, [isa] { return 2.0 * static_cast<double>(run_peak_loop(isa, 50000)); });
}

std::uint64_t read_all(Isa isa, std::span<const std::byte> memory) {
  std::uint64_t all = 0;
  std::size_t done = 0;
#if defined(NIBBLE_KERNELS_X86)
  const auto blocks = static_cast<std::int64_t>(memory.size()) / kReadBlock * kReadBlock;
  if (isa >= Isa::kAvx512Vnni)
    all = read_avx512(memory.data(), blocks);
  else if (isa >= Isa::kAvx2)
    all = read_avx2(memory.data(), blocks);
  if (isa >= Isa::kAvx2) done = static_cast<std::size_t>(blocks);
#else
  static_cast<void>(isa);
#endif
  return all ^ read_plain(memory.data() + done, memory.size() - done);
}

double measured_read_bandwidth(Isa isa, std::span<const std::byte> memory) {
  volatile std::uint64_t sink = 0;
  return best_rate(20, [&] {
    sink = sink ^ read_all(isa, memory);
    return static_cast<double>(memory.size());
  });
}

}  // namespace nibble::kernels
