#include "runtime/wide_loops.h"

#include "quantize/node_arithmetic.h"
#include "quantize/weights.h"

namespace nibble {

Codes Operand::load(const RunContext& run, std::int32_t minus) const {
  Codes codes;
  if (constant) {
    codes = *constant;
  } else if (stored) {
    const std::uint8_t* bytes = run.in(ref);
    codes.assign(bytes, bytes + element_count(shape));
    minus += offset;
  } else {
    codes = codes_of((*run.tensors)[static_cast<std::size_t>(value)]);
  }
  if (minus != 0) {
    for (std::int32_t& q : codes) q -= minus;
  }
  return codes;
}

void Result::store(const RunContext& run, const Codes& codes) const {
  if (stored) {
    std::uint8_t* bytes = run.ptr(ref);
    for (std::size_t i = 0; i < codes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(codes[i] + offset);
  } else {
    (*run.tensors)[static_cast<std::size_t>(value)] = cast(Tensor::from<std::int32_t>(shape, codes), type);
  }
}

Operand operand_of(PlanBuilder& plan, const Node& node, ValueId v) {
  const QuantParams& p = plan.params(v);
  Operand operand{.value = v, .shape = plan.shape(node, v), .stored = false, .ref = {}, .offset = 0, .zero_point = p.zero_point[0], .constant = nullptr};
  if (const auto& constant = plan.model().graph.value(v).constant) {
    operand.constant = plan.own(codes_of(*constant));
  } else if (plan.is_stored(v)) {
    operand.stored = true;
    operand.ref = plan.read(node, v, Layout::kPlain);
    operand.offset = stored_grid(p).offset;
  }
  return operand;
}

Result result_of(PlanBuilder& plan, const Node& node, ValueId v) {
  const QuantParams& p = plan.params(v);
  Result result{.value = v, .shape = plan.shape(node, v), .stored = plan.is_stored(v), .ref = {}, .offset = 0, .type = storage_type(p.type)};
  if (result.stored) {
    result.ref = plan.write(node, v, Layout::kPlain);
    result.offset = stored_grid(p).offset;
  } else {
    plan.produce(v);
  }
  return result;
}

ConvLoops conv_loops(const Node& node, const Window& w, const Shape& x, const Shape& y) {
  ConvLoops loops;
  loops.transposed = node.op_type == "ConvTranspose";
  loops.groups = node.get_int("group", 1);
  loops.group_in = x[1] / loops.groups;
  loops.group_out = y[1] / loops.groups;
  loops.in_plane = element_count(w.input);
  loops.out_plane = element_count(w.output);
  loops.taps = element_count(w.kernel);
  loops.source.reserve(static_cast<std::size_t>(loops.taps * loops.out_plane));
  for (std::int64_t t = 0; t < loops.taps; ++t) {
    for (std::int64_t p = 0; p < loops.out_plane; ++p) {
      std::int64_t flat = 0;
      std::int64_t step = 1;
      std::int64_t rest_p = p;
      std::int64_t rest_t = t;
      bool inside = true;
      for (std::size_t d = w.kernel.size(); d-- > 0;) {
        const std::int64_t o = rest_p % w.output[d];
        const std::int64_t tap = rest_t % w.kernel[d] * w.dilation[d];
        rest_p /= w.output[d];
        rest_t /= w.kernel[d];
        std::int64_t i = loops.transposed ? o + w.pad_begin[d] - tap : o * w.stride[d] + tap - w.pad_begin[d];
        if (loops.transposed) {
          inside = inside && i >= 0 && i % w.stride[d] == 0;
          i /= w.stride[d];
        }
        inside = inside && i >= 0 && i < w.input[d];
        flat += i * step;
        step *= w.input[d];
      }
      loops.source.push_back(inside ? static_cast<std::int32_t>(flat) : -1);
    }
  }
  return loops;
}

MatrixLoops matrix_loops(const Node& node, Shape sa, Shape sb) {
  MatrixLoops loops;
  loops.transposed = node.op_type == "Gemm" && node.get_int("transB", 0) != 0;
  if (sa.size() == 1) sa.insert(sa.begin(), 1);
  if (sb.size() == 1) sb.push_back(1);
  const std::int64_t m = sa[sa.size() - 2];
  const std::int64_t k = sa.back();
  const std::int64_t n = loops.transposed ? sb[sb.size() - 2] : sb.back();
  const std::size_t rank = std::max(sa.size(), sb.size()) - 2;
  Shape batch(rank, 1);
  const auto extent = [&](const Shape& s, std::size_t axis) { return axis + s.size() < rank + 2 ? 1 : s[axis + s.size() - 2 - rank]; };
  for (std::size_t d = 0; d < rank; ++d) batch[d] = extent(sa, d) == 1 ? extent(sb, d) : extent(sa, d);
  loops.m = m;
  loops.k = k;
  loops.n = n;
  for (std::int64_t i = 0; i < element_count(batch); ++i) {
    MatrixLoops::Product p;
    std::int64_t rest = i;
    std::int64_t step_a = m * k;
    std::int64_t step_b = k * n;
    for (std::size_t d = rank; d-- > 0;) {
      const std::int64_t at = rest % batch[d];
      rest /= batch[d];
      p.left += extent(sa, d) == 1 ? 0 : at * step_a;
      p.right += extent(sb, d) == 1 ? 0 : at * step_b;
      step_a *= extent(sa, d);
      step_b *= extent(sb, d);
    }
    loops.products.push_back(p);
  }
  return loops;
}

}  // namespace nibble
