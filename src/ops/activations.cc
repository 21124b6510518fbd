// Activation functions, and Clip.
#include <cmath>
#include <concepts>
#include <limits>
#include <numbers>

#include "ops/fast_math.h"
#include "ops/math_families.h"
#include "ops/unary.h"

namespace nibble {
namespace {

// float32 takes the vectorising form.
inline float exp_of(float x) { return fast_exp(x); }
inline double exp_of(double x) { return std::exp(x); }
inline float tanh_of(float x) { return fast_tanh(x); }
inline double tanh_of(double x) { return std::tanh(x); }
inline float erf_of(float x) { return fast_erf(x); }
inline double erf_of(double x) { return std::erf(x); }

struct ReluOp {
  template <typename T>
  T operator()(T x) const {
    return x < T{0} ? T{0} : x;
  }
};
struct SigmoidOp {
  template <typename T>
  T operator()(T x) const {
    return T{1} / (T{1} + exp_of(-x));
  }
};
struct TanhOp {
  template <typename T>
  T operator()(T x) const {
    return tanh_of(x);
  }
};
struct SoftplusOp {  // log(1 + e^x), without overflow for large x
  template <typename T>
  T operator()(T x) const {
    return x > T{0} ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
  }
};
struct SoftsignOp {
  template <typename T>
  T operator()(T x) const {
    return x / (T{1} + std::fabs(x));
  }
};
struct MishOp {  // x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2); beyond 20 the quotient is 1
  template <typename T>
  T operator()(T x) const {
    const T e = exp_of(x > T{20} ? T{20} : x);
    const T n = e * (e + T{2});
    return x * (n / (n + T{2}));
  }
};
struct HardSwishOp {
  template <typename T>
  T operator()(T x) const {
    T gate = x / T{6} + T(0.5);
    gate = gate < T{0} ? T{0} : gate;
    gate = gate > T{1} ? T{1} : gate;
    return x * gate;
  }
};
struct LeakyReluOp {
  float alpha;
  static LeakyReluOp make(const Node& node) { return {node.get_float("alpha", 0.01F)}; }
  template <typename T>
  T operator()(T x) const {
    return x < T{0} ? static_cast<T>(alpha) * x : x;
  }
};
struct EluOp {
  float alpha;
  static EluOp make(const Node& node) { return {node.get_float("alpha", 1.0F)}; }
  template <typename T>
  T operator()(T x) const {
    return x < T{0} ? static_cast<T>(alpha) * std::expm1(x) : x;
  }
};
struct CeluOp {
  float alpha;
  static CeluOp make(const Node& node) {
    const CeluOp op{node.get_float("alpha", 1.0F)};
    if (op.alpha == 0.0F) fail_node(node, "alpha is 0, which divides by it");
    return op;
  }
  template <typename T>
  T operator()(T x) const {
    return x < T{0} ? static_cast<T>(alpha) * std::expm1(x / static_cast<T>(alpha)) : x;
  }
};
struct SeluOp {
  float alpha, gamma;
  static SeluOp make(const Node& node) {
    return {node.get_float("alpha", 1.67326319217681884765625F), node.get_float("gamma", 1.05070102214813232421875F)};
  }
  template <typename T>
  T operator()(T x) const {
    return static_cast<T>(gamma) * (x < T{0} ? static_cast<T>(alpha) * std::expm1(x) : x);
  }
};
struct ThresholdedReluOp {
  float alpha;
  static ThresholdedReluOp make(const Node& node) { return {node.get_float("alpha", 1.0F)}; }
  template <typename T>
  T operator()(T x) const {
    return x > static_cast<T>(alpha) ? x : T{0};
  }
};
struct HardSigmoidOp {
  float alpha, beta;
  static HardSigmoidOp make(const Node& node) { return {node.get_float("alpha", 0.2F), node.get_float("beta", 0.5F)}; }
  template <typename T>
  T operator()(T x) const {
    T y = static_cast<T>(alpha) * x + static_cast<T>(beta);
    y = y < T{0} ? T{0} : y;
    return y > T{1} ? T{1} : y;
  }
};
struct ShrinkOp {
  double bias, lambd;
  static ShrinkOp make(const Node& node) {
    return {static_cast<double>(node.get_float("bias", 0.0F)), static_cast<double>(node.get_float("lambd", 0.5F))};
  }
  template <typename T>
  T operator()(T x) const {
    const auto wide = static_cast<double>(x);
    const double y = wide < -lambd ? wide + bias : wide > lambd ? wide - bias : 0.0;
    if constexpr (std::integral<T>) {  // saturates: a large bias must not leave the type
      if (!(y > static_cast<double>(std::numeric_limits<T>::min()))) return std::numeric_limits<T>::min();
      if (y >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
    }
    return static_cast<T>(y);
  }
};
struct GeluErfOp {
  template <typename T>
  T operator()(T x) const {
    return T(0.5) * x * (T{1} + erf_of(x * T(0.5 * std::numbers::sqrt2)));
  }
};
struct GeluTanhOp {
  template <typename T>
  T operator()(T x) const {
    constexpr T kSlope = static_cast<T>(0.7978845608028654);  // sqrt(2 / pi)
    return T(0.5) * x * (T{1} + tanh_of(kSlope * (x + T(0.044715) * x * x * x)));
  }
};

std::vector<Tensor> evaluate_gelu(const EvalContext& ctx) {
  const std::string approximate = ctx.node.get_string("approximate", "none");
  if (approximate == "none") return evaluate_float_unary<GeluErfOp>(ctx);
  if (approximate == "tanh") return evaluate_float_unary<GeluTanhOp>(ctx);
  fail_node(ctx.node, "approximate is '{}'; none or tanh is expected", approximate);
}

// ---- Clip: bounds are attributes up to opset 10, optional scalar inputs from 11 on. Where min > max, max wins.
void infer_clip(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  check_type(ctx.node, 0, x.dtype, kNumberTypes);
  for (std::size_t i = 1; i <= 2; ++i) {
    const TensorType& bound = type_of(ctx, i);
    if (bound.dtype != DataType::kUndefined && x.dtype != DataType::kUndefined && bound.dtype != x.dtype)
      fail_node(ctx.node, "input {} is of type {}, the data of type {}", i, to_string(bound.dtype), to_string(x.dtype));
    if (bound.fully_known() && element_count(bound.shape()) != 1)
      fail_node(ctx.node, "input {} is {}; a scalar is expected", i, to_string(bound));
  }
  set_output(ctx, 0, x);
}

template <typename T>
T clip_bound(const EvalContext& ctx, std::size_t input, std::string_view attribute, T fallback) {
  if (const Tensor* bound = optional_input(ctx, input)) {
    if (bound->type() != kDataTypeOf<T>)
      fail_node(ctx.node, "input {} is of type {}, the data of type {}", input, to_string(bound->type()), to_string(kDataTypeOf<T>));
    if (bound->size() != 1) fail_node(ctx.node, "input {} has shape {}; a scalar is expected", input, to_string(bound->shape()));
    return bound->data<T>()[0];
  }
  if constexpr (std::floating_point<T>) {
    if (ctx.node.has(attribute)) return static_cast<T>(ctx.node.get_float(attribute, 0.0F));
  }
  return fallback;
}

std::vector<Tensor> evaluate_clip(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  return {dispatch_numbers(ctx.node, x.type(), [&]<typename T>() {
    using Limits = std::numeric_limits<T>;
    const T low = clip_bound<T>(ctx, 1, "min", Limits::has_infinity ? -Limits::infinity() : Limits::lowest());
    const T high = clip_bound<T>(ctx, 2, "max", Limits::has_infinity ? Limits::infinity() : Limits::max());
    return map_elements<T, T>(ctx, x, [low, high](T v) {
      v = v < low ? low : v;
      return v > high ? high : v;
    });
  })};
}

constexpr auto kTable = QuantRule::kUnaryTable;

constexpr OpDef kOps[] = {
    number_unary<ReluOp, kSignedTypes | kFloatTypes>("Relu", kTable),
    float_unary<LeakyReluOp>("LeakyRelu", kTable),
    float_unary<EluOp>("Elu", kTable),
    float_unary<CeluOp>("Celu", kTable),
    float_unary<SeluOp>("Selu", kTable),
    float_unary<ThresholdedReluOp>("ThresholdedRelu", kTable),
    float_unary<SigmoidOp>("Sigmoid", kTable),
    float_unary<HardSigmoidOp>("HardSigmoid", kTable),
    float_unary<HardSwishOp>("HardSwish", kTable),
    float_unary<TanhOp>("Tanh", kTable),
    float_unary<SoftplusOp>("Softplus", kTable),
    float_unary<SoftsignOp>("Softsign", kTable),
    float_unary<MishOp>("Mish", kTable),
    number_unary<ShrinkOp, kNumberTypes>("Shrink", kTable),
    {.name = "Gelu", .infer = infer_unary<kFloatTypes>, .evaluate = widened<evaluate_gelu>, .rule = kTable, .elementwise = true},
    {.name = "Clip", .max_inputs = 3, .infer = infer_clip, .evaluate = widened<evaluate_clip>, .rule = kTable, .elementwise = true},
};

}  // namespace

std::span<const OpDef> activation_ops() { return kOps; }

}  // namespace nibble
