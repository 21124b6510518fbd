#include "data/draw.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace nibble {
namespace {

__extension__ using UInt128 = unsigned __int128;

template <typename T>
void shuffle(std::vector<T>& items, SplitMix64& random) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[static_cast<std::size_t>(random.below(i))]);
}

struct ClassShare {
  std::vector<std::int64_t> members;
  std::int64_t take = 0;
  std::uint64_t remainder = 0;
};

}  // namespace

std::uint64_t SplitMix64::next() {
  std::uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

std::uint64_t SplitMix64::below(std::uint64_t n) { return static_cast<std::uint64_t>((UInt128{next()} * n) >> 64); }

float SplitMix64::normal() {
  std::int32_t sum = 0;
  for (int i = 0; i < 3; ++i) {
    const std::uint64_t bits = next();
    for (int shift = 0; shift < 64; shift += 16) sum += static_cast<std::int32_t>((bits >> shift) & 0xFFFFU);
  }
  // The sum of twelve has the mean 6 * 65535 and the variance 65536^2 - 1.
  return static_cast<float>(sum - 6 * 65535) * 0x1p-16F;
}

std::vector<std::int64_t> draw_samples(std::int64_t total, std::int64_t count, std::uint64_t seed,
                                       const std::vector<std::int64_t>& labels) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(total));
  std::iota(all.begin(), all.end(), 0);
  if (count <= 0 || count >= total) return all;

  std::map<std::int64_t, ClassShare> by_label;
  for (const std::int64_t i : all) by_label[labels.empty() ? 0 : labels[static_cast<std::size_t>(i)]].members.push_back(i);
  SplitMix64 random(seed);
  std::vector<ClassShare*> shares;
  std::int64_t taken = 0;
  for (auto& [label, share] : by_label) {
    shuffle(share.members, random);
    const UInt128 wanted = UInt128{static_cast<std::uint64_t>(count)} * share.members.size();
    share.take = static_cast<std::int64_t>(wanted / static_cast<std::uint64_t>(total));
    share.remainder = static_cast<std::uint64_t>(wanted % static_cast<std::uint64_t>(total));
    taken += share.take;
    shares.push_back(&share);
  }
  shuffle(shares, random);
  std::stable_sort(shares.begin(), shares.end(), [](const ClassShare* a, const ClassShare* b) { return a->remainder > b->remainder; });
  // The remainders sum to (count - taken) * total, so at least that many classes have one: each gets at most one more, and has it.
  for (std::size_t i = 0; taken < count; ++i, ++taken) ++shares[i]->take;

  std::vector<std::int64_t> drawn;
  for (const ClassShare* share : shares) drawn.insert(drawn.end(), share->members.begin(), share->members.begin() + share->take);
  std::sort(drawn.begin(), drawn.end());
  return drawn;
}

}  // namespace nibble
