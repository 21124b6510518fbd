// What holds for every row of the table, at every width, per tensor and per channel, in float32 and float64.
#include "quantizer_checks.h"

namespace nibble::train {
namespace {

// Codes times scale in float64 against the forward pass: its own rounding errors alone.
double tolerance(torch::Dtype dtype) { return dtype == torch::kFloat64 ? 1e-12 : 1e-6; }

// A weight after some steps of training: learned tensors, statistics and masks have moved.
void train_a_little(WeightQuantizer& quantizer, torch::Tensor& weight) {
  StepInfo step = training_step();
  step.epochs = 2;
  step.steps_per_epoch = 3;
  for (step.epoch = 0; step.epoch < step.epochs; ++step.epoch) {
    quantizer.begin_epoch(weight, step);
    for (std::int64_t i = 0; i < step.steps_per_epoch; ++i, ++step.step) {
      torch::Tensor leaf = weight.detach().clone().set_requires_grad(true);
      const torch::Tensor target = normal_values({weight.numel()}, 77).view(weight.sizes()).to(weight.scalar_type());
      (quantizer.forward(leaf, step) - target).square().mean().backward();
      ASSERT_TRUE(!leaf.grad().defined() || leaf.grad().isfinite().all().item<bool>());
      quantizer.after_backward(weight, step);
      torch::NoGradGuard guard;
      if (leaf.grad().defined()) weight -= 0.01 * leaf.grad();
      for (LearnedTensor& learned : quantizer.learned()) {
        ASSERT_TRUE(learned.value.grad().defined()) << learned.name;
        ASSERT_TRUE(learned.value.grad().isfinite().all().item<bool>()) << learned.name;
        learned.value -= 0.01 * learned.value.grad();
        learned.value.mutable_grad() = torch::Tensor();
      }
      quantizer.after_update(weight, step);
    }
  }
}

void train_a_little(ActivationQuantizer& quantizer, bool is_signed, torch::Dtype dtype) {
  for (std::int64_t i = 0; i < 4; ++i) {
    StepInfo step = training_step();
    step.step = i;
    torch::Tensor x = normal_values({6, 5}, 100 + static_cast<std::uint64_t>(i), dtype);
    if (!is_signed) x = x.relu();
    x.set_requires_grad(true);
    if (i == 0) quantizer.initialize(x.detach(), step);
    quantizer.forward(x, step).square().sum().backward();
    ASSERT_TRUE(!x.grad().defined() || x.grad().isfinite().all().item<bool>());
    quantizer.after_backward(step);
    torch::NoGradGuard guard;
    for (LearnedTensor& learned : quantizer.learned()) {
      ASSERT_TRUE(learned.value.grad().isfinite().all().item<bool>()) << learned.name;
      learned.value -= 0.01 * learned.value.grad();
      learned.value.mutable_grad() = torch::Tensor();
    }
    quantizer.after_update(step);
  }
}

TEST(EveryQuantizer, WeightsOfAnEvaluationAreTheirBases) {
  for (const QuantizerRow* row : quantizer_table()) {
    if (row->make_weight == nullptr) continue;
    for (int bits = row->weight_bits_min; bits <= row->weight_bits_max; ++bits) {
      for (const torch::Dtype dtype : {torch::kFloat64, torch::kFloat32}) {
        for (const bool per_channel : {false, true}) {
          SCOPED_TRACE(std::string(row->name) + " " + std::to_string(bits) + (per_channel ? " per channel" : " per tensor"));
          const WeightSite site{.name = "w", .site = 3, .bits = bits, .per_channel = per_channel, .fan_in = 18, .fan_out = 36};
          const auto quantizer = row->make_weight(site, {});
          torch::Tensor weight = normal_values({4, 2, 3, 3}, 5, dtype) * 0.1;
          quantizer->initialize(weight);
          const torch::Tensor at_start = quantizer->forward(weight, evaluation_step());
          EXPECT_LE(relative_difference(at_start, sum_of(quantizer->bases(weight), weight)), tolerance(dtype));
          train_a_little(*quantizer, weight);
          const torch::Tensor values = quantizer->forward(weight, evaluation_step());
          EXPECT_EQ(values.scalar_type(), dtype);
          EXPECT_LE(relative_difference(values, sum_of(quantizer->bases(weight), weight)), tolerance(dtype));
          // A fresh one that is given all that this one names computes the same bits.
          const auto fresh = row->make_weight(site, {});
          fresh->initialize(weight);
          restore(*fresh, *quantizer);
          EXPECT_TRUE(torch::equal(fresh->forward(weight, evaluation_step()), values));
          EXPECT_TRUE(torch::equal(fresh->forward(weight, training_step()), quantizer->forward(weight, training_step())));
          // Before --start-epoch nothing is rounded.
          StepInfo early = training_step();
          early.quantize = false;
          EXPECT_TRUE(torch::equal(quantizer->forward(weight, early), weight));
        }
      }
    }
  }
}

// Gemm and MatMul weights come as views with output channels in front.
TEST(EveryQuantizer, TurnedWeightsAreLikeAnyOthers) {
  for (const QuantizerRow* row : quantizer_table()) {
    if (row->make_weight == nullptr) continue;
    SCOPED_TRACE(std::string(row->name));
    const WeightSite site{.name = "w", .bits = row->weight_bits_max, .per_channel = true};
    torch::Tensor straight = normal_values({6, 4}, 5), turned = straight.t().contiguous().t();
    const auto one = row->make_weight(site, {}), other = row->make_weight(site, {});
    one->initialize(straight);
    other->initialize(turned);
    train_a_little(*one, straight);
    train_a_little(*other, turned);
    EXPECT_LE(relative_difference(other->forward(turned, evaluation_step()), one->forward(straight, evaluation_step())), 1e-9);
    EXPECT_LE(relative_difference(sum_of(other->bases(turned), turned), sum_of(one->bases(straight), straight)), 1e-9);
  }
}

TEST(EveryQuantizer, WeightsThatAreAllZeroAreSafe) {
  for (const QuantizerRow* row : quantizer_table()) {
    if (row->make_weight == nullptr) continue;
    for (const bool per_channel : {false, true}) {
      SCOPED_TRACE(std::string(row->name));
      const auto quantizer = row->make_weight({.name = "w", .bits = row->weight_bits_min, .per_channel = per_channel}, {});
      torch::Tensor weight = torch::zeros({3, 4}, torch::kFloat64);
      quantizer->initialize(weight);
      sum_of(quantizer->bases(weight), weight);
      train_a_little(*quantizer, weight);
      EXPECT_TRUE(quantizer->forward(weight, evaluation_step()).isfinite().all().item<bool>());
    }
  }
}

TEST(EveryQuantizer, ActivationsOfAnEvaluationLieOnTheGrid) {
  for (const QuantizerRow* row : quantizer_table()) {
    if (row->make_activation == nullptr) continue;
    for (int bits = row->activation_bits_min; bits <= row->activation_bits_max; ++bits) {
      for (const torch::Dtype dtype : {torch::kFloat64, torch::kFloat32}) {
        for (const bool is_signed : {false, true}) {
          if (is_signed && bits == 1 && row->activation_bits_max > 1) continue;
          SCOPED_TRACE(std::string(row->name) + " " + std::to_string(bits) + (is_signed ? " signed" : " unsigned"));
          const ActivationSite site{.name = "x", .site = 4, .bits = bits, .is_signed = is_signed, .after_relu = !is_signed};
          const auto quantizer = row->make_activation(site, {});
          const auto before = quantizer->learned();
          train_a_little(*quantizer, is_signed, dtype);
          const auto after = quantizer->learned();
          for (std::size_t i = 0; i < after.size(); ++i) EXPECT_TRUE(before[i].value.is_same(after[i].value)) << after[i].name;
          torch::Tensor x = normal_values({7, 30}, 9, dtype);
          if (!is_signed) x = x.relu();
          const torch::Tensor values = quantizer->forward(x, evaluation_step());
          EXPECT_EQ(values.scalar_type(), dtype);
          // The grid's scale is a float32; a value at a tie may then fall to the other side, by one step.
          EXPECT_LE(relative_difference(values, value_on(quantizer->grid(), x)), 1e-6);
          const auto fresh = row->make_activation(site, {});
          restore(*fresh, *quantizer);
          EXPECT_TRUE(torch::equal(fresh->forward(x, evaluation_step()), values));
          EXPECT_TRUE(torch::equal(fresh->forward(x, training_step()), quantizer->forward(x, training_step())));
        }
      }
    }
  }
}

TEST(EveryQuantizer, ABatchWithoutSamplesChangesNothing) {
  for (const QuantizerRow* row : quantizer_table()) {
    if (row->make_activation == nullptr) continue;
    for (const bool is_signed : {false, true}) {
      SCOPED_TRACE(std::string(row->name));
      const int bits = std::max(2, row->activation_bits_min);
      const auto quantizer = row->make_activation({.name = "x", .bits = bits, .is_signed = is_signed}, {});
      train_a_little(*quantizer, is_signed, torch::kFloat64);
      const torch::Tensor x = normal_values({3, 8}, 9).relu();
      const torch::Tensor before = quantizer->forward(x, evaluation_step());
      torch::Tensor none = torch::zeros({0, 8}, torch::kFloat64).set_requires_grad(true);
      StepInfo step = sampled_step(0);
      quantizer->forward(none, step).sum().backward();
      for (const LearnedTensor& learned : quantizer->learned()) {
        if (!learned.value.grad().defined()) continue;
        EXPECT_EQ(learned.value.grad().abs().sum().item<double>(), 0) << learned.name;
      }
      EXPECT_TRUE(torch::equal(quantizer->forward(x, evaluation_step()), before));
      // Nor does one that comes first break anything.
      const auto first = row->make_activation({.name = "x", .bits = bits, .is_signed = is_signed}, {});
      first->initialize(none.detach(), step);
      EXPECT_TRUE(first->forward(x, step).isfinite().all().item<bool>());
      EXPECT_TRUE(first->forward(x, evaluation_step()).isfinite().all().item<bool>());
    }
  }
}

TEST(EveryQuantizer, RowsAreWhole) {
  for (const QuantizerRow* row : quantizer_table()) {
    SCOPED_TRACE(std::string(row->name));
    EXPECT_EQ(&find_quantizer(row->name), row);
    EXPECT_FALSE(row->summary.empty() || row->source.empty());
    EXPECT_TRUE(row->make_weight != nullptr || row->make_activation != nullptr || row->make_gradient != nullptr);
    if (!row->pair.empty()) {
      const QuantizerRow& other = find_quantizer(row->pair);
      EXPECT_TRUE(row->make_weight != nullptr || other.make_weight != nullptr);
      EXPECT_TRUE(row->make_activation != nullptr || other.make_activation != nullptr);
    }
  }
}

}  // namespace
}  // namespace nibble::train
