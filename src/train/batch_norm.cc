#include "train/batch_norm.h"

#include <torch/torch.h>

namespace nibble::train {
namespace {

std::vector<std::int64_t> all_but_channels(const torch::Tensor& x) {
  std::vector<std::int64_t> axes;
  for (std::int64_t i = 0; i < x.dim(); ++i) {
    if (i != 1) axes.push_back(i);
  }
  return axes;
}

std::vector<std::int64_t> along_channels(const torch::Tensor& x) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
  shape[1] = x.size(1);
  return shape;
}

// Normalization by the statistics of every rank's samples: one collective a pass. Sums are float64, so that ranks cost no precision.
//   forward:  N, sum x, sum x^2 -> mean, var
//   backward: dx = gamma / sigma (dy - sum dy / N - xhat sum(dy xhat) / N), sums over all ranks; gamma's and beta's gradients are this
//             rank's share, as every other parameter's.
class NormalizeOverRanks : public torch::autograd::Function<NormalizeOverRanks> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                                                const torch::Tensor& gamma, const torch::Tensor& beta, double epsilon, int64_t reducer) {
    const std::vector<std::int64_t> axes = all_but_channels(x);
    const std::vector<std::int64_t> shape = along_channels(x);
    const std::int64_t channels = x.size(1);
    const double count = channels > 0 ? static_cast<double>(x.numel() / channels) : 0;
    const auto wide = torch::TensorOptions().dtype(torch::kFloat64);
    torch::Tensor sums =
        torch::cat({x.sum(axes, false, torch::kFloat64), x.square().sum(axes, false, torch::kFloat64), torch::full({1}, count, wide)});
    reinterpret_cast<Reducer*>(reducer)->sum(sums);
    const double total = sums[2 * channels].item<double>();
    const torch::Tensor mean = sums.slice(0, 0, channels) / total;
    const torch::Tensor var = (sums.slice(0, channels, 2 * channels) / total - mean.square()).clamp_min(0);
    const torch::Tensor inverse = (var + epsilon).rsqrt();
    const torch::Tensor scale = inverse * gamma.to(torch::kFloat64);
    const torch::Tensor shift = beta.to(torch::kFloat64) - mean * scale;
    const torch::Tensor y = torch::addcmul(shift.to(x.dtype()).view(shape), x, scale.to(x.dtype()).view(shape));
    context->save_for_backward({x, gamma, mean, inverse});
    context->saved_data["total"] = total;
    context->saved_data["reducer"] = reducer;
    context->mark_non_differentiable({mean, var});
    return {y, mean, var, torch::full({1}, total, wide)};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const torch::Tensor &x = saved[0], &gamma = saved[1], &mean = saved[2], &inverse = saved[3];
    const torch::Tensor& dy = gradients[0];
    const std::vector<std::int64_t> axes = all_but_channels(x);
    const std::vector<std::int64_t> shape = along_channels(x);
    const torch::Tensor xhat = (x - mean.to(x.dtype()).view(shape)) * inverse.to(x.dtype()).view(shape);
    const torch::Tensor d_beta = dy.sum(axes, false, torch::kFloat64);
    const torch::Tensor d_gamma = (dy * xhat).sum(axes, false, torch::kFloat64);
    torch::Tensor sums = torch::stack({d_beta, d_gamma});
    reinterpret_cast<Reducer*>(context->saved_data["reducer"].toInt())->sum(sums);
    sums /= context->saved_data["total"].toDouble();
    const torch::Tensor scale = (inverse * gamma.to(torch::kFloat64)).to(x.dtype()).view(shape);
    const torch::Tensor dx = (dy - sums[0].to(x.dtype()).view(shape) - xhat * sums[1].to(x.dtype()).view(shape)) * scale;
    return {dx, d_gamma.to(gamma.dtype()), d_beta.to(gamma.dtype()), torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor batch_norm(const torch::Tensor& x, BatchNorm& norm, bool batch_statistics, bool update, Reducer& reducer) {
  const double share = 1 - norm.momentum;
  const bool one_value = x.numel() == x.size(1);  // a channel: torch's unbiased variance would be 0 / 0
  if (batch_statistics && one_value && reducer.world_size() == 1) {
    if (update) {
      torch::NoGradGuard guard;
      norm.mean.mul_(norm.momentum).add_(x.detach().view({-1}), share);
      norm.var.mul_(norm.momentum);
    }
    return torch::batch_norm(x, norm.gamma, norm.beta, torch::Tensor(), torch::Tensor(), true, share, norm.epsilon, false);
  }
  if (!batch_statistics || reducer.world_size() == 1) {
    // Without running statistics torch takes the batch's and keeps nothing.
    const bool running = !batch_statistics || update;
    return torch::batch_norm(x, norm.gamma, norm.beta, running ? norm.mean : torch::Tensor(), running ? norm.var : torch::Tensor(),
                             batch_statistics, share, norm.epsilon, false);
  }
  const auto result =
      NormalizeOverRanks::apply(x, norm.gamma, norm.beta, norm.epsilon, static_cast<int64_t>(reinterpret_cast<std::intptr_t>(&reducer)));
  if (update) {
    torch::NoGradGuard guard;
    const double total = result[3].item<double>();
    norm.mean.mul_(norm.momentum).add_(result[1].to(norm.mean.dtype()), share);
    norm.var.mul_(norm.momentum).add_((result[2] * (total / std::max(1.0, total - 1))).to(norm.var.dtype()), share);
  }
  return result[0];
}

}  // namespace nibble::train
