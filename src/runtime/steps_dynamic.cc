#include "runtime/steps_dynamic.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/fail.h"
#include "kernels/dynamic/dynamic.h"
#include "ops/fused_activation.h"
#include "quantize/window_geometry.h"
#include "runtime/plan_builder.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

constexpr std::int64_t kFloatBytes = sizeof(float);

bool is_product(const Node& node) { return node.op_type == "ConvInteger" || node.op_type == "MatMulInteger"; }

// The values of a constant of floats that is one number, or one a channel, broadcast against [.., channels, 1 ..] with `behind` axes behind
// the channels; repeated to one a channel.
std::optional<std::vector<float>> per_channel(const Tensor* tensor, std::int64_t channels, std::size_t behind) {
  if (tensor == nullptr || tensor->type() != DataType::kFloat32) return std::nullopt;
  const auto values = tensor->data<float>();
  if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) return std::nullopt;
  if (values.size() == 1) return std::vector<float>(index(static_cast<std::int32_t>(channels)), values[0]);
  const Shape& shape = tensor->shape();
  if (tensor->size() != channels || shape.size() <= behind || shape[shape.size() - 1 - behind] != channels) return std::nullopt;
  return std::vector<float>(values.begin(), values.end());
}

// A place for one FloatRange a thread, and what it holds in all.
kernels::FloatRange* ranges_at(const RunContext& run, const Ref& ref) { return reinterpret_cast<kernels::FloatRange*>(run.ptr(ref)); }

kernels::FloatRange merged(const RunContext& run, const Ref& ref, int threads) {
  kernels::FloatRange all;
  for (int t = 0; t < threads; ++t) kernels::merge(all, ranges_at(run, ref)[t]);
  return all;
}

void clear_ranges(const RunContext& run, const Ref& ref, int threads) { std::fill_n(ranges_at(run, ref), threads, kernels::FloatRange{}); }

float* floats_at(const RunContext& run, const Ref& ref) { return reinterpret_cast<float*>(run.ptr(ref)); }

[[noreturn]] void fail_not_finite(const std::string& name, float value) {
  fail(ErrorCode::kInvalidModel, "node '{}' (DynamicQuantizeLinear): the input holds {}; a range needs finite numbers", name, value);
}

// Weight zero points as int8 weights have them; none if all are 0.
std::optional<std::vector<std::int32_t>> weight_zero_points(const Tensor* tensor, DataType type, std::int64_t channels) {
  std::vector<std::int32_t> result;
  if (tensor != nullptr) {
    if (tensor->type() != type || (tensor->size() != 1 && tensor->size() != channels)) return std::nullopt;
    for (std::int64_t i = 0; i < tensor->size(); ++i) {
      if (type == DataType::kInt8)
        result.push_back(tensor->data<std::int8_t>()[static_cast<std::size_t>(i)]);
      else
        result.push_back(tensor->data<std::uint8_t>()[static_cast<std::size_t>(i)] - 128);
    }
  } else if (type == DataType::kUInt8) {
    result.push_back(-128);
  }
  if (std::all_of(result.begin(), result.end(), [](std::int32_t z) { return z == 0; })) result.clear();
  return result;
}

}  // namespace

Prepared prepare_integer_product(const Program::Impl& program, const Node& node) {
  const Graph& graph = program.model.graph;
  const auto constant_at = [&](std::size_t i) -> const Tensor* {
    const ValueId v = node.input(i);
    return v == kNoValue || !graph.value(v).constant ? nullptr : &*graph.value(v).constant;
  };
  const Tensor* w = constant_at(1);
  if (w == nullptr || (w->type() != DataType::kInt8 && w->type() != DataType::kUInt8) || w->size() == 0) return {};
  if (node.input(3) != kNoValue && constant_at(3) == nullptr) return {};
  const auto* data = reinterpret_cast<const std::int8_t*>(w->bytes());
  const std::uint8_t flip = w->type() == DataType::kUInt8 ? 0x80 : 0;
  const Shape& shape = w->shape();
  if (node.op_type == "MatMulInteger") {
    if (shape.size() != 2) return {};
    const auto zero_points = weight_zero_points(constant_at(3), w->type(), shape[1]);
    if (!zero_points) return {};
    kernels::GemmWeights weights;
    weights.n = shape[1];
    weights.k = shape[0];
    weights.wei = data;
    weights.stride_k = shape[1];
    weights.flip = flip;
    weights.zero_points = *zero_points;
    return PreparedGemm{.packed = kernels::pack_gemm(weights, program.isa), .requantize = {}};
  }
  const std::int64_t groups = node.get_int("group", 1);
  if (shape.size() < 3 || shape.size() > 4 || groups < 1 || shape[0] % groups != 0) return {};
  const auto zero_points = weight_zero_points(constant_at(3), w->type(), shape[0]);
  if (!zero_points) return {};
  const std::size_t rank = shape.size() - 2;
  kernels::ConvShape conv;
  conv.groups = groups;
  conv.out_channels = shape[0];
  conv.in_channels = shape[1] * groups;
  conv.kernel_w = shape.back();
  if (rank == 2) conv.kernel_h = shape[2];
  for (const char* name : {"strides", "dilations"}) {
    const auto values = node.get_ints(name);
    if (!values || values->empty()) continue;
    if (values->size() != rank || std::any_of(values->begin(), values->end(), [](std::int64_t v) { return v < 1; })) return {};
    const bool strides = std::string_view(name) == "strides";
    (strides ? conv.stride_w : conv.dilation_w) = values->back();
    if (rank == 2) (strides ? conv.stride_h : conv.dilation_h) = values->front();
  }
  const kernels::ConvWeights weights{.wei = data, .flip = flip, .zero_points = *zero_points};
  if (groups == conv.in_channels && groups == conv.out_channels && groups > 1)
    return PreparedDepthwise{.packed = kernels::pack_depthwise(conv, weights, program.isa), .requantize = {}};
  return PreparedConv{.packed = kernels::pack_conv(conv, weights, program.isa), .requantize = {}};
}

void DynamicLowering::find_readers(const PlanBuilder& plan) {
  if (ready_) return;
  ready_ = true;
  const Graph& graph = plan.model().graph;
  readers_.resize(graph.values().size());
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n)
    for (const ValueId v : graph.node(n).inputs)
      if (v != kNoValue) readers_[index(v)].push_back(n);
  for (const ValueId v : graph.outputs()) readers_[index(v)].push_back(kNoNode);
}

NodeId DynamicLowering::only_reader(const PlanBuilder&, ValueId v) const {
  return v != kNoValue && readers_[index(v)].size() == 1 ? readers_[index(v)][0] : kNoNode;
}

// A Relu or Clip that alone reads `output`.
void DynamicLowering::match_clip(const PlanBuilder& plan, ValueId& output, std::vector<NodeId>& nodes, float& lo, float& hi) const {
  const NodeId id = only_reader(plan, output);
  if (id == kNoNode || std::isfinite(lo) || std::isfinite(hi)) return;
  const Node& node = plan.model().graph.node(id);
  if (node.op_type == "Relu") {
    lo = 0;
  } else if (node.op_type == "Clip" && node.input(0) == output) {
    float bounds[2] = {lo, hi};
    for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) {
      const char* name = i == 1 ? "min" : "max";
      if (node.input(i) != kNoValue) {
        const Tensor* bound = plan.known(node.input(i));
        if (bound == nullptr || bound->type() != DataType::kFloat32 || bound->size() != 1) return;
        bounds[i - 1] = bound->data<float>()[0];
      } else if (node.has(name)) {
        bounds[i - 1] = static_cast<float>(node.get_float(name, 0));
      }
    }
    if (std::isnan(bounds[0]) || std::isnan(bounds[1])) return;
    lo = bounds[0];
    hi = bounds[1];
  } else {
    return;
  }
  output = node.output(0);
  nodes.push_back(id);
}

std::optional<DynamicLowering::Layer> DynamicLowering::match(const PlanBuilder& plan, NodeId product, ValueId scale) const {
  const Graph& graph = plan.model().graph;
  const Node& node = graph.node(product);
  const Prepared& prepared = plan.program().prepared[index(product)];
  if (std::holds_alternative<std::monostate>(prepared)) return std::nullopt;
  const bool conv = node.op_type == "ConvInteger";
  const Shape& w = graph.value(node.input(1)).constant->shape();
  const std::int64_t channels = conv ? w[0] : w[1];
  const std::size_t behind = conv ? w.size() - 2 : 0;
  Layer layer;
  layer.layout = conv ? Layout::kChannelsLast : Layout::kPlain;
  layer.lo = -std::numeric_limits<float>::infinity();
  layer.hi = std::numeric_limits<float>::infinity();

  const NodeId cast = only_reader(plan, node.output(0));
  if (cast == kNoNode || graph.node(cast).op_type != "Cast" || graph.node(cast).get_int("to", 0) != 1) return std::nullopt;
  const NodeId mul = only_reader(plan, graph.node(cast).output(0));
  if (mul == kNoNode || graph.node(mul).op_type != "Mul") return std::nullopt;
  const ValueId real = graph.node(cast).output(0);
  layer.scales = graph.node(mul).input(graph.node(mul).input(0) == real ? 1 : 0);
  if (only_reader(plan, layer.scales) != mul) return std::nullopt;
  const NodeId scales = graph.value(layer.scales).producer;
  if (scales == kNoNode || graph.node(scales).op_type != "Mul" || fused_activation(graph.node(scales)).present) return std::nullopt;
  const Node& product_of_scales = graph.node(scales);
  if (product_of_scales.input(0) != scale && product_of_scales.input(1) != scale) return std::nullopt;
  const ValueId other = product_of_scales.input(product_of_scales.input(0) == scale ? 1 : 0);
  auto wei_scale = per_channel(plan.known(other), channels, behind);
  if (!wei_scale) return std::nullopt;
  layer.wei_scale = std::move(*wei_scale);
  layer.nodes = {cast, mul, scales};
  layer.output = graph.node(mul).output(0);
  FusedActivation activation = fused_activation(graph.node(mul));

  const NodeId add = only_reader(plan, layer.output);
  if (!activation.present && add != kNoNode && graph.node(add).op_type == "Add") {
    const ValueId bias = graph.node(add).input(graph.node(add).input(0) == layer.output ? 1 : 0);
    const Tensor* known = plan.known(bias);
    // A bias of more axes than the product would change the shape.
    const std::size_t most = conv ? w.size() : 1;
    if (auto values = per_channel(known, channels, behind); values && known->shape().size() <= most) {
      layer.bias = std::move(*values);
      layer.nodes.push_back(add);
      layer.output = graph.node(add).output(0);
      activation = fused_activation(graph.node(add));
    }
  }
  if (activation.present) {
    layer.lo = activation.low;
    layer.hi = activation.high;
  }
  match_clip(plan, layer.output, layer.nodes, layer.lo, layer.hi);
  return layer;
}

bool DynamicLowering::lower(PlanBuilder& plan, NodeId id) {
  const Node& node = plan.model().graph.node(id);
  if (!plan.may_fuse()) return false;
  if (node.op_type == "DynamicQuantizeLinear") return lower_quantize(plan, id);
  if (const auto found = layers_.find(id); found != layers_.end()) {
    lower_product(plan, id, found->second);
    return true;
  }
  return node.op_type == "Add" && !reals_.empty() && lower_sum(plan, id);
}

bool DynamicLowering::lower_quantize(PlanBuilder& plan, NodeId id) {
  find_readers(plan);
  const Graph& graph = plan.model().graph;
  const Node& node = graph.node(id);
  const ValueId x = node.input(0);
  const ValueId q = node.output(0), s = node.output(1), z = node.output(2);
  if (s == kNoValue || z == kNoValue || plan.known(x) != nullptr) return false;
  // Every reader of the codes is a layer, and nobody else reads the scale and the zero point.
  std::map<NodeId, Layer> layers;
  for (const NodeId reader : readers_[index(q)]) {
    if (reader == kNoNode || !is_product(graph.node(reader))) return false;
    const Node& product = graph.node(reader);
    if (product.input(0) != q || product.input(1) == q || product.input(2) != z) return false;
    auto layer = match(plan, reader, s);
    if (!layer) return false;
    // A constant of more axes than the product gives the result more axes, too.
    if (plan.shape(product, layer->output) != plan.shape(product, product.output(0))) return false;
    layers[reader] = std::move(*layer);
  }
  if (layers.empty() || readers_[index(z)].size() != layers.size() || readers_[index(s)].size() != layers.size()) return false;
  const Layout layout = layers.begin()->second.layout;
  if (std::any_of(layers.begin(), layers.end(), [&](const auto& l) { return l.second.layout != layout; })) return false;
  const Shape shape = plan.shape(node, x);
  if (shape.size() < 2 || (layout == Layout::kChannelsLast && shape.size() > 4)) return false;

  const auto found = reals_.find(x);
  const bool is_real = found != reals_.end() && found->second.layout == layout;
  if (found != reals_.end() && !is_real) need_tensor(plan, node, x);
  const std::int64_t size = element_count(shape);
  const Extents e = extents_of(shape);
  const kernels::Isa isa = plan.isa();
  const int threads = plan.threads();
  const Ref ranges = is_real ? found->second.ranges : plan.temporary(threads * static_cast<std::int64_t>(sizeof(kernels::FloatRange)));
  const Ref codes = plan.temporary(size);
  const Ref grid = plan.temporary(sizeof(kernels::Grid8));
  const std::string name = node.name;
  const std::int64_t grain = plan.grain(size, 0.2);
  if (is_real) {
    const Ref data = found->second.data;
    plan.keep(data);
    plan.keep(ranges);
    plan.add_step(node, kernels::quantize_kernel_name(isa), 0, [=](const RunContext& run) {
      const kernels::FloatRange range = merged(run, ranges, threads);
      if (!std::isfinite(range.min) || !std::isfinite(range.max)) fail_not_finite(name, std::isfinite(range.min) ? range.max : range.min);
      const kernels::Grid8 g = kernels::dynamic_grid(range);
      *reinterpret_cast<kernels::Grid8*>(run.ptr(grid)) = g;
      const float* src = floats_at(run, data);
      std::uint8_t* dst = run.ptr(codes);
      run.pool->parallel_for(size, grain, [&](std::int64_t begin, std::int64_t end) {
        kernels::quantize_linear(isa, g, src + begin, dst + begin, end - begin);
      });
    });
  } else {
    const bool moved = layout == Layout::kChannelsLast && !layouts_agree(shape);
    const std::int64_t n = moved ? e.batch * e.pixels : size;
    const std::int64_t pixel_grain = plan.grain(n, moved ? static_cast<double>(e.channels) * 0.3 : 0.2);
    plan.add_step(node, kernels::quantize_kernel_name(isa), 0, [=](const RunContext& run) {
      const Tensor& tensor = (*run.tensors)[index(x)];
      if (tensor.type() != DataType::kFloat32 || tensor.size() != size)
        fail(ErrorCode::kInvalidModel, "node '{}' (DynamicQuantizeLinear): found {}{} where float32{} was planned", name,
             to_string(tensor.type()), to_string(tensor.shape()), to_string(shape));
      const float* src = tensor.data<float>().data();
      clear_ranges(run, ranges, threads);
      run.pool->parallel_for(size, grain, [&](std::int64_t begin, std::int64_t end, int thread) {
        kernels::FloatRange part;
        kernels::min_max(isa, src + begin, end - begin, &part.min, &part.max);
        // A NaN leaves no trace in a minimum; times 0 it, like an infinity, is all that is not 0.
        bool finite = true;
        for (std::int64_t i = begin; i < end; ++i) finite &= src[i] * 0.0F == 0.0F;
        if (!finite) part.max = std::numeric_limits<float>::infinity();
        kernels::merge(ranges_at(run, ranges)[thread], part);
      });
      const kernels::FloatRange range = merged(run, ranges, threads);
      if (!std::isfinite(range.max)) fail_not_finite(name, *std::find_if(src, src + size, [](float v) { return !std::isfinite(v); }));
      const kernels::Grid8 g = kernels::dynamic_grid(range);
      *reinterpret_cast<kernels::Grid8*>(run.ptr(grid)) = g;
      std::uint8_t* dst = run.ptr(codes);
      run.pool->parallel_for(n, pixel_grain, [&](std::int64_t begin, std::int64_t end) {
        if (moved)
          kernels::quantize_nchw_to_nhwc(isa, g, src, e.channels, e.pixels, dst, e.channels, begin, end);
        else
          kernels::quantize_linear(isa, g, src + begin, dst + begin, end - begin);
      });
    });
  }
  for (auto& [product, layer] : layers) {
    layer.codes = codes;
    layer.grid = grid;
    for (const NodeId part : layer.nodes) plan.set_done(part);
    layers_[product] = std::move(layer);
  }
  return true;
}

void DynamicLowering::lower_product(PlanBuilder& plan, NodeId id, const Layer& layer) {
  const Node& node = plan.model().graph.node(id);
  const Shape x = plan.shape(node, node.input(0));
  const Shape y = plan.shape(node, node.output(0));
  const int threads = plan.threads();
  const std::int64_t size = element_count(y);
  const auto channels = static_cast<std::int64_t>(layer.wei_scale.size());
  const Ref codes = layer.codes;
  const Ref grid = layer.grid;
  plan.keep(codes);
  plan.keep(grid);
  const Ref multipliers = plan.temporary(channels * kFloatBytes);
  Real real{.data = plan.temporary(size * kFloatBytes),
            .ranges = plan.temporary(threads * static_cast<std::int64_t>(sizeof(kernels::FloatRange))),
            .layout = layer.layout,
            .shape = y};
  const Ref data = real.data;
  const Ref ranges = real.ranges;
  const auto shared = plan.own(Layer(layer));
  const auto begin_step = [=](const RunContext& run) {
    clear_ranges(run, ranges, threads);
    const kernels::Grid8 g = *reinterpret_cast<const kernels::Grid8*>(run.ptr(grid));
    float* multiplier = floats_at(run, multipliers);
    for (std::size_t c = 0; c < shared->wei_scale.size(); ++c) multiplier[c] = g.scale * shared->wei_scale[c];
    const kernels::DequantizeCall call{.multiplier = multiplier,
                                       .bias = shared->bias.empty() ? nullptr : shared->bias.data(),
                                       .lo = shared->lo,
                                       .hi = shared->hi,
                                       .dst = floats_at(run, data),
                                       .ld_dst = static_cast<std::int64_t>(shared->wei_scale.size())};
    return std::pair(g, call);
  };

  if (const auto* gemm = std::get_if<PreparedGemm>(&plan.program().prepared[index(id)])) {
    const auto* packed = &gemm->packed;
    const std::int64_t k = packed->k;
    if (x.empty() || x.back() != k)
      fail(ErrorCode::kInvalidModel, "node '{}' (MatMulInteger): input {} does not fit a weight of {} rows", node.name, to_string(x), k);
    const std::int64_t rows = k > 0 ? element_count(x) / k : 0;
    const Ref bias = plan.temporary((channels + kernels::kChannelSlack) * static_cast<std::int64_t>(sizeof(std::int32_t)));
    plan.need_scratch(kernels::dynamic_scratch_bytes(*packed));
    const std::int64_t grain = plan.grain(rows, static_cast<double>(channels * k) / 300.0);
    plan.add_step(node, kernels::gemm_kernel_name(plan.isa(), rows, channels, k), rows * k * channels, [=](const RunContext& run) {
      const auto [g, call] = begin_step(run);
      auto* const folded = reinterpret_cast<std::int32_t*>(run.ptr(bias));
      kernels::fold_bias(*packed, g.zero_point, folded);
      kernels::GemmCall c;
      c.src = run.in(codes);
      c.ld_src = k;
      c.rows = rows;
      c.bias = folded;
      run.pool->parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end, int thread) {
        kernels::qgemm_dynamic(*packed, c, call, begin, end, run.scratch_of(thread), &ranges_at(run, ranges)[thread]);
      });
    });
  } else {
    const Window w = conv_window(node, x, plan.model().graph.value(node.input(1)).constant->shape());
    const std::size_t rank = w.input.size();
    kernels::ConvCall call;
    call.ld_src = x[1];
    call.batch = x[0];
    call.in_w = w.input.back();
    call.out_w = w.output.back();
    if (rank == 2) {
      call.in_h = w.input[0];
      call.out_h = w.output[0];
    }
    call.dynamic_zero_point = true;
    const auto set_pads = [&](kernels::ConvShape& shape) {
      shape.pad_left = w.pad_begin.back();
      if (rank == 2) shape.pad_top = w.pad_begin[0];
    };
    const std::int64_t pixels = call.batch * call.out_h * call.out_w;
    const auto run_product = [&](auto packed, std::int64_t units, std::int64_t scratch, double cost, std::string kernel, auto function) {
      plan.need_scratch(scratch);
      const std::int64_t grain = plan.grain(units, cost);
      const kernels::ConvShape& s = packed.shape;
      const std::int64_t macs = pixels * s.out_channels * (s.in_channels / s.groups) * s.kernel_h * s.kernel_w;
      const auto kept = plan.own(std::move(packed));
      plan.add_step(node, std::move(kernel), macs, [=](const RunContext& run) {
        const auto [g, to] = begin_step(run);
        const kernels::DequantizeCall& real_call = to;
        kernels::ConvCall c = call;
        c.src = run.in(codes);
        c.src_zero_point = g.zero_point;
        run.pool->parallel_for(units, grain, [&](std::int64_t begin, std::int64_t end, int thread) {
          function(*kept, c, real_call, begin, end, run.scratch_of(thread), &ranges_at(run, ranges)[thread]);
        });
      });
    };
    if (const auto* depthwise = std::get_if<PreparedDepthwise>(&plan.program().prepared[index(id)])) {
      kernels::PackedDepthwise packed = depthwise->packed;
      set_pads(packed.shape);
      const double cost = static_cast<double>(channels * packed.shape.kernel_h * packed.shape.kernel_w * call.out_w) / 50.0;
      const std::int64_t scratch = kernels::dynamic_scratch_bytes(packed, call.in_w, call.out_w);
      run_product(packed, call.batch * call.out_h, scratch, cost, kernels::depthwise_kernel_name(packed), kernels::qconv_depthwise_dynamic);
    } else {
      kernels::PackedConv packed = std::get<PreparedConv>(plan.program().prepared[index(id)]).packed;
      set_pads(packed.shape);
      const kernels::ConvShape& s = packed.shape;
      const double cost = static_cast<double>(s.in_channels / s.groups * s.kernel_h * s.kernel_w * channels) / 300.0;
      const std::int64_t scratch = kernels::dynamic_scratch_bytes(packed);
      run_product(packed, pixels, scratch, cost, kernels::conv_kernel_name(packed, pixels), kernels::qconv_dynamic);
    }
  }
  reals_[layer.output] = std::move(real);
}

bool DynamicLowering::lower_sum(PlanBuilder& plan, NodeId id) {
  const Node& node = plan.model().graph.node(id);
  const auto a = reals_.find(node.input(0));
  const auto b = reals_.find(node.input(1));
  if (a == reals_.end() || b == reals_.end() || a->second.shape != b->second.shape || a->second.layout != b->second.layout) return false;
  const FusedActivation activation = fused_activation(node);
  float lo = activation.present ? activation.low : -std::numeric_limits<float>::infinity();
  float hi = activation.present ? activation.high : std::numeric_limits<float>::infinity();
  ValueId output = node.output(0);
  std::vector<NodeId> nodes;
  match_clip(plan, output, nodes, lo, hi);
  for (const NodeId part : nodes) plan.set_done(part);
  const int threads = plan.threads();
  const std::int64_t size = element_count(a->second.shape);
  Real real{.data = plan.temporary(size * kFloatBytes),
            .ranges = plan.temporary(threads * static_cast<std::int64_t>(sizeof(kernels::FloatRange))),
            .layout = a->second.layout,
            .shape = a->second.shape};
  const Ref left = a->second.data, right = b->second.data, dst = real.data, ranges = real.ranges;
  plan.keep(left);
  plan.keep(right);
  const kernels::Isa isa = plan.isa();
  const std::int64_t grain = plan.grain(size, 0.2);
  plan.add_step(node, "add_reals", 0, [=](const RunContext& run) {
    clear_ranges(run, ranges, threads);
    run.pool->parallel_for(size, grain, [&](std::int64_t begin, std::int64_t end, int thread) {
      kernels::add_reals(isa, floats_at(run, left) + begin, floats_at(run, right) + begin, lo, hi, floats_at(run, dst) + begin, end - begin,
                         &ranges_at(run, ranges)[thread]);
    });
  });
  reals_[output] = std::move(real);
  return true;
}

void DynamicLowering::need_tensor(PlanBuilder& plan, const Node& reader, ValueId v) {
  const auto found = reals_.find(v);
  if (found == reals_.end() || found->second.has_tensor) return;
  found->second.has_tensor = true;
  const Ref data = found->second.data;
  const Shape shape = found->second.shape;
  const Extents e = extents_of(shape);
  const bool moved = found->second.layout == Layout::kChannelsLast && !layouts_agree(shape);
  plan.keep(data);
  plan.produce(v);
  plan.add_step(reader, "real_to_tensor", 0, [=](const RunContext& run) {
    Tensor out(DataType::kFloat32, shape);
    float* dst = out.mutable_data<float>().data();
    const float* src = floats_at(run, data);
    if (!moved) {
      std::copy_n(src, out.size(), dst);
    } else {
      for (std::int64_t b = 0; b < e.batch; ++b)
        for (std::int64_t c = 0; c < e.channels; ++c)
          for (std::int64_t p = 0; p < e.pixels; ++p) dst[(b * e.channels + c) * e.pixels + p] = src[(b * e.pixels + p) * e.channels + c];
    }
    (*run.tensors)[index(v)] = std::move(out);
  });
}

}  // namespace nibble
