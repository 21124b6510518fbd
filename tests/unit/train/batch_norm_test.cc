#include "train/batch_norm.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "module_support.h"

namespace nibble::train {
namespace {

// Two ranks as two threads: each collective waits for the other.
class Meeting {
 public:
  torch::Tensor sum(const torch::Tensor& mine, int rank) {
    std::unique_lock lock(mutex_);
    parts_[rank] = mine.clone();
    const int round = round_;
    if (++arrived_ == 2) {
      total_ = parts_[0] + parts_[1];
      arrived_ = 0;
      ++round_;
      met_.notify_all();
    } else {
      met_.wait(lock, [&] { return round_ != round; });
    }
    return total_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable met_;
  int arrived_ = 0, round_ = 0;
  torch::Tensor parts_[2], total_;
};

class OneOfTwo : public Reducer {
 public:
  OneOfTwo(Meeting& meeting, int rank) : meeting_(meeting), rank_(rank) {}
  int rank() const override { return rank_; }
  int world_size() const override { return 2; }
  void sum(torch::Tensor& tensor) override { tensor.copy_(meeting_.sum(tensor, rank_)); }
  void min(torch::Tensor&) override {}
  void max(torch::Tensor&) override {}
  void broadcast(torch::Tensor&, int) override {}
  void barrier() override {}

 private:
  Meeting& meeting_;
  int rank_;
};

BatchNorm make_norm(std::int64_t channels) {
  const auto wide = torch::TensorOptions().dtype(torch::kFloat64);
  return {.gamma = torch::linspace(-1, 2, channels, wide).set_requires_grad(true),
          .beta = torch::linspace(0, 1, channels, wide).set_requires_grad(true),
          .mean = torch::zeros({channels}, wide),
          .var = torch::ones({channels}, wide)};
}

// A loss that weighs every output otherwise.
torch::Tensor loss_of(const torch::Tensor& y, const torch::Tensor& weights) { return (y.square() * weights).sum() + (y * weights).sum(); }

struct Outcome {
  torch::Tensor y, dx, d_gamma, d_beta, mean, var;
};
Outcome run(const torch::Tensor& x, const torch::Tensor& weights, Reducer& reducer) {
  BatchNorm norm = make_norm(x.size(1));
  const torch::Tensor leaf = x.clone().set_requires_grad(true);
  const torch::Tensor y = batch_norm(leaf, norm, true, true, reducer);
  loss_of(y, weights).backward();
  return {y.detach(), leaf.grad(), norm.gamma.grad(), norm.beta.grad(), norm.mean, norm.var};
}

// Uneven halves of one batch on two ranks: outputs, gradients and running statistics of the whole batch on one.
TEST(BatchNormalization, TwoRanksAreOne) {
  torch::manual_seed(5);
  const torch::Tensor x = torch::randn({5, 3, 4, 2}, torch::kFloat64) * 3 + 1, weights = torch::randn({5, 3, 4, 2}, torch::kFloat64);
  const Outcome whole = run(x, weights, single_process());
  Meeting meeting;
  OneOfTwo first(meeting, 0), second(meeting, 1);
  Outcome parts[2];
  std::thread other([&] { parts[1] = run(x.slice(0, 2, 5), weights.slice(0, 2, 5), second); });
  parts[0] = run(x.slice(0, 0, 2), weights.slice(0, 0, 2), first);
  other.join();
  const auto close = [](const torch::Tensor& a, const torch::Tensor& b) { return torch::allclose(a, b, 1e-11, 1e-11); };
  EXPECT_TRUE(close(torch::cat({parts[0].y, parts[1].y}), whole.y));
  EXPECT_TRUE(close(torch::cat({parts[0].dx, parts[1].dx}), whole.dx));
  EXPECT_TRUE(close(parts[0].d_gamma + parts[1].d_gamma, whole.d_gamma));
  EXPECT_TRUE(close(parts[0].d_beta + parts[1].d_beta, whole.d_beta));
  for (const Outcome& part : parts) {
    EXPECT_TRUE(close(part.mean, whole.mean));
    EXPECT_TRUE(close(part.var, whole.var));
  }
}

// Central differences in float64: rounding leaves about 1e-16 / h = 1e-9; h is small so that no ReLU6 has a corner in between.
TEST(BatchNormalization, GradientsOfAWholeNetworkAreItsFiniteDifferences) {
  const Graph graph = make_architecture("mobilenet-small", {2, 4, 4}, 3, 11);
  TrainModule module(graph, {}, torch::kFloat64);
  const torch::Tensor images = test::random_images(graph, 3, 8, 1, torch::kFloat64);
  const StepInfo step = test::step_of(3, true);
  const auto loss = [&] {
    const torch::Tensor logits = module.forward(images, step);
    return logits.log_softmax(1).diagonal().neg().sum();
  };
  loss().backward();
  int checked = 0;
  for (const Parameter& parameter : module.parameters()) {
    torch::NoGradGuard guard;
    const torch::Tensor flat = parameter.value.view({-1});
    const std::int64_t at = flat.numel() / 2;
    const double kept = flat[at].item<double>(), h = 1e-7;
    flat[at] = kept + h;
    const double up = loss().item<double>();
    flat[at] = kept - h;
    const double down = loss().item<double>();
    flat[at] = kept;
    const double expected = (up - down) / (2 * h), found = parameter.value.grad().view({-1})[at].item<double>();
    EXPECT_NEAR(found, expected, 1e-5 * std::max(1.0, std::abs(expected))) << parameter.name;
    ++checked;
  }
  EXPECT_GT(checked, 30);
}

}  // namespace
}  // namespace nibble::train
