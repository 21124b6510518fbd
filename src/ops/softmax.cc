// Softmax, LogSoftmax, Hardmax. Before opset 13 the tensor is flattened at `axis` (default 1) and each row is one distribution; from 13 on
// the distribution runs along `axis` (default -1).
#include <algorithm>
#include <cmath>

#include "ops/nn_common.h"

namespace nibble::nn {
namespace {

struct Rows {
  std::int64_t outer = 1, size = 1, inner = 1;
};
Rows rows_of(const EvalContext& ctx) {
  const Shape& x = ctx.input(0).shape();
  const bool flattens = ctx.opset < 13;
  const std::int64_t wanted = ctx.node.get_int("axis", flattens ? 1 : -1), rank = std::ssize(x);
  if (rank == 0 && (wanted == 0 || wanted == -1)) return {};
  // Flattening at the end leaves rows of one element.
  if (flattens && wanted == rank) return {.outer = element_count(x), .size = 1, .inner = 1};
  const std::size_t axis = at(checked_axis(ctx.node, wanted, rank));
  if (flattens) return {.outer = product(x, 0, axis), .size = product(x, axis, x.size()), .inner = 1};
  return {.outer = product(x, 0, axis), .size = x[axis], .inner = product(x, axis + 1, x.size())};
}

// body(in, out, size, step): one distribution of `size` elements, `step` apart.
template <typename T, typename Body>
std::vector<Tensor> for_each_row(const EvalContext& ctx, const Body& body) {
  const Rows rows = rows_of(ctx);
  const Tensor& x = ctx.input(0);
  Tensor y(x.type(), x.shape());
  const T* in = x.data<T>().data();
  T* out = y.mutable_data<T>().data();
  if (rows.size == 0) return {std::move(y)};
  parallel_for(ctx.pool, rows.outer * rows.inner, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t first = r / rows.inner * rows.size * rows.inner + r % rows.inner;
      body(in + first, out + first, rows.size, rows.inner);
    }
  });
  return {std::move(y)};
}

template <typename T>
T largest(const T* in, std::int64_t size, std::int64_t step) {
  T best = in[0];
  for (std::int64_t i = 1; i < size; ++i) best = std::max(best, in[i * step]);
  return best;
}

std::vector<Tensor> softmax(const EvalContext& ctx) {
  return evaluate_real(ctx, []<typename T>(const EvalContext& c) {
    return for_each_row<T>(c, [](const T* in, T* out, std::int64_t size, std::int64_t step) {
      const T top = largest(in, size, step);
      T sum{};
      for (std::int64_t i = 0; i < size; ++i) {
        out[i * step] = std::exp(in[i * step] - top);
        sum += out[i * step];
      }
      for (std::int64_t i = 0; i < size; ++i) out[i * step] /= sum;
    });
  });
}

std::vector<Tensor> log_softmax(const EvalContext& ctx) {
  return evaluate_real(ctx, []<typename T>(const EvalContext& c) {
    return for_each_row<T>(c, [](const T* in, T* out, std::int64_t size, std::int64_t step) {
      const T top = largest(in, size, step);
      T sum{};
      for (std::int64_t i = 0; i < size; ++i) sum += std::exp(in[i * step] - top);
      const T log_sum = std::log(sum);
      for (std::int64_t i = 0; i < size; ++i) out[i * step] = in[i * step] - top - log_sum;
    });
  });
}

std::vector<Tensor> hardmax(const EvalContext& ctx) {
  return evaluate_real(ctx, []<typename T>(const EvalContext& c) {
    return for_each_row<T>(c, [](const T* in, T* out, std::int64_t size, std::int64_t step) {
      std::int64_t best = 0;
      for (std::int64_t i = 1; i < size; ++i) {
        if (in[i * step] > in[best * step]) best = i;
      }
      for (std::int64_t i = 0; i < size; ++i) out[i * step] = i == best ? T{1} : T{};
    });
  });
}

}  // namespace

const OpDef kSoftmax = {.name = "Softmax",
                        .infer = infer_same,
                        .evaluate = softmax,
                        .rule = QuantRule::kFloat,
                        .note = "needs exponentials and a division by their sum"};
const OpDef kLogSoftmax = {.name = "LogSoftmax",
                           .infer = infer_same,
                           .evaluate = log_softmax,
                           .rule = QuantRule::kFloat,
                           .note = "needs exponentials and the logarithm of their sum"};
const OpDef kHardmax = {
    .name = "Hardmax", .infer = infer_same, .evaluate = hardmax, .rule = QuantRule::kFloat, .note = "gives 0 and 1 whatever the scale"};

}  // namespace nibble::nn
