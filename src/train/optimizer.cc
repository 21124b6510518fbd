#include "train/optimizer.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace nibble::train {
namespace {

double weight_decay_of(const Parameter& parameter, double of_run) {
  if (parameter.weight_decay >= 0) return parameter.weight_decay;
  return parameter.kind == Parameter::Kind::kWeight ? of_run : 0;
}

}  // namespace

double learning_rate_at(const TrainOptions& options, std::int64_t step, std::int64_t steps_per_epoch) {
  const auto steps = static_cast<double>(options.epochs * steps_per_epoch);
  const double t = steps > 0 ? static_cast<double>(step) / steps : 0;
  double rate = options.learning_rate;
  switch (options.schedule) {
    case LearningRateSchedule::kConstant: break;
    case LearningRateSchedule::kCosine: rate *= (1 + std::cos(std::numbers::pi * t)) / 2; break;
    case LearningRateSchedule::kLinear: rate *= 1 - t; break;
    case LearningRateSchedule::kStep: {
      std::vector<std::int64_t> epochs = options.step_epochs;
      if (epochs.empty()) {
        if (options.epochs >= 2) epochs.push_back(options.epochs / 2);
        if (options.epochs >= 3) epochs.push_back(options.epochs * 3 / 4);
      }
      for (const std::int64_t epoch : epochs) rate *= step / steps_per_epoch >= epoch ? options.step_factor : 1;
      break;
    }
  }
  const double warmup = options.warmup_epochs * static_cast<double>(steps_per_epoch);
  return warmup > 0 ? rate * std::min(1.0, static_cast<double>(step + 1) / warmup) : rate;
}

torch::Tensor& Optimizer::slot(const std::string& name, const torch::Tensor& like) {
  torch::Tensor& tensor = slots_[name];
  if (!tensor.defined()) tensor = torch::zeros_like(like);
  return tensor;
}

void Optimizer::update(const std::vector<Parameter>& parameters, double learning_rate) {
  torch::NoGradGuard guard;
  for (const Parameter& parameter : parameters) {
    torch::Tensor value = parameter.value;
    if (!value.grad().defined()) continue;
    const double rate = learning_rate * parameter.learning_rate_scale;
    const double decay = weight_decay_of(parameter, options_.weight_decay);
    const torch::Tensor d = decay > 0 ? value.grad().add(value, decay) : value.grad();
    if (options_.optimizer == TrainOptimizer::kSgd) {
      if (options_.momentum == 0) {
        value.add_(d, -rate);
        continue;
      }
      torch::Tensor& momentum = slot(parameter.name + "/momentum", value);
      momentum.mul_(options_.momentum).add_(d);
      value.add_(options_.nesterov ? d.add(momentum, options_.momentum) : momentum, -rate);
      continue;
    }
    torch::Tensor& mean = slot(parameter.name + "/mean", value);
    torch::Tensor& square = slot(parameter.name + "/square", value);
    torch::Tensor& steps = slots_[parameter.name + "/steps"];
    if (!steps.defined()) steps = torch::zeros({1}, torch::kInt64);
    steps.add_(1);
    const auto t = static_cast<double>(steps.item<std::int64_t>());
    mean.mul_(options_.beta1).add_(d, 1 - options_.beta1);
    square.mul_(options_.beta2).addcmul_(d, d, 1 - options_.beta2);
    const torch::Tensor denominator = (square / (1 - std::pow(options_.beta2, t))).sqrt_().add_(options_.epsilon);
    value.addcdiv_(mean, denominator, -rate / (1 - std::pow(options_.beta1, t)));
  }
}

std::vector<StateTensor> Optimizer::state() const {
  std::vector<StateTensor> state;
  for (const auto& [name, tensor] : slots_) state.push_back({name, tensor});
  return state;
}

void Optimizer::load(const std::vector<StateTensor>& state) {
  slots_.clear();
  for (const StateTensor& tensor : state) slots_[tensor.name] = tensor.value.clone();
}

}  // namespace nibble::train
