// Matrix products: by packed weights, and of two activations.
#include <algorithm>

#include "base/fail.h"
#include "quantize/node_arithmetic.h"
#include "runtime/plan_builder.h"

namespace nibble {
namespace {

void lower_packed(PlanBuilder& plan, const Node& node, const PreparedGemm& prepared) {
  const Shape x = plan.shape(node, node.input(0));
  const Rows src = plan.read_rows(node, node.input(0), Layout::kPlain);
  const std::int64_t k = prepared.packed.k;
  const std::int64_t n = prepared.packed.n;
  if (x.empty() || x.back() != k)
    fail(ErrorCode::kInvalidModel, "node '{}' ({}): input {} does not fit a weight of {} rows", node.name, node.op_type, to_string(x), k);
  const auto sum = plan.write_sum(node, Layout::kPlain);
  const Rows dst = sum ? sum->dst : plan.write_rows(node, node.output(0), Layout::kPlain);
  kernels::GemmCall call;
  call.rows = element_count(std::span(x).first(x.size() - 1));
  call.ld_src = src.ld;
  call.ld_dst = dst.ld;
  call.requantize = prepared.requantize.view();
  Ref other;
  if (sum) {
    call.residual = sum->law;
    call.residual.ld_src = sum->other.ld;
    other = sum->other.ref;
  }
  const bool adds = sum.has_value();
  const std::int64_t panels = kernels::gemm_panels(prepared.packed);
  const std::int64_t rows = call.rows;
  const auto* packed = &prepared.packed;
  // Few rows and many weights: the columns are shared out instead (see steps_conv.cc).
  constexpr std::int64_t kMuch = 4;
  const double ns_a_row = static_cast<double>(n * k) / plan.macs_per_ns(std::max<std::int64_t>(rows, 1));
  const bool by_panels = n * k > kMuch * rows * (n + k);
  const std::int64_t grain =
      by_panels ? plan.grain(panels, ns_a_row * static_cast<double>(rows) / static_cast<double>(panels)) : plan.grain(rows, ns_a_row);
  plan.add_step(node, kernels::gemm_kernel_name(plan.isa(), rows, n, k), rows * n * k, [=](const RunContext& run) {
    kernels::GemmCall c = call;
    c.src = run.in(src.ref);
    c.dst = run.ptr(dst.ref);
    if (adds) c.residual.src = run.in(other);
    if (by_panels) {
      run.pool->parallel_for(panels, grain,
                             [&](std::int64_t begin, std::int64_t end) { kernels::qgemm_panels(*packed, c, 0, rows, begin, end); });
    } else {
      run.pool->parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) { kernels::qgemm(*packed, c, begin, end); });
    }
  });
}

// Both sides are activations (attention): the right one is packed for each product.
void lower_dynamic(PlanBuilder& plan, const Node& node) {
  Shape a = plan.shape(node, node.input(0));
  Shape b = plan.shape(node, node.input(1));
  const Ref left = plan.read(node, node.input(0), Layout::kPlain);
  const Ref right = plan.read(node, node.input(1), Layout::kPlain);
  const Ref dst = plan.write(node, node.output(0), Layout::kPlain);
  if (a.size() == 1) a.insert(a.begin(), 1);
  if (b.size() == 1) b.push_back(1);
  const std::int64_t m = a[a.size() - 2];
  const std::int64_t k = a.back();
  const std::int64_t n = b.back();
  // For each product the offsets of its two sides, by NumPy's broadcasting of the leading axes.
  struct Product {
    std::int64_t left = 0, right = 0;
  };
  const std::size_t rank = std::max(a.size(), b.size()) - 2;
  Shape batch(rank, 1);
  const auto extent = [&](const Shape& s, std::size_t axis) { return axis + s.size() < rank + 2 ? 1 : s[axis + s.size() - 2 - rank]; };
  for (std::size_t i = 0; i < rank; ++i) batch[i] = extent(a, i) == 1 ? extent(b, i) : extent(a, i);
  std::vector<Product> products;
  for (std::int64_t i = 0; i < element_count(batch); ++i) {
    Product p;
    std::int64_t rest = i;
    std::int64_t step_a = 1;
    std::int64_t step_b = 1;
    for (std::size_t d = rank; d-- > 0;) {
      const std::int64_t at = rest % batch[d];
      rest /= batch[d];
      p.left += extent(a, d) == 1 ? 0 : at * step_a;
      p.right += extent(b, d) == 1 ? 0 : at * step_b;
      step_a *= extent(a, d);
      step_b *= extent(b, d);
    }
    products.push_back({p.left * m * k, p.right * k * n});
  }
  const StoredGrid grid_a = stored_grid(plan.params(node.input(0)));
  const StoredGrid grid_b = stored_grid(plan.params(node.input(1)));
  const QuantParams& out = plan.params(node.output(0));
  const auto requantize =
      plan.own(kernels::RequantizeTable(compute_requantizers(plan.model(), node), n, stored_output_grid(output_grid(out, node), out)));
  const std::int64_t size = element_count(plan.shape(node, node.output(0)));
  if (size == 0 || k == 0) {
    // Nothing to multiply: sums of no products.
    plan.add_step(node, "empty", 0, [=](const RunContext& run) {
      for (std::int64_t i = 0; i < size; ++i) run.ptr(dst)[i] = (*requantize)(0, i % n);
    });
    return;
  }
  const std::int64_t packed_bytes = kernels::packed_gemm_bytes(n, k, plan.isa());
  plan.need_scratch(packed_bytes);
  const auto count = static_cast<std::int64_t>(products.size());
  const auto shared = plan.own(std::move(products));
  const kernels::Isa isa = plan.isa();
  plan.add_step(node, kernels::gemm_kernel_name(isa, m, n, k) + "+pack", count * m * n * k, [=](const RunContext& run) {
    run.pool->parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end, int thread) {
      const std::int32_t zero_point = grid_b.zero_point - 128;
      for (std::int64_t i = begin; i < end; ++i) {
        const Product& p = (*shared)[static_cast<std::size_t>(i)];
        kernels::GemmWeights weights;
        weights.n = n;
        weights.k = k;
        // Stored uint8 codes, read as int8: 128 less, and so is the zero point.
        weights.wei = reinterpret_cast<const std::int8_t*>(run.in(right) + p.right);
        weights.stride_k = n;
        weights.stride_n = 1;
        weights.flip = 0x80;
        weights.zero_points = {&zero_point, 1};
        weights.src_zero_point = grid_a.zero_point;
        const kernels::PackedGemm packed =
            kernels::pack_gemm_into(weights, isa, run.scratch_of(thread).first(static_cast<std::size_t>(packed_bytes)));
        kernels::GemmCall call;
        call.src = run.in(left) + p.left;
        call.ld_src = k;
        call.dst = run.ptr(dst) + i * m * n;
        call.ld_dst = n;
        call.rows = m;
        call.requantize = requantize->view();
        kernels::qgemm(packed, call, 0, m);
      }
    });
  });
}

}  // namespace

void lower_matmul(PlanBuilder& plan, const Node& node) {
  if (const auto* prepared = plan.prepared<PreparedGemm>())
    lower_packed(plan, node, *prepared);
  else
    lower_dynamic(plan, node);
}

}  // namespace nibble
