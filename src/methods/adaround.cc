// AdaRound (Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization", Eqs. 21-25).
//
// Each weight goes to one of its two neighbours on the grid, W~ = s clamp(floor(W / s) + h(V), lo, hi), with
//     h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1),
// and V minimises, layer by layer with the earlier layers quantized already,
//     E || f(W x) - f(W~ x~) ||^2  +  lambda sum (1 - |2 h(V) - 1|^beta),
// f being the layer's activation, x the float network's and x~ the quantized network's input; beta falls from 20 to 2 after a warm-up of 20
// % without the second term, which drives every h to 0 or 1. Gradients are written by hand, steps are Adam's.
//
// Where we depart from the source: W is what fits the float network's outputs best on the quantized network's inputs (fitted_weights());
// the columns are centred and the bias follows (rounding.h); the first term is divided by its value at rounding to nearest, channel by
// channel, and multiplied by the number of weights, so that lambda means the same in every layer; and a channel whose rounded weights do
// worse on the whole draw than rounding to nearest keeps that one. Since the loss is a sum over output channels, each block of channels is
// a problem of its own: the blocks are what threads share, and the bits do not depend on their number.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "methods/method_list.h"
#include "methods/rounding.h"
#include "numeric/rounding.h"
#include "ops/fast_math.h"
#include "ops/onednn.h"

namespace nibble {
namespace {

constexpr float kZeta = 1.1F, kGamma = -0.1F;  // the stretched sigmoid's ends
constexpr double kBetaFirst = 20, kBetaLast = 2, kWarmUp = 0.2;
constexpr std::int64_t kBlock = 32;  // output channels of one problem

struct Settings {
  std::int64_t iterations, batch;
  float rate;
  float lambda;
};

// u^(beta - 1) for u in [0, 1], looked up: the exponent is the same for all weights of one step.
class PowerTable {
 public:
  void set(double exponent) {
    for (std::size_t i = 0; i < values_.size(); ++i)
      values_[i] = static_cast<float>(std::pow(static_cast<double>(i) / (kSize - 1), exponent));
  }
  float operator()(float u) const {
    const float x = u * (kSize - 1);
    const auto i = std::min<std::size_t>(static_cast<std::size_t>(x), kSize - 2);
    return values_[i] + (x - static_cast<float>(i)) * (values_[i + 1] - values_[i]);
  }

 private:
  static constexpr std::size_t kSize = 1025;
  std::vector<float> values_ = std::vector<float>(kSize);
};

// Sum over the places of (f(z) - f(target))^2 for each output of a block.
std::vector<double> losses(const float* columns, const float* target, std::int64_t target_stride, std::span<const float> w,
                           std::span<const double> shift, std::int64_t places, std::int64_t outs, std::int64_t k, const Activation& f) {
  std::vector<double> result(static_cast<std::size_t>(outs), 0.0);
  std::vector<float> z(static_cast<std::size_t>(places * outs));
  matrix_product(false, true, places, outs, k, columns, w.data(), z.data());
  for (std::int64_t p = 0; p < places; ++p) {
    for (std::int64_t o = 0; o < outs; ++o) {
      const double d = f(static_cast<double>(z[static_cast<std::size_t>(p * outs + o)]) + shift[static_cast<std::size_t>(o)]) -
                       f(static_cast<double>(target[p * target_stride + o]));
      result[static_cast<std::size_t>(o)] += d * d;
    }
  }
  return result;
}

// One block of output channels of one group. `q` comes in rounded to nearest and leaves as chosen.
void round_block(const float* columns, const float* target, std::int64_t target_stride, std::span<const double> weights,
                 std::span<const double> shift, std::span<const GridPoint> grid, std::span<double> q, std::int64_t places,
                 std::int64_t outs, std::int64_t k, const Activation& f, const Settings& settings) {
  const auto n = static_cast<std::size_t>(outs * k);
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  std::vector<float> base(n), step(n), lo(n), hi(n), v(n), w(n), slope(n), m(n, 0.0F), s(n, 0.0F), gradient(n), h(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double x = weights[i] / grid[i].step, floor = std::floor(x);
    base[i] = static_cast<float>(floor);
    step[i] = static_cast<float>(grid[i].step);
    lo[i] = static_cast<float>(grid[i].lo);
    hi[i] = static_cast<float>(grid[i].hi);
    const double y = (x - floor - static_cast<double>(kGamma)) / static_cast<double>(kZeta - kGamma);
    v[i] = static_cast<float>(-std::log(1 / y - 1));
  }
  for (std::size_t i = 0; i < n; ++i) w[i] = static_cast<float>(q[i] * grid[i].step);
  const std::vector<double> before = losses(columns, target, target_stride, w, shift, places, outs, k, f);
  std::vector<float> weight_of(at(outs));  // of each channel's error: 1 at rounding to nearest, times the number of its weights
  for (std::size_t o = 0; o < weight_of.size(); ++o) {
    const double mean = before[o] / static_cast<double>(places);
    weight_of[o] = mean > 0 ? static_cast<float>(static_cast<double>(k) / mean) : 0.0F;
  }

  const std::int64_t batch = std::min(settings.batch, places);
  std::vector<float> z(at(batch * outs));
  const auto low = static_cast<float>(f.lo), high = static_cast<float>(f.hi);
  PowerTable power;
  double decay1 = 1, decay2 = 1;
  std::int64_t row = 0;
  for (std::int64_t iteration = 0; iteration < settings.iterations; ++iteration) {
    const double progress = static_cast<double>(iteration) / static_cast<double>(settings.iterations);
    const double cooled = std::max(0.0, (progress - kWarmUp) / (1 - kWarmUp));
    const double beta = kBetaLast + (kBetaFirst - kBetaLast) * 0.5 * (1 + std::cos(cooled * 3.14159265358979323846));
    const float lambda = progress < kWarmUp ? 0.0F : settings.lambda;
    if (lambda > 0) power.set(beta - 1);
    for (std::size_t i = 0; i < n; ++i) {
      const float sigmoid = fast_sigmoid(v[i]);
      const float stretched = sigmoid * (kZeta - kGamma) + kGamma;
      const bool inside = stretched > 0.0F && stretched < 1.0F;
      h[i] = std::min(std::max(stretched, 0.0F), 1.0F);
      const float place = base[i] + h[i];
      const bool on_grid = place >= lo[i] && place <= hi[i];
      w[i] = step[i] * std::min(std::max(place, lo[i]), hi[i]);
      slope[i] = inside ? sigmoid * (1.0F - sigmoid) * (kZeta - kGamma) : 0.0F;
      if (!on_grid) slope[i] = -slope[i];  // the regularizer still sees it; the sign marks it for the error's gradient
    }
    if (row + batch > places) row = 0;
    const float* x = columns + row * k;
    matrix_product(false, true, batch, outs, k, x, w.data(), z.data());
    for (std::int64_t b = 0; b < batch; ++b) {
      const float* wanted = target + (row + b) * target_stride;
      for (std::int64_t o = 0; o < outs; ++o) {
        float& r = z[at(b * outs + o)];
        const float raw = r + static_cast<float>(shift[at(o)]);
        float y = raw, t = wanted[o];
        bool passes = true;
        if (f.present) {
          passes = raw > low && raw < high;
          y = std::min(std::max(raw, low), high);
          t = std::min(std::max(t, low), high);
          // At the activation's flat ends the gradient is 0 unless the target lies on the other side of the end: there it must be able to
          // return.
          passes = passes || (raw <= low && t > low) || (raw >= high && t < high);
        }
        r = passes ? 2.0F * (y - t) * weight_of[at(o)] / static_cast<float>(batch) : 0.0F;
      }
    }
    matrix_product(true, false, outs, k, batch, z.data(), x, gradient.data());
    row += batch;
    decay1 *= 0.9;
    decay2 *= 0.999;
    const auto rate = static_cast<float>(static_cast<double>(settings.rate) * std::sqrt(1 - decay2) / (1 - decay1));
    for (std::size_t i = 0; i < n; ++i) {
      const float d = std::abs(slope[i]);
      float g = slope[i] > 0 ? gradient[i] * step[i] * d : 0.0F;
      if (lambda > 0) {
        const float u = 2.0F * h[i] - 1.0F;
        const float pull = lambda * static_cast<float>(beta) * power(std::abs(u)) * 2.0F * d;
        g -= u > 0 ? pull : -pull;
      }
      m[i] += 0.1F * (g - m[i]);
      s[i] += 0.001F * (g * g - s[i]);
      v[i] -= rate * m[i] / (std::sqrt(s[i]) + 1e-8F);
    }
  }

  // Rounded for good; channels that did not gain keep what they had.
  std::vector<double> chosen(n);
  for (std::size_t i = 0; i < n; ++i) {
    chosen[i] = std::clamp(static_cast<double>(base[i]) + (v[i] >= 0 ? 1.0 : 0.0), grid[i].lo, grid[i].hi);
    w[i] = static_cast<float>(chosen[i] * grid[i].step);
  }
  const std::vector<double> after = losses(columns, target, target_stride, w, shift, places, outs, k, f);
  for (std::int64_t o = 0; o < outs; ++o) {
    if (after[at(o)] < before[at(o)]) std::copy_n(chosen.begin() + o * k, k, q.begin() + o * k);
  }
}

}  // namespace

void round_adaptively(MethodState& state, const MethodInputs& inputs, const MethodOptions& options) {
  const Settings settings{.iterations = static_cast<std::int64_t>(options.at("iterations")),
                          .batch = std::max<std::int64_t>(1, static_cast<std::int64_t>(options.at("batch"))),
                          .rate = static_cast<float>(options.at("rate")),
                          .lambda = static_cast<float>(options.at("lambda"))};
  const auto places = static_cast<std::int64_t>(options.at("places"));
  std::vector<std::string> notes;
  for_each_layer(state, inputs, "adaround", [&](const LayerTurn& turn, ThreadPool& pool) {
    if (!has_columns(turn.node)) {
      notes.push_back(fmt::format("adaround: '{}' ({}) is rounded to nearest", turn.node.name, turn.node.op_type));
      return LayerEdit{};
    }
    const LayerView& layer = turn.view;
    const std::uint64_t seed = inputs.seed + static_cast<std::uint64_t>(layer.node);
    const RoundingProblem problem = rounding_problem(turn, pool);
    const DrawnColumns drawn = drawn_columns(turn, problem, places, seed, pool);
    const std::vector<GridPoint> grid = grid_points(turn);
    const std::vector<double> fitted =
        fitted_weights(layer, problem, column_products(turn, problem, places, seed, pool), options.at("damping"), pool);
    std::vector<double> q = nearest(problem, grid);
    const Activation activation = activation_of(turn.node);
    const std::int64_t k = layer.columns(), blocks = (layer.group_out + kBlock - 1) / kBlock;
    pool.parallel_for(layer.groups * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
      const nn::OnednnThreads one_thread(1);
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t g = i / blocks, first = i % blocks * kBlock, outs = std::min(kBlock, layer.group_out - first);
        const std::int64_t o = g * layer.group_out + first;
        const auto rows = static_cast<std::size_t>(o * k), size = static_cast<std::size_t>(outs * k);
        round_block(drawn.columns.data() + g * drawn.places * k, drawn.target.data() + g * drawn.places * layer.group_out + first,
                    layer.group_out, std::span(fitted).subspan(rows, size),
                    std::span(problem.shift).subspan(static_cast<std::size_t>(o), static_cast<std::size_t>(outs)),
                    std::span(grid).subspan(rows, size), std::span(q).subspan(rows, size), drawn.places, outs, k, activation, settings);
      }
    });
    return rounded_layer(turn, problem, grid, q);
  });
  state.notes.insert(state.notes.end(), notes.begin(), notes.end());
}

}  // namespace nibble
