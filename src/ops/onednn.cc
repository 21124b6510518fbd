#include "ops/onednn.h"

#include <omp.h>

#include <cmath>
#include <dnnl.hpp>

namespace nibble::nn {
namespace {

using dnnl::memory;

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

// A pointer that oneDNN takes without const; sources are only read.
void* unconst(const void* p) { return const_cast<void*>(p); }

struct ConvState : OpState {
  Shape source;  // the shape that `primitive` was made for
  bool declined = false;
  dnnl::convolution_forward::primitive_desc description;
  dnnl::convolution_forward primitive;
  memory weights;      // in oneDNN's order
  bool weights_ready = false;
  memory scratchpad;
};

memory::dims spatial(const ConvGeometry& g, std::int64_t WindowAxis::* member, std::int64_t less = 0) {
  memory::dims result;
  for (const WindowAxis& axis : g.axes) result.push_back(axis.*member - less);
  return result;
}

void prepare(ConvState& state, const ConvGeometry& g, bool has_bias, const FusedActivation& activation) {
  const auto type = memory::data_type::f32;
  const memory::desc source({g.batch, g.groups * g.group_in, g.axes[0].in, g.axes[1].in}, type, memory::format_tag::nhwc);
  const memory::desc result({g.batch, g.groups * g.group_out, g.axes[0].out, g.axes[1].out}, type, memory::format_tag::nhwc);
  memory::dims weight_dims{g.group_out, g.group_in, g.axes[0].kernel, g.axes[1].kernel};
  if (g.groups > 1) weight_dims.insert(weight_dims.begin(), g.groups);
  const memory::desc weights(weight_dims, type, memory::format_tag::any);
  const memory::desc bias = has_bias ? memory::desc({g.groups * g.group_out}, type, memory::format_tag::x) : memory::desc();
  const dnnl::convolution_forward::desc op(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, source, weights, bias, result,
                                           spatial(g, &WindowAxis::stride), spatial(g, &WindowAxis::dilation, 1), spatial(g, &WindowAxis::pad_begin),
                                           spatial(g, &WindowAxis::pad_end));
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (activation.present) {
    dnnl::post_ops post;
    if (activation.low == 0.0F && std::isinf(activation.high)) post.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
    else post.append_eltwise(1.0F, dnnl::algorithm::eltwise_clip, activation.low, activation.high);
    attributes.set_post_ops(post);
  }
  state.description = dnnl::convolution_forward::primitive_desc(op, attributes, engine());
  state.primitive = dnnl::convolution_forward(state.description);
  state.scratchpad = memory(state.description.scratchpad_desc(), engine());
}

}  // namespace

std::optional<Tensor> onednn_conv_nhwc(const EvalContext& ctx, const ConvGeometry& g, const FusedActivation& activation) {
  const Tensor& x = ctx.input(0);
  const Tensor& w = ctx.input(1);
  const bool has_bias = ctx.has_input(2);
  if (g.axes.size() != 2 || x.size() == 0 || w.size() == 0) return std::nullopt;
  std::unique_ptr<OpState> temporary;
  std::unique_ptr<OpState>& slot = ctx.state != nullptr ? *ctx.state : temporary;
  if (slot == nullptr) slot = std::make_unique<ConvState>();
  auto& state = static_cast<ConvState&>(*slot);
  if (state.source == x.shape() && state.declined) return std::nullopt;
  dnnl::stream stream(engine());
  try {
    if (state.source != x.shape()) {
      const memory::desc before = state.weights_ready ? state.description.weights_desc() : memory::desc();
      state.source = x.shape();
      state.declined = false;
      prepare(state, g, has_bias, activation);
      state.weights_ready = state.weights_ready && before == state.description.weights_desc();
    }
    if (!state.weights_ready) {
      memory::dims dims{g.group_out, g.group_in, g.axes[0].kernel, g.axes[1].kernel};
      if (g.groups > 1) dims.insert(dims.begin(), g.groups);
      const memory::desc plain(dims, memory::data_type::f32, g.groups > 1 ? memory::format_tag::goihw : memory::format_tag::oihw);
      memory given(plain, engine(), unconst(w.bytes()));
      state.weights = memory(state.description.weights_desc(), engine());
      dnnl::reorder(given, state.weights).execute(stream, given, state.weights);
      stream.wait();
      state.weights_ready = ctx.constant_inputs.size() > 1 && ctx.constant_inputs[1];
    }
    Tensor y(DataType::kFloat32, {g.batch, g.axes[0].out, g.axes[1].out, g.groups * g.group_out});
    std::unordered_map<int, memory> arguments{
        {DNNL_ARG_SRC, memory(state.description.src_desc(), engine(), unconst(x.bytes()))},
        {DNNL_ARG_WEIGHTS, state.weights},
        {DNNL_ARG_DST, memory(state.description.dst_desc(), engine(), y.mutable_bytes())},
        {DNNL_ARG_SCRATCHPAD, state.scratchpad},
    };
    if (has_bias) arguments.emplace(DNNL_ARG_BIAS, memory(state.description.bias_desc(), engine(), unconst(ctx.input(2).bytes())));
    state.primitive.execute(stream, arguments);
    stream.wait();
    return y;
  } catch (const dnnl::error&) {
    state.declined = true;
    state.weights_ready = false;
    return std::nullopt;
  }
}

bool onednn_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const float* a, const float* b,
                 float* y) {
  if (m == 0 || n == 0 || k == 0) return false;
  return dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a, transpose_a ? m : k, b, transpose_b ? k : n, 0.0F, y, n) ==
         dnnl_success;
}

std::optional<Tensor> onednn_unary(const Node& node, const Tensor& x) {
  if (!node.domain.empty() || x.type() != DataType::kFloat32 || x.size() == 0) return std::nullopt;
  auto function = dnnl::algorithm::undef;
  if (node.op_type == "Sigmoid") function = dnnl::algorithm::eltwise_logistic;
  if (node.op_type == "Tanh") function = dnnl::algorithm::eltwise_tanh;
  if (function == dnnl::algorithm::undef) return std::nullopt;
  try {
    const memory::desc flat({x.size()}, memory::data_type::f32, memory::format_tag::x);
    // oneDNN keeps the primitives it made: making one of a known shape again is cheap.
    const dnnl::eltwise_forward::primitive_desc description({dnnl::prop_kind::forward_inference, function, flat, 0.0F, 0.0F}, engine());
    Tensor y(x.type(), x.shape());
    dnnl::stream stream(engine());
    dnnl::eltwise_forward(description)
        .execute(stream, {{DNNL_ARG_SRC, memory(flat, engine(), unconst(x.bytes()))}, {DNNL_ARG_DST, memory(flat, engine(), y.mutable_bytes())}});
    stream.wait();
    return y;
  } catch (const dnnl::error&) {
    return std::nullopt;
  }
}

OnednnThreads::OnednnThreads(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
OnednnThreads::~OnednnThreads() { omp_set_num_threads(before_); }

}  // namespace nibble::nn
