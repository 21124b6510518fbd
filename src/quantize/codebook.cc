#include "quantize/codebook.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nibble {
namespace {

std::vector<std::int8_t> powers_of_two(int bit_width) {
  std::vector<std::int8_t> book = {0};
  int magnitude = kLargestPower;
  for (int i = 0; i < (1 << (bit_width - 1)) - 1 && magnitude >= 1; ++i, magnitude /= 2) {
    book.push_back(static_cast<std::int8_t>(magnitude));
    book.push_back(static_cast<std::int8_t>(-magnitude));
  }
  std::sort(book.begin(), book.end());
  return book;
}

// On the line the members of a cluster are neighbours: with prefix sums a step costs one search a centre.
std::vector<std::int8_t> k_means(int bit_width, std::span<const float> x, std::span<const float> importance) {
  constexpr int kMostSteps = 100;
  const std::size_t n = x.size();
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return x[a] < x[b]; });
  std::vector<double> sorted(n);
  std::vector<double> weight(n + 1, 0.0);
  std::vector<double> moment(n + 1, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    sorted[i] = static_cast<double>(x[order[i]]);
    const auto w = static_cast<double>(importance[order[i]]);
    weight[i + 1] = weight[i] + w;
    moment[i + 1] = moment[i] + w * sorted[i];
  }
  const std::size_t k = (std::size_t{1} << bit_width) - 1;  // and 0
  std::vector<double> centre;
  // Half between quantiles and an even spread: quantiles alone forget the tails.
  for (std::size_t c = 0; c < k; ++c) {
    const double at = (static_cast<double>(c) + 0.5) / static_cast<double>(k);
    const double quantile = sorted[std::min(n - 1, static_cast<std::size_t>(at * static_cast<double>(n)))];
    centre.push_back((quantile + sorted.front() + at * (sorted.back() - sorted.front())) / 2);
  }
  centre.push_back(0.0);
  for (int step = 0; step < kMostSteps; ++step) {
    std::sort(centre.begin(), centre.end());
    std::vector<double> next = centre;
    std::size_t begin = 0;
    for (std::size_t c = 0; c < centre.size(); ++c) {
      const auto end = c + 1 == centre.size()
                           ? n
                           : static_cast<std::size_t>(std::upper_bound(sorted.begin(), sorted.end(), (centre[c] + centre[c + 1]) / 2) - sorted.begin());
      const double w = weight[end] - weight[begin];
      if (end > begin && w > 0 && centre[c] != 0.0) next[c] = (moment[end] - moment[begin]) / w;
      begin = end;
    }
    double moved = 0;
    for (std::size_t c = 0; c < centre.size(); ++c) moved = std::max(moved, std::abs(next[c] - centre[c]));
    centre = std::move(next);
    if (moved < 1e-3) break;
  }
  std::vector<std::int8_t> book;
  for (const double c : centre) book.push_back(static_cast<std::int8_t>(std::clamp(std::nearbyint(c), -127.0, 127.0)));
  std::sort(book.begin(), book.end());
  book.erase(std::unique(book.begin(), book.end()), book.end());
  return book;
}

}  // namespace

std::vector<std::int8_t> make_codebook(Codebook kind, int bit_width, std::span<const float> x, std::span<const float> importance) {
  if (kind == Codebook::kPowersOfTwo || x.empty()) return powers_of_two(bit_width);
  return k_means(bit_width, x, importance);
}

std::int8_t nearest_entry(std::span<const std::int8_t> codebook, float x) {
  const auto above = std::lower_bound(codebook.begin(), codebook.end(), x, [](std::int8_t entry, float v) { return static_cast<float>(entry) < v; });
  if (above == codebook.begin()) return codebook.front();
  if (above == codebook.end()) return codebook.back();
  const std::int8_t below = *(above - 1);
  return x - static_cast<float>(below) <= static_cast<float>(*above) - x ? below : *above;
}

}  // namespace nibble
