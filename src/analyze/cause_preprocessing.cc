// Samples that are not what the network was trained on. The float network tells: other usual preprocessings are undone and redone on the
// samples as they are, x' = a x + b for each channel with the channels in the same order or reversed, and the one under which the labels
// come out clearly better is what the network expects.
#include <algorithm>
#include <array>
#include <cmath>

#include "analyze/cause.h"
#include "analyze/held_samples.h"
#include "base/fail.h"

namespace nibble {
namespace {

constexpr std::int64_t kScreened = 48;  // samples that every candidate is tried on; the best is confirmed on all
constexpr float kPixel = 255.0F;
constexpr double kSameScale = 1.3;  // factor between two standard deviations that are one and the same

// (pixel - mean) / std for each of up to three channels; pixels in 0..255.
struct Normalization {
  std::array<double, 3> mean = {0, 0, 0};
  std::array<double, 3> std = {1, 1, 1};
  bool operator==(const Normalization&) const = default;
};

struct Candidate {
  std::string name;  // as it reads in a recipe
  Normalization to;
  bool reversed = false;  // the channels
};

struct Layout {
  std::int64_t channels = 0;
  std::int64_t axis = 0;
};

// Images: one float input of 4 axes with 1 or 3 channels.
Layout layout_of(const CauseContext& context) {
  const Dataset& samples = context.wide.samples();
  const Sample sample = samples.sample(0);
  if (sample.inputs.size() != 1) return {};
  const Tensor& x = sample.inputs[0];
  if (x.type() != DataType::kFloat32 || x.rank() != 4) return {};
  const auto is_channels = [](std::int64_t n) { return n == 1 || n == 3; };
  const auto& recipe = context.options.recipe;
  const bool last = recipe ? recipe->layout == PreprocessRecipe::Layout::kNhwc : !is_channels(x.shape()[1]) && is_channels(x.shape()[3]);
  const std::int64_t axis = last ? 3 : 1;
  const std::int64_t channels = x.shape()[static_cast<std::size_t>(axis)];
  return is_channels(channels) ? Layout{channels, axis} : Layout{};
}

struct Extent {
  float lo = INFINITY, hi = -INFINITY;
  std::array<double, 3> mean = {0, 0, 0};
};

template <typename Each>
void for_each_pixel(const Tensor& x, const Layout& layout, Each each) {
  const auto& s = x.shape();
  const std::int64_t inner = layout.axis == 1 ? s[2] * s[3] : 1;
  for (std::int64_t i = 0; i < x.size(); ++i) each(static_cast<std::size_t>(i), static_cast<std::size_t>(i / inner % layout.channels));
}

Extent extent_of(const Dataset& samples, const Layout& layout) {
  Extent extent;
  std::array<std::int64_t, 3> count = {0, 0, 0};
  for (std::int64_t i = 0; i < samples.size(); ++i) {
    const Tensor x = samples.sample(i).inputs[0];
    const auto values = x.data<float>();
    for_each_pixel(x, layout, [&](std::size_t e, std::size_t c) {
      extent.lo = std::min(extent.lo, values[e]);
      extent.hi = std::max(extent.hi, values[e]);
      extent.mean[c] += static_cast<double>(values[e]);
      ++count[c];
    });
  }
  for (std::size_t c = 0; c < 3; ++c) extent.mean[c] /= static_cast<double>(std::max<std::int64_t>(count[c], 1));
  return extent;
}

Normalization stated(const CauseContext& context, const Extent& extent) {
  Normalization n;
  if (const auto& recipe = context.options.recipe) {
    for (std::size_t c = 0; c < 3; ++c) {
      const auto pick = [&](const std::vector<double>& values, double fallback) {
        return values.empty() ? fallback : values[values.size() == 1 ? 0 : std::min(c, values.size() - 1)];
      };
      n.mean[c] = pick(recipe->mean, 0) * recipe->divide;
      n.std[c] = pick(recipe->std, 1) * recipe->divide;
    }
    return n;
  }
  // Arrays: what they were made with shows in their extent.
  if (extent.lo >= 0 && extent.hi <= 1.001F)
    n.std = {255, 255, 255};
  else if (extent.lo < 0 && extent.lo >= -1.001F && extent.hi <= 1.001F)
    n = {.mean = {127.5, 127.5, 127.5}, .std = {127.5, 127.5, 127.5}};
  else if (extent.lo < 0 && extent.hi < kPixel / 16)
    n = {.mean = {123.675, 116.28, 103.53}, .std = {58.395, 57.12, 57.375}};
  return n;
}

Tensor redone(const Tensor& x, const Layout& layout, const Normalization& from, const Candidate& candidate) {
  Tensor y(x.type(), x.shape());
  const auto in = x.data<float>();
  const auto out = y.mutable_data<float>();
  const auto& s = x.shape();
  const std::int64_t step = layout.axis == 1 ? s[2] * s[3] : 1;
  for_each_pixel(x, layout, [&](std::size_t e, std::size_t c) {
    const std::size_t other = candidate.reversed ? static_cast<std::size_t>(layout.channels) - 1 - c : c;
    const auto at =
        static_cast<std::size_t>(static_cast<std::int64_t>(e) + (static_cast<std::int64_t>(other) - static_cast<std::int64_t>(c)) * step);
    const double pixel = static_cast<double>(in[at]) * from.std[other] + from.mean[other];
    out[e] = static_cast<float>((pixel - candidate.to.mean[c]) / candidate.to.std[c]);
  });
  return y;
}

std::vector<Candidate> candidates_for(const Normalization& from, const std::array<double, 3>& data_mean, std::int64_t channels) {
  const std::array<double, 3> zero = {0, 0, 0}, half = {127.5, 127.5, 127.5}, one = {1, 1, 1}, pixel = {255, 255, 255};
  const std::array<double, 3> imagenet_mean = {123.675, 116.28, 103.53}, imagenet_std = {58.395, 57.12, 57.375};
  std::vector<Candidate> all = {
      {R"("mean": 0, with divide and std as they are)", {zero, from.std}, false},
      {R"("mean": the middle of the pixels (127.5 / divide), with divide and std as they are)", {half, from.std}, false},
      {R"("mean": [123.675, 116.28, 103.53] / divide, with divide and std as they are)", {imagenet_mean, from.std}, false},
      {"\"mean\": the data's own, with divide and std as they are", {data_mean, from.std}, false},
      {R"("divide": 1, "mean": 0, "std": 1 (0..255))", {zero, one}, false},
      {R"("divide": 255, "mean": 0, "std": 1 (0..1))", {zero, pixel}, false},
      {R"("divide": 255, "mean": 0.5, "std": 0.5 (-1..1))", {half, half}, false},
      {R"("divide": 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225])", {imagenet_mean, imagenet_std}, false},
      {R"("divide": 1, "mean": [123.675, 116.28, 103.53], "std": 1)", {imagenet_mean, one}, false},
  };
  std::erase_if(all, [&](const Candidate& c) { return c.to == from; });
  if (channels == 3) all.insert(all.begin(), {"\"channel_order\": the other of RGB and BGR", from, true});
  return all;
}

std::string id_of(const Candidate& candidate, const Normalization& from) {
  const double ratio = from.std[0] / candidate.to.std[0];
  if (ratio > kSameScale || ratio < 1 / kSameScale) return "input_scale";
  return candidate.reversed && candidate.to == from ? "channel_order" : "input_mean";
}

}  // namespace

void find_preprocessing(const CauseContext& context, std::vector<Cause>& causes, std::vector<std::string>&) {
  if (!context.wide.truth().figures.top1) return;  // without labels nothing tells which samples are right
  const Layout layout = layout_of(context);
  if (layout.channels == 0) return;
  const Dataset& samples = context.wide.samples();
  const auto few = hold_samples(samples, spread_indices(samples.size(), kScreened), context.options.threads, nullptr);
  const Extent extent = extent_of(*few, layout);
  const Normalization from = stated(context, extent);
  std::array<double, 3> data_mean{};
  for (std::size_t c = 0; c < 3; ++c) data_mean[c] = extent.mean[c] * from.std[c] + from.mean[c];

  const Judge screen(context.graph, few, context.options.threads, context.options.progress);
  std::vector<Candidate> candidates = candidates_for(from, data_mean, layout.channels);
  struct Tried {
    Candidate candidate;
    PairedHits hits;
  };
  std::vector<Tried> tried;
  const auto try_one = [&](const Candidate& candidate) {
    const auto changed = map_inputs(*few, [&](const Tensor& x) { return redone(x, layout, from, candidate); });
    tried.push_back({candidate, compare_hits(screen.truth(), screen.of_float(context.graph, changed.get()))});
  };
  for (const Candidate& candidate : candidates) try_one(candidate);
  const auto better = [](const Tried& a, const Tried& b) { return a.hits.log_loss_gain > b.hits.log_loss_gain; };
  std::stable_sort(tried.begin(), tried.end(), better);
  if (layout.channels == 3 && !tried[0].candidate.reversed && tried[0].hits.log_loss_gain > 0) {
    Candidate both = tried[0].candidate;
    both.reversed = true;
    both.name += R"(, and "channel_order": the other of RGB and BGR)";
    try_one(both);
    std::stable_sort(tried.begin(), tried.end(), better);
  }
  // Of those that do about as well as the best, the one that changes least: a wrong mean is no wrong scale.
  constexpr double kAboutAsWell = 0.9;
  const auto rank = [&](const Tried& t) {
    return (id_of(t.candidate, from) == "input_scale" ? 2 : 0) + (t.candidate.reversed && t.candidate.to != from ? 1 : 0);
  };
  const Tried* best = &tried[0];
  for (const Tried& t : tried) {
    const bool close =
        t.hits.log_loss_gain >= kAboutAsWell * tried[0].hits.log_loss_gain && t.hits.points() >= tried[0].hits.points() - 2.5;
    if (close && rank(t) < rank(*best)) best = &t;
  }
  if (best->hits.log_loss_gain <= 0 || best->hits.points() <= 0) return;

  const auto changed = map_inputs(samples, [&](const Tensor& x) { return redone(x, layout, from, best->candidate); });
  const Judgement after = context.wide.of_float(context.graph, changed.get());
  const PairedHits hits = compare_hits(context.wide.truth(), after);
  if (!clearly_better(hits)) return;
  Figures before = context.wide.truth().figures;
  causes.push_back(
      {.id = id_of(best->candidate, from),
       .where = "the samples (preprocessing)",
       .evidence = fmt::format(
           "the float network has {:.4g} % of {} samples right as they are (they reach from {:.4g} to {:.4g}), and {:.4g} % under "
           "another preprocessing: {} samples right that were wrong, {} wrong that were right",
           before.top1.value_or(0), hits.count, static_cast<double>(extent.lo), static_cast<double>(extent.hi),
           after.figures.top1.value_or(0), hits.won, hits.lost),
       .option = "--preprocess with " + best->candidate.name,
       .measured_on = "the float network",
       .before = before,
       .after = after.figures,
       .damage = hits.points()});
}

}  // namespace nibble
