// Broadcasting against a plain index computation, and the vectorising functions against the library's.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "base/thread_pool.h"
#include "ops/fast_math.h"
#include "ops/op.h"
#include "ops/ops_math.h"

namespace nibble {
namespace {

Tensor random_tensor(std::mt19937& rng, const Shape& shape) {
  Tensor tensor(DataType::kFloat32, shape);
  std::uniform_real_distribution<float> values(-2.0F, 2.0F);
  for (float& v : tensor.mutable_data<float>()) v = values(rng);
  return tensor;
}

// Element of `x` that belongs to index `at` of a shape it broadcasts to.
float broadcast_element(const Tensor& x, const Shape& shape, std::int64_t at) {
  std::int64_t offset = 0;
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    const std::int64_t index = at % shape[i];
    at /= shape[i];
    const std::size_t lead = shape.size() - x.shape().size();
    if (i < lead) continue;
    const std::int64_t size = x.shape()[i - lead];
    offset += (size == 1 ? 0 : index) * stride;
    stride *= size;
  }
  return x.data<float>()[static_cast<std::size_t>(offset)];
}

Tensor evaluate(const char* op, const std::vector<Tensor>& inputs, ThreadPool* pool) {
  Node node;
  node.name = "n";
  node.op_type = op;
  node.outputs = {0};
  std::vector<const Tensor*> pointers;
  for (const Tensor& input : inputs) {
    node.inputs.push_back(static_cast<ValueId>(node.inputs.size() + 1));
    pointers.push_back(&input);
  }
  return evaluate_node({.node = node, .opset = 18, .inputs = pointers, .pool = pool}).at(0);
}

TEST(Broadcast, EqualsPlainIndexing) {
  constexpr unsigned kSeed = 20;
  std::mt19937 rng(kSeed);
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  ThreadPool pool(2);
  for (int round = 0; round < 200; ++round) {
    const auto rank = static_cast<std::size_t>(rng() % 5);
    Shape shape(rank);
    for (auto& size : shape) size = static_cast<std::int64_t>(1 + rng() % (round % 10 == 0 ? 30 : 5));
    const auto part = [&] {
      Shape result(shape.end() - static_cast<std::ptrdiff_t>(rng() % (rank + 1)), shape.end());
      for (auto& size : result) {
        if (rng() % 3 == 0) size = 1;
      }
      return result;
    };
    const Tensor a = random_tensor(rng, rng() % 2 == 0 ? shape : part());
    const Tensor b = random_tensor(rng, rng() % 2 == 0 ? shape : part());
    const Tensor full = random_tensor(rng, shape);
    const Tensor sum = evaluate("Sub", {a, b}, nullptr);
    for (std::int64_t i = 0; i < sum.size(); ++i)
      ASSERT_EQ(sum.data<float>()[static_cast<std::size_t>(i)], broadcast_element(a, sum.shape(), i) - broadcast_element(b, sum.shape(), i))
          << to_string(a.shape()) << " - " << to_string(b.shape());
    EXPECT_TRUE(bit_equal(sum, evaluate("Sub", {a, b}, &pool)));
    const Tensor most = evaluate("Max", {a, b, full}, nullptr);
    ASSERT_EQ(most.shape(), shape);
    for (std::int64_t i = 0; i < most.size(); ++i) {
      const float want = std::max({broadcast_element(a, shape, i), broadcast_element(b, shape, i), broadcast_element(full, shape, i)});
      ASSERT_EQ(most.data<float>()[static_cast<std::size_t>(i)], want);
    }
  }
}

TEST(Broadcast, ChunksOfAnySizeAgree) {
  // Longer than one chunk of the parallel loop, with rows that straddle chunks.
  std::mt19937 rng(21);
  const Tensor a = random_tensor(rng, {7, 5003});
  const Tensor row = random_tensor(rng, {5003});
  const Tensor column = random_tensor(rng, {7, 1});
  for (const Tensor& b : {row, column}) {
    const Tensor product = evaluate("Mul", {a, b}, nullptr);
    for (std::int64_t i = 0; i < product.size(); ++i)
      ASSERT_EQ(product.data<float>()[static_cast<std::size_t>(i)],
                a.data<float>()[static_cast<std::size_t>(i)] * broadcast_element(b, a.shape(), i));
  }
}

TEST(Reduce, EveryLayoutAgreesWithDoubles) {
  std::mt19937 rng(22);
  const Tensor x = random_tensor(rng, {3, 4, 5, 7});
  const auto values = x.data<float>();
  for (unsigned mask = 1; mask < 16; ++mask) {
    std::vector<std::int64_t> axes;
    Shape shape;
    for (unsigned i = 0; i < 4; ++i) {
      if ((mask >> i & 1U) != 0) axes.push_back(i);
      shape.push_back((mask >> i & 1U) != 0 ? 1 : x.shape()[i]);
    }
    const Tensor got = evaluate("ReduceSum", {x, Tensor::from<std::int64_t>({static_cast<std::int64_t>(axes.size())}, axes)}, nullptr);
    ASSERT_EQ(got.shape(), shape);
    std::vector<double> want(static_cast<std::size_t>(got.size()), 0.0);
    for (std::int64_t i = 0; i < x.size(); ++i) {
      std::int64_t rest = i, at = 0, stride = 1;
      for (std::size_t d = 4; d-- > 0;) {
        at += (shape[d] == 1 ? 0 : rest % x.shape()[d]) * stride;
        rest /= x.shape()[d];
        stride *= shape[d];
      }
      want[static_cast<std::size_t>(at)] += static_cast<double>(values[static_cast<std::size_t>(i)]);
    }
    for (std::size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(static_cast<double>(got.data<float>()[i]), want[i], 1e-5) << "axes mask " << mask;
  }
}

TEST(FastMath, ExpWithinTwoUnits) {
  // One unit in the last place is 2^-23 of the value at most: two of them bound the polynomial's and the roundings' error.
  constexpr double kUnits = 2 * 0x1p-23;
  for (double x = -87.0; x < 88.7; x += 0.00371) {
    const auto input = static_cast<float>(x);
    const double want = std::exp(static_cast<double>(input));
    ASSERT_NEAR(static_cast<double>(fast_exp(input)) / want, 1.0, kUnits) << x;
  }
  EXPECT_EQ(fast_exp(0.0F), 1.0F);
  EXPECT_EQ(fast_exp(1e30F), std::numeric_limits<float>::infinity());
  EXPECT_EQ(fast_exp(std::numeric_limits<float>::infinity()), std::numeric_limits<float>::infinity());
  EXPECT_EQ(fast_exp(-1e30F), 0.0F);
  EXPECT_EQ(fast_exp(-std::numeric_limits<float>::infinity()), 0.0F);
  EXPECT_NEAR(static_cast<double>(fast_exp(-95.0F)) / std::exp(-95.0), 1.0, 1e-3);  // subnormal: few bits
  EXPECT_TRUE(std::isnan(fast_exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST(FastMath, TanhAndSigmoid) {
  constexpr double kUnits = 8 * 0x1p-23;
  for (double x = -20; x < 20; x += 0.00113) {
    const auto input = static_cast<float>(x);
    const double wide = static_cast<double>(input);
    ASSERT_NEAR(static_cast<double>(fast_tanh(input)), std::tanh(wide), kUnits * std::max(std::fabs(std::tanh(wide)), 1e-30)) << x;
    const double sigmoid = 1.0 / (1.0 + std::exp(-wide));
    ASSERT_NEAR(static_cast<double>(fast_sigmoid(input)) / sigmoid, 1.0, kUnits) << x;
  }
  EXPECT_EQ(fast_tanh(100.0F), 1.0F);
  EXPECT_EQ(fast_tanh(-100.0F), -1.0F);
  EXPECT_EQ(fast_tanh(0.0F), 0.0F);
  EXPECT_EQ(fast_sigmoid(-200.0F), 0.0F);
  EXPECT_EQ(fast_sigmoid(200.0F), 1.0F);
}

TEST(FastMath, Erf) {
  // Measured worst: 1.75e-7 relative, of which the fits make 1e-7 and the roundings of the polynomials the rest.
  constexpr double kNear = 2e-7;
  for (double x = -6; x < 6; x += 0.000713) {
    const auto input = static_cast<float>(x);
    const double want = std::erf(static_cast<double>(input));
    ASSERT_NEAR(static_cast<double>(fast_erf(input)), want, kNear * std::fabs(want) + 1e-30) << x;
  }
  EXPECT_EQ(fast_erf(0.0F), 0.0F);
  EXPECT_EQ(fast_erf(100.0F), 1.0F);
  EXPECT_EQ(fast_erf(-std::numeric_limits<float>::infinity()), -1.0F);
  EXPECT_TRUE(std::isnan(fast_erf(std::numeric_limits<float>::quiet_NaN())));
}

TEST(MathOps, TableIsConsistent) {
  for (const OpDef* op : math_ops()) {
    EXPECT_NE(op->infer, nullptr) << op->name;
    if (op->rule == QuantRule::kFloat) {
      EXPECT_FALSE(op->note.empty()) << op->name << " runs in float without a reason";
    }
    EXPECT_EQ(find_op(op->domain, op->name), op) << op->name << " stands in the table twice";
  }
}

}  // namespace
}  // namespace nibble
