// Functions of one element without attributes that networks seldom use as activations: roots, exponentials, trigonometry, rounding, tests.
#include <cmath>
#include <concepts>
#include <cstdint>

#include "ops/fast_math.h"
#include "ops/math_families.h"
#include "ops/unary.h"

namespace nibble {
namespace {

#define NIBBLE_FLOAT_FUNCTION(Name, expression) \
  struct Name {                                 \
    template <typename T>                       \
    T operator()(T x) const {                   \
      return (expression);                      \
    }                                           \
  }
NIBBLE_FLOAT_FUNCTION(CeilOp, std::ceil(x));
NIBBLE_FLOAT_FUNCTION(FloorOp, std::floor(x));
NIBBLE_FLOAT_FUNCTION(RoundOp, std::nearbyint(x));  // half to even
NIBBLE_FLOAT_FUNCTION(SqrtOp, std::sqrt(x));
NIBBLE_FLOAT_FUNCTION(ReciprocalOp, T{1} / x);
NIBBLE_FLOAT_FUNCTION(LogOp, std::log(x));
NIBBLE_FLOAT_FUNCTION(SinOp, std::sin(x));
NIBBLE_FLOAT_FUNCTION(CosOp, std::cos(x));
NIBBLE_FLOAT_FUNCTION(TanOp, std::tan(x));
NIBBLE_FLOAT_FUNCTION(AsinOp, std::asin(x));
NIBBLE_FLOAT_FUNCTION(AcosOp, std::acos(x));
NIBBLE_FLOAT_FUNCTION(AtanOp, std::atan(x));
NIBBLE_FLOAT_FUNCTION(SinhOp, std::sinh(x));
NIBBLE_FLOAT_FUNCTION(CoshOp, std::cosh(x));
NIBBLE_FLOAT_FUNCTION(AsinhOp, std::asinh(x));
NIBBLE_FLOAT_FUNCTION(AcoshOp, std::acosh(x));
NIBBLE_FLOAT_FUNCTION(AtanhOp, std::atanh(x));
#undef NIBBLE_FLOAT_FUNCTION

struct ExpOp {
  float operator()(float x) const { return fast_exp(x); }
  double operator()(double x) const { return std::exp(x); }
};
struct ErfOp {
  template <typename T>
  T operator()(T x) const {
    if constexpr (std::same_as<T, float>) {
      return fast_erf(x);
    } else if constexpr (std::floating_point<T>) {
      return std::erf(x);
    } else {
      return static_cast<T>(std::erf(static_cast<double>(x)));
    }
  }
};
struct AbsOp {
  template <typename T>
  T operator()(T x) const {
    if constexpr (std::floating_point<T>) {
      return std::fabs(x);
    } else if constexpr (std::signed_integral<T>) {
      return x < 0 ? wrapping(T{0}, x, [](auto a, auto b) { return a - b; }) : x;
    } else {
      return x;
    }
  }
};
struct NegOp {
  template <typename T>
  T operator()(T x) const {
    if constexpr (std::floating_point<T>) {
      return -x;
    } else {
      return wrapping(T{0}, x, [](auto a, auto b) { return a - b; });
    }
  }
};
struct SignOp {
  template <typename T>
  T operator()(T x) const {
    if constexpr (std::unsigned_integral<T>) {
      return x > 0 ? T{1} : T{0};
    } else {
      return x > T{0} ? T{1} : x < T{0} ? T(-1) : x;  // keeps 0 and NaN
    }
  }
};

// ---- booleans
template <TypeSet kTypes>
void infer_test(InferContext& ctx) {
  TensorType type = type_of(ctx, 0);
  check_type(ctx.node, 0, type.dtype, kTypes);
  type.dtype = DataType::kBool;
  set_output(ctx, 0, std::move(type));
}

std::vector<Tensor> evaluate_is_nan(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  return {dispatch_floats(ctx.node, x.type(), [&]<typename T>() { return map_elements<T, bool>(ctx, x, [](T v) { return v != v; }); })};
}

std::vector<Tensor> evaluate_is_inf(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const bool negative = ctx.node.get_int("detect_negative", 1) != 0;
  const bool positive = ctx.node.get_int("detect_positive", 1) != 0;
  return {dispatch_floats(ctx.node, x.type(), [&]<typename T>() {
    return map_elements<T, bool>(ctx, x, [=](T v) { return std::isinf(v) && (v < T{0} ? negative : positive); });
  })};
}

std::vector<Tensor> evaluate_not(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  check_type(ctx.node, 0, x.type(), kBoolType);
  return {map_elements<bool, bool>(ctx, x, [](bool v) { return !v; })};
}

std::vector<Tensor> evaluate_bitwise_not(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  return {dispatch_integers(ctx.node, x.type(),
                            [&]<typename T>() { return map_elements<T, T>(ctx, x, [](T v) { return static_cast<T>(~v); }); })};
}

// nibble.Step: `above` where x >= threshold, else `below` (NaN, too). What Where(GreaterOrEqual(x, threshold), above, below) becomes.
struct StepOp {
  float threshold = 0, above = 1, below = -1;
  static StepOp make(const Node& node) {
    return {.threshold = node.get_float("threshold", 0), .above = node.get_float("above", 1), .below = node.get_float("below", -1)};
  }
  template <typename T>
  T operator()(T x) const {
    return static_cast<T>(x >= static_cast<T>(threshold) ? above : below);
  }
};

constexpr auto kTable = QuantRule::kUnaryTable;
constexpr auto kFloat = QuantRule::kFloat;
constexpr std::string_view kPartial = "not defined on the whole range of its input";

constexpr OpDef kOps[] = {
    number_unary<AbsOp, kNumberTypes>("Abs", kTable),
    number_unary<NegOp, kSignedTypes | kFloatTypes>("Neg", kTable),
    number_unary<SignOp, kNumberTypes>("Sign", kTable),
    {.name = "Step",
     .domain = "nibble",
     .infer = infer_unary<kFloatTypes>,
     .evaluate = widened<evaluate_float_unary<StepOp>>,
     .rule = kTable,
     .elementwise = true},
    float_unary<CeilOp>("Ceil", kFloat, "a step function: one quantization step of the input may move it by one"),
    float_unary<FloorOp>("Floor", kFloat, "a step function: one quantization step of the input may move it by one"),
    float_unary<RoundOp>("Round", kFloat, "a step function: one quantization step of the input may move it by one"),
    float_unary<SqrtOp>("Sqrt", kFloat, kPartial),
    float_unary<ReciprocalOp>("Reciprocal", kFloat, "not bounded near 0"),
    float_unary<ExpOp>("Exp", kTable),
    float_unary<LogOp>("Log", kFloat, kPartial),
    number_unary<ErfOp, kNumberTypes>("Erf", kTable),
    float_unary<SinOp>("Sin", kTable),
    float_unary<CosOp>("Cos", kTable),
    float_unary<TanOp>("Tan", kFloat, "not bounded"),
    float_unary<AsinOp>("Asin", kFloat, kPartial),
    float_unary<AcosOp>("Acos", kFloat, kPartial),
    float_unary<AtanOp>("Atan", kTable),
    float_unary<SinhOp>("Sinh", kTable),
    float_unary<CoshOp>("Cosh", kTable),
    float_unary<AsinhOp>("Asinh", kTable),
    float_unary<AcoshOp>("Acosh", kFloat, kPartial),
    float_unary<AtanhOp>("Atanh", kFloat, kPartial),
    {.name = "IsNaN",
     .infer = infer_test<kFloatTypes>,
     .evaluate = widened<evaluate_is_nan>,
     .rule = QuantRule::kNotReal,
     .elementwise = true},
    {.name = "IsInf",
     .infer = infer_test<kFloatTypes>,
     .evaluate = widened<evaluate_is_inf>,
     .rule = QuantRule::kNotReal,
     .elementwise = true},
    {.name = "Not", .infer = infer_test<kBoolType>, .evaluate = evaluate_not, .rule = QuantRule::kNotReal, .elementwise = true},
    {.name = "BitwiseNot",
     .infer = infer_unary<kIntegerTypes>,
     .evaluate = evaluate_bitwise_not,
     .rule = QuantRule::kNotReal,
     .elementwise = true},
};

}  // namespace

std::span<const OpDef> elementwise_unary_ops() { return kOps; }

}  // namespace nibble
