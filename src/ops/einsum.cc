// Einsum: one loop over every label of the equation, in double (integers: modulo 2^64).
#include <array>
#include <cctype>
#include <string>

#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

// One label an axis; the axes of an ellipsis get labels of their own, counted from the right (below kLetters: letters).
constexpr int kLetters = 128;
struct Equation {
  std::vector<std::vector<int>> inputs;
  std::vector<int> output;
};

struct Term {
  std::vector<int> labels;  // -1 stands for the ellipsis
  bool ellipsis = false;
};

Term parse_term(const Node& node, std::string_view text) {
  Term term;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (std::isalpha(static_cast<unsigned char>(text[i])) != 0) {
      term.labels.push_back(static_cast<unsigned char>(text[i]));
    } else if (text.substr(i, 3) == "..." && !term.ellipsis) {
      term.ellipsis = true;
      term.labels.push_back(-1);
      i += 2;
    } else {
      fail_node(node, "the equation holds '{}', which is not a label", text.substr(i));
    }
  }
  return term;
}

Equation parse_equation(const Node& node, std::span<const std::size_t> ranks) {
  std::string text;
  for (const char c : node.get_string("equation", "")) {
    if (c != ' ') text += c;
  }
  if (text.empty() && ranks.empty()) fail_node(node, "the equation is missing");
  const std::size_t arrow = text.find("->");
  const std::string_view left = std::string_view(text).substr(0, arrow);
  std::vector<Term> terms;
  for (std::size_t begin = 0;;) {
    const std::size_t comma = left.find(',', begin);
    terms.push_back(parse_term(node, left.substr(begin, comma - begin)));
    if (comma == std::string_view::npos) break;
    begin = comma + 1;
  }
  if (terms.size() != ranks.size()) fail_node(node, "the equation '{}' has {} terms for {} inputs", text, terms.size(), ranks.size());
  Equation result;
  std::size_t widest = 0;
  std::array<int, kLetters> uses{};
  for (std::size_t k = 0; k < terms.size(); ++k) {
    const std::size_t named = terms[k].labels.size() - (terms[k].ellipsis ? 1 : 0);
    if (named > ranks[k] || (!terms[k].ellipsis && named != ranks[k]))
      fail_node(node, "the equation '{}' does not fit input {} of {} axes", text, k, ranks[k]);
    const std::size_t free = ranks[k] - named;
    widest = std::max(widest, free);
    std::vector<int> labels;
    for (const int label : terms[k].labels) {
      if (label >= 0) {
        labels.push_back(label);
        ++uses[static_cast<std::size_t>(label)];
      } else {
        for (std::size_t i = free; i-- > 0;) labels.push_back(kLetters + static_cast<int>(i));
      }
    }
    result.inputs.push_back(std::move(labels));
  }
  const auto ellipsis = [&] {
    for (std::size_t i = widest; i-- > 0;) result.output.push_back(kLetters + static_cast<int>(i));
  };
  if (arrow == std::string::npos) {
    // Implicit: the ellipsis, then every label used once, in alphabetical order.
    ellipsis();
    for (int label = 0; label < kLetters; ++label) {
      if (uses[static_cast<std::size_t>(label)] == 1) result.output.push_back(label);
    }
    return result;
  }
  std::array<bool, kLetters> seen{};
  for (const int label : parse_term(node, std::string_view(text).substr(arrow + 2)).labels) {
    if (label < 0) {
      ellipsis();
      continue;
    }
    if (uses[static_cast<std::size_t>(label)] == 0) fail_node(node, "the equation '{}' has an output label that no input has", text);
    if (seen[static_cast<std::size_t>(label)]) fail_node(node, "the equation '{}' names an output label twice", text);
    seen[static_cast<std::size_t>(label)] = true;
    result.output.push_back(label);
  }
  return result;
}

void infer_einsum(InferContext& ctx) {
  std::vector<std::size_t> ranks;
  for (std::size_t i = 0; i < ctx.inputs.size(); ++i) {
    check_type(ctx.node, i, type_of(ctx, i).dtype, kNumberTypes);
    if (!type_of(ctx, i).has_rank) {
      set_output(ctx, 0, unknown_rank(type_of(ctx, 0).dtype));
      return;
    }
    ranks.push_back(type_of(ctx, i).dims.size());
  }
  const Equation equation = parse_equation(ctx.node, ranks);
  TensorType out{.dtype = type_of(ctx, 0).dtype, .has_rank = true, .dims = {}};
  for (const int label : equation.output) {
    Dim found = dim(1);
    for (std::size_t k = 0; k < equation.inputs.size(); ++k) {
      for (std::size_t i = 0; i < equation.inputs[k].size(); ++i) {
        const Dim& d = type_of(ctx, k).dims[i];
        if (equation.inputs[k][i] == label && d.size != 1)
          found = found.size == 1 ? d : merge_dims(ctx.node, found, d, "sizes of one label");
      }
    }
    out.dims.push_back(found);
  }
  set_output(ctx, 0, std::move(out));
}

struct Loop {
  int label = 0;
  std::int64_t size = 1;
  std::vector<std::int64_t> strides;  // by input
};

template <typename T>
void contract(const std::vector<const T*>& in, std::span<const Loop> outer, std::span<const Loop> inner, T* out) {
  using Acc = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;
  std::vector<std::int64_t> sizes, sums;
  for (const Loop& loop : outer) sizes.push_back(loop.size);
  for (const Loop& loop : inner) sums.push_back(loop.size);
  std::vector<std::int64_t> index(sizes.size(), 0);
  std::vector<std::int64_t> base(in.size());
  do {
    for (std::size_t k = 0; k < in.size(); ++k) {
      base[k] = 0;
      for (std::size_t i = 0; i < index.size(); ++i) base[k] += index[i] * outer[i].strides[k];
    }
    Acc sum{0};
    bool empty = false;
    for (const std::int64_t size : sums) empty = empty || size == 0;
    std::vector<std::int64_t> step(sums.size(), 0);
    if (!empty) {
      do {
        Acc product{1};
        for (std::size_t k = 0; k < in.size(); ++k) {
          std::int64_t at = base[k];
          for (std::size_t i = 0; i < step.size(); ++i) at += step[i] * inner[i].strides[k];
          product *= static_cast<Acc>(in[k][at]);
        }
        sum += product;
      } while (next_index(step, sums));
    }
    *out++ = static_cast<T>(sum);
  } while (next_index(index, sizes));
}

std::vector<Tensor> evaluate_einsum(const EvalContext& ctx) {
  std::vector<std::size_t> ranks;
  for (std::size_t i = 0; i < ctx.inputs.size(); ++i) {
    const Tensor& x = required(ctx, i);
    if (x.type() != ctx.input(0).type())
      fail_node(ctx.node, "input {} is of type {}, the first of type {}", i, to_string(x.type()), to_string(ctx.input(0).type()));
    ranks.push_back(x.shape().size());
  }
  const Equation equation = parse_equation(ctx.node, ranks);
  std::vector<Loop> loops;
  for (const int label : equation.output)
    loops.push_back({.label = label, .size = 1, .strides = std::vector<std::int64_t>(ranks.size(), 0)});
  const std::size_t outputs = loops.size();
  for (std::size_t k = 0; k < ranks.size(); ++k) {
    const Shape& shape = ctx.input(k).shape();
    const auto strides = row_major_strides(shape);
    for (std::size_t i = 0; i < shape.size(); ++i) {
      Loop* loop = nullptr;
      for (Loop& candidate : loops) {
        if (candidate.label == equation.inputs[k][i]) loop = &candidate;
      }
      if (loop == nullptr) {
        loops.push_back({.label = equation.inputs[k][i], .size = 1, .strides = std::vector<std::int64_t>(ranks.size(), 0)});
        loop = &loops.back();
      }
      if (shape[i] == 1) continue;  // broadcasts
      if (loop->size != 1 && loop->size != shape[i]) fail_node(ctx.node, "one label has the sizes {} and {}", loop->size, shape[i]);
      loop->size = shape[i];
      loop->strides[k] += strides[i];  // a label twice in one term walks the diagonal
    }
  }
  Shape shape;
  for (std::size_t i = 0; i < outputs; ++i) shape.push_back(loops[i].size);
  Tensor result(ctx.input(0).type(), std::move(shape));
  if (result.size() == 0) return {std::move(result)};
  dispatch_numbers(ctx.node, result.type(), [&]<typename T>() {
    std::vector<const T*> in;
    for (std::size_t k = 0; k < ranks.size(); ++k) in.push_back(ctx.input(k).data<T>().data());
    const std::span<const Loop> all(loops);
    contract<T>(in, all.first(outputs), all.subspan(outputs), result.mutable_data<T>().data());
  });
  return {std::move(result)};
}

constexpr OpDef kOps[] = {
    {.name = "Einsum",
     .max_inputs = -1,
     .infer = infer_einsum,
     .evaluate = widened<evaluate_einsum>,
     .note = "a general contraction; MatMul has the integer form"},
};

}  // namespace

std::span<const OpDef> einsum_ops() { return kOps; }

}  // namespace nibble
