#include "ops/onednn.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <dnnl.hpp>
#include <unordered_map>
#include <vector>

namespace nibble::nn {
namespace {

using dnnl::memory;

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

// A pointer that oneDNN takes without const; sources are only read.
void* unconst(const void* p) { return const_cast<void*>(p); }

// A part of a convolution's output, computed by one thread: some samples, or some rows of one sample.
struct Piece {
  ConvGeometry geometry;                              // of the part alone
  std::int64_t source_offset = 0, result_offset = 0;  // in floats
  dnnl::convolution_forward::primitive_desc description = {};
  dnnl::convolution_forward primitive = {};
  memory weights = {};
  memory scratchpad = {};
};

struct ConvState : OpState {
  Shape source;  // the shape that the pieces were made for
  bool declined = false;
  std::vector<Piece> pieces;
  std::vector<memory> weights;  // in each order that a piece asked for
};

memory::dims spatial(const ConvGeometry& g, std::int64_t WindowAxis::*member, std::int64_t less = 0) {
  memory::dims result;
  for (const WindowAxis& axis : g.axes) result.push_back(axis.*member - less);
  return result;
}

// oneDNN gets one thread everywhere; the work is shared out over our own pool, whose threads sleep when idle (OpenMP's would spin, and take
// the processor from the loops between two convolutions).
std::vector<Piece> cut(const ConvGeometry& g, std::int64_t threads) {
  std::vector<Piece> pieces;
  const WindowAxis& rows = g.axes[0];
  const std::int64_t in_row = g.axes[1].in * g.groups * g.group_in, out_row = g.axes[1].out * g.groups * g.group_out;
  if (g.batch > 1) {
    const std::int64_t count = std::min(threads, g.batch);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t first = g.batch * i / count, last = g.batch * (i + 1) / count;
      Piece piece{.geometry = g, .source_offset = first * rows.in * in_row, .result_offset = first * rows.out * out_row};
      piece.geometry.batch = last - first;
      pieces.push_back(std::move(piece));
    }
    return pieces;
  }
  const std::int64_t count = std::min(threads, rows.out);
  for (std::int64_t i = 0; i < count && count > 1; ++i) {
    const std::int64_t first = rows.out * i / count, last = rows.out * (i + 1) / count;
    const std::int64_t start = first * rows.stride - rows.pad_begin, end = (last - 1) * rows.stride - rows.pad_begin + rows.extent();
    const std::int64_t from = std::max<std::int64_t>(start, 0), to = std::min(end, rows.in);
    if (from >= to) return {Piece{.geometry = g}};  // a part that sees nothing but padding
    Piece piece{.geometry = g, .source_offset = from * in_row, .result_offset = first * out_row};
    WindowAxis& axis = piece.geometry.axes[0];
    axis.in = to - from;
    axis.out = last - first;
    axis.pad_begin = from - start;
    axis.pad_end = end - to;
    pieces.push_back(std::move(piece));
  }
  if (pieces.empty()) pieces.push_back(Piece{.geometry = g});
  return pieces;
}

// Each piece chooses its own order of the weights: one that another has chosen may leave it without a fast kernel.
void prepare(Piece& piece, const memory::desc& weights, bool has_bias, const FusedActivation& activation) {
  const ConvGeometry& g = piece.geometry;
  const auto type = memory::data_type::f32;
  const memory::desc source({g.batch, g.groups * g.group_in, g.axes[0].in, g.axes[1].in}, type, memory::format_tag::nhwc);
  const memory::desc result({g.batch, g.groups * g.group_out, g.axes[0].out, g.axes[1].out}, type, memory::format_tag::nhwc);
  const memory::desc bias = has_bias ? memory::desc({g.groups * g.group_out}, type, memory::format_tag::x) : memory::desc();
  const dnnl::convolution_forward::desc op(dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, source, weights, bias,
                                           result, spatial(g, &WindowAxis::stride), spatial(g, &WindowAxis::dilation, 1),
                                           spatial(g, &WindowAxis::pad_begin), spatial(g, &WindowAxis::pad_end));
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (activation.present) {
    dnnl::post_ops post;
    if (activation.low == 0.0F && std::isinf(activation.high))
      post.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
    else
      post.append_eltwise(1.0F, dnnl::algorithm::eltwise_clip, activation.low, activation.high);
    attributes.set_post_ops(post);
  }
  piece.description = dnnl::convolution_forward::primitive_desc(op, attributes, engine());
  piece.primitive = dnnl::convolution_forward(piece.description);
  piece.scratchpad = memory(piece.description.scratchpad_desc(), engine());
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
  try {
    memory::dims weight_dims{g.group_out, g.group_in, g.axes[0].kernel, g.axes[1].kernel};
    if (g.groups > 1) weight_dims.insert(weight_dims.begin(), g.groups);
    const auto type = memory::data_type::f32;
    if (state.source != x.shape()) {
      state.source = x.shape();
      state.declined = false;
      state.pieces = cut(g, ctx.pool != nullptr ? ctx.pool->threads() : 1);
      for (Piece& piece : state.pieces) prepare(piece, memory::desc(weight_dims, type, memory::format_tag::any), has_bias, activation);
    }
    if (ctx.constant_inputs.size() < 2 || !ctx.constant_inputs[1]) state.weights.clear();
    memory given(memory::desc(weight_dims, type, g.groups > 1 ? memory::format_tag::goihw : memory::format_tag::oihw), engine(),
                 unconst(w.bytes()));
    for (Piece& piece : state.pieces) {
      const memory::desc wanted = piece.description.weights_desc();
      auto ready = std::find_if(state.weights.begin(), state.weights.end(), [&](const memory& m) { return m.get_desc() == wanted; });
      if (ready == state.weights.end()) {
        memory ordered(wanted, engine());
        dnnl::stream stream(engine());
        dnnl::reorder(given, ordered).execute(stream, given, ordered);
        stream.wait();
        ready = state.weights.insert(state.weights.end(), ordered);
      }
      piece.weights = *ready;
    }
    Tensor y(DataType::kFloat32, {g.batch, g.axes[0].out, g.axes[1].out, g.groups * g.group_out});
    const float* source = x.data<float>().data();
    float* result = y.mutable_data<float>().data();
    parallel_for(ctx.pool, std::ssize(state.pieces), 1, [&](std::int64_t begin, std::int64_t end) {
      const OnednnThreads one_thread(1);
      dnnl::stream stream(engine());
      for (std::int64_t i = begin; i < end; ++i) {
        const Piece& piece = state.pieces[static_cast<std::size_t>(i)];
        std::unordered_map<int, memory> arguments{
            {DNNL_ARG_SRC, memory(piece.description.src_desc(), engine(), unconst(source + piece.source_offset))},
            {DNNL_ARG_WEIGHTS, piece.weights},
            {DNNL_ARG_DST, memory(piece.description.dst_desc(), engine(), result + piece.result_offset)},
            {DNNL_ARG_SCRATCHPAD, piece.scratchpad},
        };
        if (has_bias) arguments.emplace(DNNL_ARG_BIAS, memory(piece.description.bias_desc(), engine(), unconst(ctx.input(2).bytes())));
        piece.primitive.execute(stream, arguments);
        stream.wait();
      }
    });
    return y;
  } catch (const dnnl::error&) {
    state.declined = true;
    state.weights.clear();
    return std::nullopt;
  }
}

bool onednn_gemm(ThreadPool* pool, bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
                 const float* a, const float* b, float* y) {
  if (m == 0 || n == 0 || k == 0) return false;
  constexpr std::int64_t kWorthSharing = 1 << 18;  // products
  const std::int64_t threads = pool != nullptr ? pool->threads() : 1;
  const bool by_rows = m >= n;
  const std::int64_t length = by_rows ? m : n;
  const std::int64_t count =
      static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) < kWorthSharing ? 1 : std::min(threads, length);
  std::vector<dnnl_status_t> status(static_cast<std::size_t>(count), dnnl_success);
  const auto part = [&](std::int64_t i) {
    const std::int64_t first = length * i / count, size = length * (i + 1) / count - first;
    const float* part_a = by_rows ? a + (transpose_a ? first : first * k) : a;
    const float* part_b = by_rows ? b : b + (transpose_b ? first * k : first);
    status[static_cast<std::size_t>(i)] =
        dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', by_rows ? size : m, by_rows ? n : size, k, alpha, part_a,
                   transpose_a ? m : k, part_b, transpose_b ? k : n, 0.0F, y + (by_rows ? first * n : first), n);
  };
  parallel_for(count > 1 ? pool : nullptr, count, 1, [&](std::int64_t begin, std::int64_t end) {
    const OnednnThreads one_thread(1);
    for (std::int64_t i = begin; i < end; ++i) part(i);
  });
  return std::all_of(status.begin(), status.end(), [](dnnl_status_t s) { return s == dnnl_success; });
}

std::optional<Tensor> onednn_unary(ThreadPool* pool, const Node& node, const Tensor& x) {
  if (!node.domain.empty() || x.type() != DataType::kFloat32 || x.size() == 0) return std::nullopt;
  auto function = dnnl::algorithm::undef;
  if (node.op_type == "Sigmoid") function = dnnl::algorithm::eltwise_logistic;
  if (node.op_type == "Tanh") function = dnnl::algorithm::eltwise_tanh;
  if (function == dnnl::algorithm::undef) return std::nullopt;
  try {
    Tensor y(x.type(), x.shape());
    const float* in = x.data<float>().data();
    float* out = y.mutable_data<float>().data();
    constexpr std::int64_t kGrain = 1 << 16;
    parallel_for(pool, x.size(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      const OnednnThreads one_thread(1);
      // oneDNN keeps the primitives it made: making one of a known size again is cheap.
      const memory::desc flat({end - begin}, memory::data_type::f32, memory::format_tag::x);
      const dnnl::eltwise_forward::primitive_desc description({dnnl::prop_kind::forward_inference, function, flat, 0.0F, 0.0F}, engine());
      dnnl::stream stream(engine());
      dnnl::eltwise_forward(description)
          .execute(stream,
                   {{DNNL_ARG_SRC, memory(flat, engine(), unconst(in + begin))}, {DNNL_ARG_DST, memory(flat, engine(), out + begin)}});
      stream.wait();
    });
    return y;
  } catch (const dnnl::error&) {
    return std::nullopt;
  }
}

OnednnThreads::OnednnThreads(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
OnednnThreads::~OnednnThreads() { omp_set_num_threads(before_); }

}  // namespace nibble::nn
