// NonMaxSuppression: for each class, boxes in the order of their scores, leaving out those that overlap one already taken.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/nn_common.h"

namespace nibble::nn {
namespace {

void infer(InferContext& ctx) {
  ctx.outputs[0] = TensorType{.dtype = DataType::kInt64, .has_rank = true, .dims = {Dim{}, Dim{.size = 3, .symbol = {}}}};
}

struct Box {
  float y0 = 0, x0 = 0, y1 = 0, x1 = 0;
  float area() const { return (y1 - y0) * (x1 - x0); }
};

Box read_box(const float* b, bool center) {
  if (center) return {b[1] - b[3] / 2.0F, b[0] - b[2] / 2.0F, b[1] + b[3] / 2.0F, b[0] + b[2] / 2.0F};
  return {std::min(b[0], b[2]), std::min(b[1], b[3]), std::max(b[0], b[2]), std::max(b[1], b[3])};
}

bool overlaps(const Box& a, const Box& b, float threshold) {
  const float height = std::min(a.y1, b.y1) - std::max(a.y0, b.y0), width = std::min(a.x1, b.x1) - std::max(a.x0, b.x0);
  if (!(height > 0.0F) || !(width > 0.0F)) return false;
  const float intersection = height * width, all = a.area() + b.area() - intersection;
  return a.area() > 0.0F && b.area() > 0.0F && all > 0.0F && intersection / all > threshold;
}

template <typename T>
T scalar(const EvalContext& ctx, std::size_t i, T fallback) {
  if (!ctx.has_input(i)) return fallback;
  const auto data = ctx.input(i).data<T>();
  if (data.size() != 1) fail_node(ctx.node, "input {} has shape {}, expected one element", i, to_string(ctx.input(i).shape()));
  return data[0];
}

std::vector<Tensor> evaluate(const EvalContext& ctx) {
  const Shape& boxes = ctx.input(0).shape();
  const Shape& scores = ctx.input(1).shape();
  if (boxes.size() != 3 || boxes[2] != 4 || scores.size() != 3 || scores[0] != boxes[0] || scores[2] != boxes[1])
    fail_node(ctx.node, "boxes {} and scores {} do not fit [batch,n,4] and [batch,classes,n]", to_string(boxes), to_string(scores));
  const auto limit = scalar<std::int64_t>(ctx, 2, 0);
  const float iou = scalar<float>(ctx, 3, 0.0F);
  const bool filters = ctx.has_input(4);
  const float floor = scalar<float>(ctx, 4, 0.0F);
  if (!(iou >= 0.0F && iou <= 1.0F)) fail_node(ctx.node, "iou_threshold is {}, expected 0 to 1", iou);
  const bool center = ctx.node.get_int("center_point_box", 0) != 0;
  const std::int64_t count = boxes[1];
  const float* box_data = ctx.input(0).data<float>().data();
  const float* score_data = ctx.input(1).data<float>().data();
  std::vector<std::int64_t> selected;
  std::vector<std::int64_t> order;
  std::vector<Box> taken;
  for (std::int64_t n = 0; n < scores[0]; ++n) {
    for (std::int64_t c = 0; c < scores[1]; ++c) {
      const float* score = score_data + (n * scores[1] + c) * count;
      order.clear();
      for (std::int64_t i = 0; i < count; ++i) {
        // NaN scores would break the order, and no threshold lets them pass.
        if (!std::isnan(score[i]) && (!filters || score[i] > floor)) order.push_back(i);
      }
      std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return score[a] > score[b]; });
      taken.clear();
      for (const std::int64_t i : order) {
        if (std::ssize(taken) >= limit) break;
        const Box box = read_box(box_data + (n * count + i) * 4, center);
        if (std::any_of(taken.begin(), taken.end(), [&](const Box& other) { return overlaps(box, other, iou); })) continue;
        taken.push_back(box);
        selected.insert(selected.end(), {n, c, i});
      }
    }
  }
  return {Tensor::from<std::int64_t>({std::ssize(selected) / 3, 3}, std::span<const std::int64_t>(selected))};
}

}  // namespace

const OpDef kNonMaxSuppression = {.name = "NonMaxSuppression",
                                  .min_inputs = 2,
                                  .max_inputs = 5,
                                  .infer = infer,
                                  .evaluate = evaluate,
                                  .rule = QuantRule::kFloat,
                                  .note = "compares and divides areas; gives indices"};

}  // namespace nibble::nn
