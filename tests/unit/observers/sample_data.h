// Seeded data of the kinds that activations are made of.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace nibble::testing {

struct NamedData {
  std::string name;
  std::vector<float> values;
};

inline std::vector<float> draw(std::size_t n, const std::function<double()>& next) {
  std::vector<float> values(n);
  for (float& v : values) v = static_cast<float>(next());
  return values;
}

inline std::vector<NamedData> sample_data(std::uint64_t seed, std::size_t n = 20000) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, 1);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::exponential_distribution<double> exponential(1);
  return {
      {"normal", draw(n, [&] { return normal(random); })},
      {"shifted normal", draw(n, [&] { return 3 + normal(random); })},
      {"relu", draw(n, [&] { return std::max(0.0, normal(random)); })},
      {"relu6", draw(n, [&] { return std::min(6.0, std::max(0.0, 3 * normal(random))); })},
      {"negative half", draw(n, [&] { return -exponential(random); })},
      {"laplace", draw(n, [&] { return exponential(random) * (uniform(random) < 0 ? -1 : 1); })},
      {"uniform", draw(n, [&] { return uniform(random); })},
      {"silu", draw(n,
                    [&] {
                      const double x = 3 * normal(random);
                      return x / (1 + std::exp(-x));
                    })},
      {"far from zero", draw(n, [&] { return 1000 + uniform(random); })},
      {"outliers", draw(n, [&] { return normal(random) * (uniform(random) > 0.999 ? 300 : 1); })},
      {"mostly zero", draw(n, [&] { return uniform(random) > 0.99 ? exponential(random) : 0.0; })},
      {"every magnitude", draw(n, [&] { return std::exp2(100 * uniform(random)) * (uniform(random) < 0 ? -1 : 1); })},
      {"subnormal", draw(n, [&] { return 1e-40 * uniform(random); })},
      {"integers", draw(n, [&] { return std::round(40 * uniform(random)); })},
  };
}

}  // namespace nibble::testing
