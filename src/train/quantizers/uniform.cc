#include "train/quantizers/uniform.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <numeric>

namespace nibble::train {
namespace {

constexpr std::int64_t kChunk = 4096;  // values whose sums are added up together: fixed, so that threads do not change a bit
constexpr std::int64_t kLanes = 16;    // partial sums within a chunk

// Round half to even of |v| <= 2^22 (2^51): beyond 1.5 2^23 (2^52) a float has no digits behind the point. Compilers vectorize this on
// every machine.
template <typename T>
T rne(T v) {
  constexpr T kMagic = std::is_same_v<T, float> ? static_cast<T>(12582912.0) : static_cast<T>(6755399441055744.0);
  return (v + kMagic) - kMagic;
}

// NaN stays NaN.
template <typename T>
T cut(T v, T lowest, T highest) {
  v = v < lowest ? lowest : v;
  return v > highest ? highest : v;
}

enum class Kind { kStep, kClip };

template <typename Body>
void for_each_chunk(std::int64_t count, const Body& body) {
  const std::int64_t chunks = (count + kChunk - 1) / kChunk;
  at::parallel_for(0, chunks, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) body(c, c * kChunk, std::min(count, (c + 1) * kChunk));
  });
}

template <typename T>
void forward_pass(const T* x, T* y, std::int64_t count, T s, T lowest, T highest) {
  for_each_chunk(count, [=](std::int64_t, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = rne(cut(x[i] / s, lowest, highest)) * s;
  });
}

// The gradient of x into `to_x`; returns that of s (kStep) or of the clip (kClip).
template <typename T, Kind kind>
double backward_pass(const T* x, const T* g, T* to_x, std::int64_t count, T s, T lowest, T highest, T clip) {
  std::vector<double> sums(static_cast<std::size_t>((count + kChunk - 1) / kChunk));
  for_each_chunk(count, [&](std::int64_t c, std::int64_t begin, std::int64_t end) {
    std::array<T, kLanes> lanes{};
    const auto one = [&](std::int64_t i, T& lane) {
      if constexpr (kind == Kind::kStep) {
        const T v = x[i] / s;
        const bool inside = v >= lowest && v <= highest;
        to_x[i] = inside ? g[i] : T(0);
        lane += g[i] * (rne(cut(v, lowest, highest)) - (inside ? v : T(0)));
      } else {
        const bool above = x[i] >= clip;
        to_x[i] = x[i] >= T(0) && !above ? g[i] : T(0);
        lane += above ? g[i] : T(0);
      }
    };
    std::int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      for (std::int64_t j = 0; j < kLanes; ++j) one(i + j, lanes[static_cast<std::size_t>(j)]);
    }
    for (; i < end; ++i) one(i, lanes[0]);
    sums[static_cast<std::size_t>(c)] = std::accumulate(lanes.begin(), lanes.end(), 0.0);
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

template <Kind kind>
class UniformGrid : public torch::autograd::Function<UniformGrid<kind>> {
 public:
  // `end`: the step (kStep) or the clip (kClip).
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x, const torch::Tensor& end, double lowest,
                               double highest) {
    // In the order in which they lie: images with channels last stay so.
    const torch::Tensor values = x.contiguous(x.suggest_memory_format());
    torch::Tensor result = torch::empty_like(values);
    context->save_for_backward({values, end});
    context->saved_data["lowest"] = lowest;
    context->saved_data["highest"] = highest;
    AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "on_grid", [&] {
      forward_pass<scalar_t>(values.data_ptr<scalar_t>(), result.data_ptr<scalar_t>(), values.numel(), step_of<scalar_t>(end, highest),
                             static_cast<scalar_t>(lowest), static_cast<scalar_t>(highest));
    });
    return result;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const torch::Tensor &values = saved[0], &end = saved[1];
    const double lowest = context->saved_data["lowest"].toDouble(), highest = context->saved_data["highest"].toDouble();
    const torch::Tensor g = gradients[0].contiguous(values.suggest_memory_format());
    torch::Tensor to_x = torch::empty_like(values);
    double to_end = 0;
    AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "on_grid_backward", [&] {
      to_end = backward_pass<scalar_t, kind>(values.data_ptr<scalar_t>(), g.data_ptr<scalar_t>(), to_x.data_ptr<scalar_t>(), values.numel(),
                                             step_of<scalar_t>(end, highest), static_cast<scalar_t>(lowest), static_cast<scalar_t>(highest),
                                             *end.data_ptr<scalar_t>());
    });
    return {to_x, torch::full_like(end, to_end), torch::Tensor(), torch::Tensor()};
  }

 private:
  template <typename T>
  static T step_of(const torch::Tensor& end, double highest) {
    const T value = *end.data_ptr<T>();
    return kind == Kind::kStep ? value : value / static_cast<T>(highest);
  }
};

}  // namespace

torch::Tensor on_grid(const torch::Tensor& x, const torch::Tensor& s, const Levels& levels, const Estimator& estimator,
                      const StepInfo& step) {
  const bool soft = estimator.soft && step.training;
  if (soft || s.numel() != 1) return round_by((x / s).clamp(levels.lowest, levels.highest), estimator, step) * s;
  return UniformGrid<Kind::kStep>::apply(x, s, levels.lowest, levels.highest);
}

torch::Tensor on_clipped_grid(const torch::Tensor& x, const torch::Tensor& clip, double steps, const Estimator& estimator,
                              const StepInfo& step) {
  if (!estimator.soft || !step.training) return UniformGrid<Kind::kClip>::apply(x, clip, 0.0, steps);
  const torch::Tensor s = clip.detach() / steps;
  return torch::where(x >= clip, clip, round_by(x.clamp_min(0) / s, estimator, step) * s);
}

}  // namespace nibble::train
