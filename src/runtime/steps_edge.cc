// The edges between floats and integers.
#include "base/fail.h"
#include "kernels/quantize_linear/quantize_linear.h"
#include "numeric/quantize.h"
#include "quantize/weights.h"
#include "runtime/plan_builder.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

// Integers of more bits than the kernels take: the scalar law, tensor to tensor.
void quantize_wide(PlanBuilder& plan, const Node& node) {
  const ValueId x = node.input(0);
  const ValueId q = node.output(0);
  const Tensor* constant = plan.constant(x);
  const QuantParams* params = &plan.params(q);
  const std::string name = node.name;
  plan.produce(q);
  plan.add_step(node, "quantize_wide", 0, [=](const RunContext& run) {
    const Tensor& tensor = constant != nullptr ? *constant : (*run.tensors)[index(x)];
    if (tensor.type() != DataType::kFloat32)
      fail(ErrorCode::kInvalidModel, "node '{}' (QuantizeLinear): its input is {}, not float32", name, to_string(tensor.type()));
    (*run.tensors)[index(q)] = quantize_tensor(tensor, *params);
  });
}

void dequantize_wide(PlanBuilder& plan, const Node& node) {
  const ValueId q = node.input(0);
  const ValueId x = node.output(0);
  const QuantParams* params = &plan.params(q);
  plan.produce(x);
  plan.add_step(node, "dequantize_wide", 0, [=](const RunContext& run) {
    const Tensor& tensor = (*run.tensors)[index(q)];
    Tensor out(DataType::kFloat32, tensor.shape());
    dequantize(codes_of(tensor), tensor.shape(), *params, out.mutable_data<float>());
    (*run.tensors)[index(x)] = std::move(out);
  });
}

}  // namespace

void lower_quantize(PlanBuilder& plan, const Node& node) {
  if (!plan.is_stored(node.output(0))) return quantize_wide(plan, node);
  const ValueId x = node.input(0);
  const ValueId q = node.output(0);
  const Shape shape = plan.shape(node, q);
  const Extents e = extents_of(shape);
  const bool last = shape.size() > 2 && plan.wants_channels_last(q);
  const bool moved = last && !layouts_agree(shape);
  const Rows dst = moved ? plan.write_rows(node, q, Layout::kChannelsLast)
                         : Rows{.ref = plan.write(node, q, last ? Layout::kChannelsLast : Layout::kPlain), .ld = e.channels};
  const StoredGrid grid = stored_grid(plan.params(q));
  const kernels::Grid8 g{.scale = grid.scale, .zero_point = grid.zero_point, .qmin = grid.qmin, .qmax = grid.qmax};
  const kernels::Isa isa = plan.isa();
  const std::int64_t size = element_count(shape);
  const std::int64_t n = moved ? e.batch * e.pixels : size;
  const std::int64_t grain = plan.grain(n, moved ? static_cast<double>(e.channels) * 0.3 : 0.2);
  const Tensor* constant = plan.known(x);
  std::shared_ptr<const Tensor> kept = constant != nullptr ? plan.own(Tensor(*constant)) : nullptr;
  const std::string name = node.name;
  plan.add_step(node, kernels::quantize_kernel_name(isa), 0, [=](const RunContext& run) {
    const Tensor& tensor = kept ? *kept : (*run.tensors)[index(x)];
    if (tensor.type() != DataType::kFloat32 || tensor.size() != size)
      fail(ErrorCode::kInvalidModel, "node '{}' (QuantizeLinear): found {}{} where float32{} was planned", name, to_string(tensor.type()),
           to_string(tensor.shape()), to_string(shape));
    const float* src = tensor.data<float>().data();
    run.pool->parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
      if (moved)
        kernels::quantize_nchw_to_nhwc(isa, g, src, e.channels, e.pixels, run.ptr(dst.ref), dst.ld, begin, end);
      else
        kernels::quantize_linear(isa, g, src + begin, run.ptr(dst.ref) + begin, end - begin);
    });
  });
}

void lower_dequantize(PlanBuilder& plan, const Node& node) {
  const ValueId q = node.input(0);
  const ValueId x = node.output(0);
  if (plan.model().graph.is_constant(q)) {
    // The program has the reals already; readers that know it is a constant do not come here for them.
    const Tensor* real = plan.constant(x);
    plan.produce(x);
    plan.add_step(node, "constant", 0, [x, real](const RunContext& run) { (*run.tensors)[index(x)] = *real; });
    return;
  }
  if (!plan.is_stored(q)) return dequantize_wide(plan, node);
  const Shape shape = plan.shape(node, x);
  const Extents e = extents_of(shape);
  const Layout layout = plan.layout_of(q);
  const bool moved = layout == Layout::kChannelsLast && !layouts_agree(shape);
  const Rows src = moved ? plan.read_rows(node, q, layout) : Rows{.ref = plan.read(node, q, layout), .ld = 0};
  plan.produce(x);
  const StoredGrid grid = stored_grid(plan.params(q));
  const kernels::Isa isa = plan.isa();
  const std::int64_t size = element_count(shape);
  const std::int64_t n = moved ? e.pixels : size;
  const std::int64_t grain = plan.grain(n, moved ? static_cast<double>(e.channels) * 0.3 : 0.1);
  plan.add_step(node, kernels::dequantize_kernel_name(isa), 0, [=](const RunContext& run) {
    Tensor out(DataType::kFloat32, shape);
    float* dst = out.mutable_data<float>().data();
    const std::uint8_t* in = run.in(src.ref);
    if (moved) {
      for (std::int64_t image = 0; image < e.batch; ++image) {
        run.pool->parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
          kernels::dequantize_nhwc_to_nchw(isa, grid.scale, grid.zero_point, in + image * e.pixels * src.ld, src.ld, e.channels, e.pixels,
                                           dst + image * e.pixels * e.channels, begin, end);
        });
      }
    } else {
      run.pool->parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
        kernels::dequantize_linear(isa, grid.scale, grid.zero_point, in + begin, dst + begin, end - begin);
      });
    }
    (*run.tensors)[index(x)] = std::move(out);
  });
}

}  // namespace nibble
