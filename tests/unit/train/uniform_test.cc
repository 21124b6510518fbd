// The one-pass kernels against the chain of tensor operations that they stand for.
#include "train/quantizers/uniform.h"

#include <ATen/Parallel.h>

#include "quantizer_checks.h"

namespace nibble::train {
namespace {

// Values inside, outside, at ties and at the ends of the range, in more than one chunk and no whole number of them.
torch::Tensor mixed_values(torch::Dtype dtype) {
  torch::Tensor x = normal_values({3, 7001}, 12, dtype) * 2;
  x[0].slice(0, 0, 8) = torch::tensor({0.25, -0.25, 0.75, -1.0, 1.75, 1.5, 100.0, -100.0}, torch::kFloat64).to(dtype);
  return x;
}

struct Gradients {
  torch::Tensor value, x, s;
};
template <typename F>
Gradients run(const F& f, const torch::Tensor& x, const torch::Tensor& s, const torch::Tensor& g) {
  torch::Tensor at = x.detach().clone().set_requires_grad(true), step = s.detach().clone().set_requires_grad(true);
  const torch::Tensor value = f(at, step);
  (value * g).sum().backward();
  return {value.detach(), at.grad(), step.grad()};
}

TEST(Uniform, OnePassIsTheChain) {
  for (const torch::Dtype dtype : {torch::kFloat32, torch::kFloat64}) {
    for (const Levels levels : {full_levels(3), unsigned_levels(2), unsigned_levels(8)}) {
      const torch::Tensor x = mixed_values(dtype), g = normal_values({3, 7001}, 13, dtype);
      const torch::Tensor s = torch::full({1}, 0.5, dtype);
      const Gradients one = run([&](const auto& a, const auto& b) { return on_grid(a, b, levels, {}, training_step()); }, x, s, g);
      const Gradients chain =
          run([&](const auto& a, const auto& b) { return round_ste((a / b).clamp(levels.lowest, levels.highest)) * b; }, x, s, g);
      EXPECT_TRUE(torch::equal(one.value, chain.value));
      EXPECT_TRUE(torch::equal(one.x, chain.x));
      // Sums of 21003 products in another order.
      EXPECT_NEAR(one.s.item<double>(), chain.s.item<double>(), (dtype == torch::kFloat32 ? 1e-3 : 1e-11) * levels.highest);
    }
  }
}

TEST(Uniform, ClippedGridIsTheChain) {
  for (const torch::Dtype dtype : {torch::kFloat32, torch::kFloat64}) {
    const torch::Tensor x = mixed_values(dtype), g = normal_values({3, 7001}, 13, dtype);
    const torch::Tensor clip = torch::full({1}, 1.5, dtype);
    const Gradients one = run([&](const auto& a, const auto& b) { return on_clipped_grid(a, b, 3, {}, training_step()); }, x, clip, g);
    const Gradients chain = run(
        [&](const auto& a, const auto& b) {
          const torch::Tensor step = b.detach() / 3;
          return torch::where(a >= b, b, round_ste(a.clamp_min(0) / step) * step);
        },
        x, clip, g);
    EXPECT_LE(relative_difference(one.value, chain.value), 1e-7);
    EXPECT_TRUE(torch::equal(one.x, chain.x));
    EXPECT_NEAR(one.s.item<double>(), chain.s.item<double>(), dtype == torch::kFloat32 ? 1e-2 : 1e-11);
  }
}

TEST(Uniform, ThreadsChangeNothing) {
  const torch::Tensor x = normal_values({64, 4096}, 1, torch::kFloat32), g = normal_values({64, 4096}, 2, torch::kFloat32);
  const torch::Tensor s = torch::full({1}, 0.2F);
  const auto f = [&](const auto& a, const auto& b) { return on_grid(a, b, unsigned_levels(4), {}, training_step()); };
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Gradients one = run(f, x, s, g);
  at::set_num_threads(3);
  const Gradients three = run(f, x, s, g);
  at::set_num_threads(before);
  EXPECT_TRUE(torch::equal(one.x, three.x));
  EXPECT_EQ(one.s.item<double>(), three.s.item<double>());
}

TEST(Uniform, NotANumberStaysOne) {
  const torch::Tensor x = torch::tensor({0.4, std::nan(""), 3.0});
  const torch::Tensor y = on_grid(x, torch::ones({1}, x.options()), full_levels(2), {}, training_step());
  EXPECT_EQ(y[0].item<double>(), 0);
  EXPECT_TRUE(std::isnan(y[1].item<double>()));
  EXPECT_EQ(y[2].item<double>(), 1);
}

}  // namespace
}  // namespace nibble::train
