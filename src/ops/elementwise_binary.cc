// Two broadcast inputs of one type, one output: arithmetic, comparisons, logic, bits.
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "ops/broadcast.h"
#include "ops/fused_activation.h"
#include "ops/math_families.h"

namespace nibble {
namespace {

// ---- functors: T, T -> result. Integers wrap around.
struct AddOp {
  template <typename T>
  T operator()(T a, T b) const {
    return wrapping(a, b, [](auto x, auto y) { return x + y; });
  }
};
struct SubOp {
  template <typename T>
  T operator()(T a, T b) const {
    return wrapping(a, b, [](auto x, auto y) { return x - y; });
  }
};
struct MulOp {
  template <typename T>
  T operator()(T a, T b) const {
    return wrapping(a, b, [](auto x, auto y) { return x * y; });
  }
};
struct DivOp {  // integers: truncates; a zero divisor was refused before
  template <typename T>
  T operator()(T a, T b) const {
    if constexpr (std::signed_integral<T>) {
      // The lowest value divided by -1 does not fit: it wraps.
      if (b == T{-1}) return wrapping(T{0}, a, [](auto x, auto y) { return x - y; });
    }
    return static_cast<T>(a / b);
  }
};
struct FmodOp {  // the sign of the dividend, as C has it
  template <typename T>
  T operator()(T a, T b) const {
    if constexpr (std::floating_point<T>) {
      return std::fmod(a, b);
    } else {
      if constexpr (std::signed_integral<T>) {
        if (b == T{-1}) return T{0};
      }
      return static_cast<T>(a % b);
    }
  }
};
struct ModOp {  // the sign of the divisor, as Python has it; integers only
  template <typename T>
  T operator()(T a, T b) const {
    const T rest = FmodOp{}(a, b);
    if constexpr (std::signed_integral<T>) {
      if (rest != 0 && ((rest < 0) != (b < 0))) return static_cast<T>(rest + b);
    }
    return rest;
  }
};
struct PReluOp {
  template <typename T>
  T operator()(T x, T slope) const {
    return x < T{0} ? MulOp{}(x, slope) : x;
  }
};
struct EqualOp {
  template <typename T>
  bool operator()(T a, T b) const {
    return a == b;
  }
};
struct GreaterOp {
  template <typename T>
  bool operator()(T a, T b) const {
    return a > b;
  }
};
struct GreaterOrEqualOp {
  template <typename T>
  bool operator()(T a, T b) const {
    return a >= b;
  }
};
struct LessOp {
  template <typename T>
  bool operator()(T a, T b) const {
    return a < b;
  }
};
struct LessOrEqualOp {
  template <typename T>
  bool operator()(T a, T b) const {
    return a <= b;
  }
};
struct AndOp {
  bool operator()(bool a, bool b) const { return a && b; }
};
struct OrOp {
  bool operator()(bool a, bool b) const { return a || b; }
};
struct XorOp {
  bool operator()(bool a, bool b) const { return a != b; }
};
struct BitAndOp {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(a & b);
  }
};
struct BitOrOp {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(a | b);
  }
};
struct BitXorOp {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(a ^ b);
  }
};
struct ShiftLeftOp {  // shifting by the width or more leaves nothing
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<std::uint64_t>(b) >= sizeof(T) * 8 ? T{0} : static_cast<T>(static_cast<std::uint64_t>(a) << b);
  }
};
struct ShiftRightOp {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<std::uint64_t>(b) >= sizeof(T) * 8 ? T{0} : static_cast<T>(a >> b);
  }
};

// ---- inference
enum class Result : std::uint8_t { kSame, kBool };

template <TypeSet kTypes, Result kResult>
void infer_binary(InferContext& ctx) {
  const TensorType& a = type_of(ctx, 0);
  const TensorType& b = type_of(ctx, 1);
  check_type(ctx.node, 0, a.dtype, kTypes);
  check_type(ctx.node, 1, b.dtype, kTypes);
  if (a.dtype != b.dtype && a.dtype != DataType::kUndefined && b.dtype != DataType::kUndefined)
    fail_node(ctx.node, "the inputs are of types {} and {}; they must be of one type", to_string(a.dtype), to_string(b.dtype));
  const DataType same = a.dtype == DataType::kUndefined ? b.dtype : a.dtype;
  set_output(ctx, 0, broadcast_types(ctx.node, a, b, kResult == Result::kBool ? DataType::kBool : same));
}

template <TypeSet kTypes>
void check_inputs(const EvalContext& ctx) {
  const Tensor& a = required(ctx, 0);
  const Tensor& b = required(ctx, 1);
  check_type(ctx.node, 0, a.type(), kTypes);
  if (a.type() != b.type())
    fail_node(ctx.node, "the inputs are of types {} and {}; they must be of one type", to_string(a.type()), to_string(b.type()));
}

template <typename F>
Tensor arithmetic(const EvalContext& ctx, F f) {
  const Tensor& a = ctx.input(0);
  const Tensor& b = ctx.input(1);
  return dispatch_numbers(ctx.node, a.type(), [&]<typename T>() { return broadcast_binary<T, T, T>(ctx, a, b, f); });
}

void refuse_zero_divisor(const EvalContext& ctx) {
  const Tensor& divisor = ctx.input(1);
  if (!is_integer(divisor.type())) return;
  dispatch_integers(ctx.node, divisor.type(), [&]<typename T>() {
    for (const T value : divisor.data<T>()) {
      if (value == 0) fail_node(ctx.node, "integer division by zero");
    }
  });
}

// ---- evaluation
template <typename F>
std::vector<Tensor> evaluate_arithmetic(const EvalContext& ctx) {
  check_inputs<kNumberTypes>(ctx);
  const FusedActivation activation = fused_activation(ctx.node);
  if (activation.present && ctx.input(0).type() == DataType::kFloat32) {
    return {broadcast_binary<float, float, float>(ctx, ctx.input(0), ctx.input(1),
                                                  [activation](float a, float b) { return activation.apply(F{}(a, b)); })};
  }
  if constexpr (std::is_same_v<F, DivOp>) refuse_zero_divisor(ctx);
  Tensor result = arithmetic(ctx, F{});
  apply_activation(activation, result);
  return {std::move(result)};
}

std::vector<Tensor> evaluate_mod(const EvalContext& ctx) {
  check_inputs<kNumberTypes>(ctx);
  refuse_zero_divisor(ctx);
  if (ctx.node.get_int("fmod", 0) != 0) return {arithmetic(ctx, FmodOp{})};
  if (is_float(ctx.input(0).type())) fail_node(ctx.node, "Mod of floats needs the attribute fmod = 1");
  const Tensor& a = ctx.input(0);
  return {dispatch_integers(ctx.node, a.type(), [&]<typename T>() { return broadcast_binary<T, T, T>(ctx, a, ctx.input(1), ModOp{}); })};
}

template <typename F, TypeSet kTypes>
std::vector<Tensor> evaluate_comparison(const EvalContext& ctx) {
  check_inputs<kTypes>(ctx);
  const Tensor& a = ctx.input(0);
  const Tensor& b = ctx.input(1);
  if (a.type() == DataType::kBool) return {broadcast_binary<bool, bool, bool>(ctx, a, b, F{})};
  return {dispatch_numbers(ctx.node, a.type(), [&]<typename T>() { return broadcast_binary<T, T, bool>(ctx, a, b, F{}); })};
}

template <typename F>
std::vector<Tensor> evaluate_logic(const EvalContext& ctx) {
  check_inputs<kBoolType>(ctx);
  return {broadcast_binary<bool, bool, bool>(ctx, ctx.input(0), ctx.input(1), F{})};
}

template <typename F>
std::vector<Tensor> evaluate_bits(const EvalContext& ctx) {
  check_inputs<kIntegerTypes>(ctx);
  const Tensor& a = ctx.input(0);
  return {dispatch_integers(ctx.node, a.type(), [&]<typename T>() { return broadcast_binary<T, T, T>(ctx, a, ctx.input(1), F{}); })};
}

std::vector<Tensor> evaluate_shift(const EvalContext& ctx) {
  check_inputs<kUnsignedTypes>(ctx);
  const std::string direction = ctx.node.get_string("direction", "");
  if (direction == "LEFT") return evaluate_bits<ShiftLeftOp>(ctx);
  if (direction == "RIGHT") return evaluate_bits<ShiftRightOp>(ctx);
  fail_node(ctx.node, "direction is '{}'; LEFT or RIGHT is expected", direction);
}

std::vector<Tensor> evaluate_prelu(const EvalContext& ctx) {
  check_inputs<kNumberTypes>(ctx);
  const Shape& x = ctx.input(0).shape();
  const Shape& slope = ctx.input(1).shape();
  if (broadcast_shape(ctx.node, x, slope) != x)
    fail_node(ctx.node, "slope of shape {} does not broadcast to the input's {}", to_string(slope), to_string(x));
  return {arithmetic(ctx, PReluOp{})};
}

// ---- Pow: base and exponent may be of different types; the result is of the base's
void infer_pow(InferContext& ctx) {
  const TensorType& a = type_of(ctx, 0);
  const TensorType& b = type_of(ctx, 1);
  check_type(ctx.node, 0, a.dtype, kNumberTypes);
  check_type(ctx.node, 1, b.dtype, kNumberTypes);
  set_output(ctx, 0, broadcast_types(ctx.node, a, b, a.dtype));
}

// base^exponent of integers, wrapping; a negative exponent leaves only 1, -1 or (truncated) 0.
template <typename T>
T integer_power(T base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == T{1}) return T{1};
    if constexpr (std::signed_integral<T>) {
      if (base == T{-1}) return exponent % 2 == 0 ? T{1} : T{-1};
    }
    return T{0};
  }
  T result{1};
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0) result = MulOp{}(result, base);
    base = MulOp{}(base, base);
  }
  return result;
}

std::vector<Tensor> evaluate_pow(const EvalContext& ctx) {
  const Tensor& base = required(ctx, 0);
  const Tensor& exponent = required(ctx, 1);
  check_type(ctx.node, 0, base.type(), kNumberTypes);
  check_type(ctx.node, 1, exponent.type(), kNumberTypes);
  if (is_float(base.type())) {
    const Tensor same = cast(exponent, base.type());
    return {dispatch_floats(ctx.node, base.type(), [&]<typename T>() {
      if (same.size() == 1) {
        const T power = same.data<T>()[0];
        if (power == T{2}) return broadcast_binary<T, T, T>(ctx, base, same, [](T x, T) { return x * x; });
        if (power == T{3}) return broadcast_binary<T, T, T>(ctx, base, same, [](T x, T) { return x * x * x; });  // cubes of GELU
        // sqrt differs from pow at -0 and -inf only
        if (power == T(0.5)) {
          return broadcast_binary<T, T, T>(ctx, base, same, [](T x, T) {
            return x == -std::numeric_limits<T>::infinity() ? std::numeric_limits<T>::infinity() : std::sqrt(x + T{0});
          });
        }
      }
      return broadcast_binary<T, T, T>(ctx, base, same, [](T x, T y) { return std::pow(x, y); });
    })};
  }
  return {dispatch_integers(ctx.node, base.type(), [&]<typename T>() {
    if (is_integer(exponent.type())) {
      const Tensor wide = cast(exponent, DataType::kInt64);
      return broadcast_binary<T, std::int64_t, T>(ctx, base, wide, [](T x, std::int64_t y) { return integer_power(x, y); });
    }
    const Tensor wide_base = cast(base, DataType::kFloat64);
    const Tensor wide = cast(exponent, DataType::kFloat64);
    return cast(broadcast_binary<double, double, double>(ctx, wide_base, wide, [](double x, double y) { return std::pow(x, y); }),
                base.type());
  })};
}

template <typename F>
constexpr OpDef arithmetic_op(std::string_view name, QuantRule rule, std::string_view note = "") {
  return {.name = name,
          .min_inputs = 2,
          .max_inputs = 2,
          .infer = infer_binary<kNumberTypes, Result::kSame>,
          .evaluate = widened<evaluate_arithmetic<F>>,
          .rule = rule,
          .note = note,
          .elementwise = true};
}
template <typename F, TypeSet kTypes>
constexpr OpDef comparison_op(std::string_view name) {
  return {.name = name,
          .min_inputs = 2,
          .max_inputs = 2,
          .infer = infer_binary<kTypes, Result::kBool>,
          .evaluate = widened<evaluate_comparison<F, kTypes>>,
          .rule = QuantRule::kNotReal,
          .elementwise = true};
}
template <typename F>
constexpr OpDef logic_op(std::string_view name) {
  return {.name = name,
          .min_inputs = 2,
          .max_inputs = 2,
          .infer = infer_binary<kBoolType, Result::kBool>,
          .evaluate = evaluate_logic<F>,
          .rule = QuantRule::kNotReal,
          .elementwise = true};
}
template <typename F>
constexpr OpDef bits_op(std::string_view name) {
  return {.name = name,
          .min_inputs = 2,
          .max_inputs = 2,
          .infer = infer_binary<kIntegerTypes, Result::kSame>,
          .evaluate = evaluate_bits<F>,
          .rule = QuantRule::kNotReal,
          .elementwise = true};
}

constexpr OpDef kOps[] = {
    arithmetic_op<AddOp>("Add", QuantRule::kArithmetic),
    arithmetic_op<SubOp>("Sub", QuantRule::kArithmetic),
    arithmetic_op<MulOp>("Mul", QuantRule::kArithmetic),
    arithmetic_op<DivOp>("Div", QuantRule::kFloat, "a quotient has no bounded range on a grid that holds 0"),
    {.name = "Mod",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_binary<kNumberTypes, Result::kSame>,
     .evaluate = widened<evaluate_mod>,
     .note = "a remainder is not continuous",
     .elementwise = true},
    {.name = "Pow",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_pow,
     .evaluate = widened<evaluate_pow>,
     .note = "a function of two real inputs",
     .elementwise = true},
    {.name = "PRelu",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_binary<kNumberTypes, Result::kSame>,
     .evaluate = widened<evaluate_prelu>,
     .note = "its slope differs by channel, so one table does not serve",
     .elementwise = true},
    comparison_op<EqualOp, kNumberTypes | kBoolType>("Equal"),
    comparison_op<GreaterOp, kNumberTypes>("Greater"),
    comparison_op<GreaterOrEqualOp, kNumberTypes>("GreaterOrEqual"),
    comparison_op<LessOp, kNumberTypes>("Less"),
    comparison_op<LessOrEqualOp, kNumberTypes>("LessOrEqual"),
    logic_op<AndOp>("And"),
    logic_op<OrOp>("Or"),
    logic_op<XorOp>("Xor"),
    bits_op<BitAndOp>("BitwiseAnd"),
    bits_op<BitOrOp>("BitwiseOr"),
    bits_op<BitXorOp>("BitwiseXor"),
    {.name = "BitShift",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_binary<kUnsignedTypes, Result::kSame>,
     .evaluate = evaluate_shift,
     .rule = QuantRule::kNotReal,
     .elementwise = true},
};

}  // namespace

std::span<const OpDef> elementwise_binary_ops() { return kOps; }

}  // namespace nibble
