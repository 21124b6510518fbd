// Additions, multiplications and tables.
#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "base/fail.h"
#include "kernels/lut/lut.h"
#include "quantize/node_arithmetic.h"
#include "runtime/plan_builder.h"

namespace nibble {
namespace {

enum class Kind { kAdd, kMul };

// The law of one node, for either kernel.
struct BinaryLaw {
  Kind kind = Kind::kAdd;
  Adder adder;
  Requantizer requantizer;
  std::int32_t za = 0, zb = 0;
};

void run_rows(kernels::Isa isa, const BinaryLaw& law, const kernels::BinaryCall& call, std::int64_t begin, std::int64_t end) {
  if (law.kind == Kind::kAdd)
    kernels::qadd(isa, law.adder, call, begin, end);
  else
    kernels::qmul(isa, law.requantizer, law.za, law.zb, call, begin, end);
}

std::string kernel_name(kernels::Isa isa, const BinaryLaw& law) {
  return law.kind == Kind::kAdd ? kernels::add_kernel_name(isa, law.adder.law) : kernels::mul_kernel_name(isa, law.requantizer.law);
}

bool is_per_channel(const Shape& b, const Shape& y) {
  // [1, C, 1, 1] or [C, 1, 1] against [N, C, H, W].
  if (y.size() < 3 || b.size() > y.size()) return false;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const std::size_t axis = y.size() - b.size() + i;
    if (b[i] != (axis == 1 ? y[1] : 1)) return false;
  }
  return b.size() + 1 >= y.size();
}

// [N, C, 1, 1] against [N, C, H, W]: a gate for each image (squeeze and excitation).
bool is_per_image_channel(const Shape& b, const Shape& y) {
  if (y.size() < 3 || b.size() != y.size() || b[0] != y[0] || b[1] != y[1]) return false;
  return std::all_of(b.begin() + 2, b.end(), [](std::int64_t d) { return d == 1; });
}

class BinaryLowering {
 public:
  BinaryLowering(PlanBuilder& plan, const Node& node, Kind kind) : plan_(plan), node_(node) {
    law_.kind = kind;
    a_ = node.input(0);
    b_ = node.input(1);
    shape_a_ = plan.shape(node, a_);
    shape_b_ = plan.shape(node, b_);
    shape_y_ = plan.shape(node, node.output(0));
    const QuantParams& out = plan.params(node.output(0));
    call_.offset_dst = stored_grid(out).offset;
    call_.grid = output_grid(out, node);
    if (kind == Kind::kAdd)
      law_.adder = node_adder(plan.model(), node);
    else
      law_.requantizer = mul_requantizer(plan.model(), node);
    // A multiplication may exchange its operands to the bit; an addition's fused law may not (its roundings are not symmetric).
    if (kind == Kind::kMul && element_count(shape_a_) < element_count(shape_b_)) {
      std::swap(a_, b_);
      std::swap(shape_a_, shape_b_);
    }
    law_.za = plan.params(a_).zero_point[0];
    law_.zb = plan.params(b_).zero_point[0];
    call_.offset_a = stored_grid(plan.params(a_)).offset;
    call_.offset_b = stored_grid(plan.params(b_)).offset;
  }

  void lower() {
    const std::int64_t count_b = element_count(shape_b_);
    if (shape_a_ != shape_y_) return broadcast();
    if (shape_b_ == shape_y_) return same_shape();
    if (count_b == 1) return flat(kernels::BroadcastB::kScalar);
    if (is_per_channel(shape_b_, shape_y_)) return per_channel();
    if (is_per_image_channel(shape_b_, shape_y_)) return per_image_channel();
    if (!shape_y_.empty() && count_b == shape_y_.back() && shape_b_.back() == count_b) return last_axis();
    broadcast();
  }

 private:
  // Rows of channels (or of the last axis), each side with its own distance between them.
  void add(kernels::BroadcastB broadcast, const Rows& a, const Rows& b, const Rows& dst, std::int64_t rows, std::int64_t columns) {
    kernels::BinaryCall call = call_;
    call.broadcast = broadcast;
    call.columns = columns;
    call.ld_a = a.ld;
    call.ld_b = b.ld;
    call.ld_dst = dst.ld;
    const kernels::Isa isa = plan_.isa();
    const BinaryLaw law = law_;
    const std::int64_t grain = plan_.grain(rows, static_cast<double>(columns) / 8.0);
    plan_.add_step(node_, kernel_name(isa, law), 0, [=](const RunContext& run) {
      kernels::BinaryCall c = call;
      c.a = run.in(a.ref);
      c.b = run.in(b.ref);
      c.dst = run.ptr(dst.ref);
      run.pool->parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) { run_rows(isa, law, c, begin, end); });
    });
  }

  // Element by element: any common layout will do.
  void same_shape() {
    const bool last = plan_.layout_of(a_) == Layout::kChannelsLast || plan_.layout_of(b_) == Layout::kChannelsLast;
    const Layout layout = last ? Layout::kChannelsLast : Layout::kPlain;
    const Rows a = plan_.read_rows(node_, a_, layout);
    const Rows b = plan_.read_rows(node_, b_, layout);
    const std::int64_t length = row_length(shape_y_, layout);
    if (a.ld == length && b.ld == length && !plan_.is_joined(node_.output(0)))
      return add_flat(a.ref, b.ref, layout, kernels::BroadcastB::kNone, std::array{a_, b_});
    const Rows dst = plan_.write_rows(node_, node_.output(0), layout);
    add(kernels::BroadcastB::kNone, a, b, dst, length > 0 ? element_count(shape_y_) / length : 0, length);
  }

  void flat(kernels::BroadcastB broadcast) {
    const Layout layout = plan_.layout_of(a_);
    const Ref a = plan_.read(node_, a_, layout);
    const Ref b = plan_.read(node_, b_, Layout::kPlain);
    add_flat(a, b, layout, broadcast, std::array{a_});
  }

  void add_flat(const Ref& a, const Ref& b, Layout layout, kernels::BroadcastB broadcast, std::span<const ValueId> operands) {
    const Ref dst = plan_.write_over(node_, node_.output(0), layout, operands);
    // Rows of 4096 elements, and one for what is left, so that the rows can be shared out.
    const std::int64_t size = element_count(shape_y_);
    constexpr std::int64_t kRow = 4096;
    kernels::BinaryCall call = call_;
    call.broadcast = broadcast;
    const kernels::Isa isa = plan_.isa();
    const BinaryLaw law = law_;
    const std::int64_t rows = (size + kRow - 1) / kRow;
    const std::int64_t grain = plan_.grain(rows, kRow / 8.0);
    plan_.add_step(node_, kernel_name(isa, law), 0, [=](const RunContext& run) {
      run.pool->parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
        kernels::BinaryCall c = call;
        const std::int64_t first = begin * kRow;
        c.a = run.in(a) + first;
        c.b = run.in(b) + (broadcast == kernels::BroadcastB::kNone ? first : 0);
        c.dst = run.ptr(dst) + first;
        c.columns = std::min(size, end * kRow) - first;
        c.ld_a = c.ld_b = c.ld_dst = c.columns;
        run_rows(isa, law, c, 0, 1);
      });
    });
  }

  // One value of b for each channel, or for each position of the last axis.
  void per_channel() { per_row(Layout::kChannelsLast); }
  void last_axis() { per_row(Layout::kPlain); }

  void per_row(Layout layout) {
    const Rows a = plan_.read_rows(node_, a_, layout);
    const Ref b = plan_.read(node_, b_, Layout::kPlain);
    const std::int64_t length = row_length(shape_y_, layout);
    const Rows dst = write_rows(layout, a);
    add(kernels::BroadcastB::kChannel, a, {.ref = b, .ld = 0}, dst, element_count(shape_y_) / std::max<std::int64_t>(1, length), length);
  }

  // The output over the first operand where that dies here.
  Rows write_rows(Layout layout, const Rows& a) {
    const ValueId y = node_.output(0);
    const std::int64_t length = row_length(shape_y_, layout);
    if (a.ld != length || plan_.is_joined(y)) return plan_.write_rows(node_, y, layout);
    return {.ref = plan_.write_over(node_, y, layout, std::array{a_}), .ld = length};
  }

  void per_image_channel() {
    const Extents e = extents_of(shape_y_);
    const Rows a = plan_.read_rows(node_, a_, Layout::kChannelsLast);
    const Rows b = plan_.read_rows(node_, b_, Layout::kChannelsLast);
    const Rows dst = write_rows(Layout::kChannelsLast, a);
    kernels::BinaryCall call = call_;
    call.broadcast = kernels::BroadcastB::kChannel;
    call.columns = e.channels;
    call.ld_a = a.ld;
    call.ld_dst = dst.ld;
    const kernels::Isa isa = plan_.isa();
    const BinaryLaw law = law_;
    const std::int64_t grain = plan_.grain(e.pixels, static_cast<double>(e.channels) / 8.0);
    plan_.add_step(node_, kernel_name(isa, law), 0, [=](const RunContext& run) {
      for (std::int64_t image = 0; image < e.batch; ++image) {
        kernels::BinaryCall c = call;
        c.a = run.in(a.ref) + image * e.pixels * a.ld;
        c.b = run.in(b.ref) + image * b.ld;
        c.dst = run.ptr(dst.ref) + image * e.pixels * dst.ld;
        run.pool->parallel_for(e.pixels, grain, [&](std::int64_t begin, std::int64_t end) { run_rows(isa, law, c, begin, end); });
      }
    });
  }

  // Any other broadcasting: both sides are first spread out to the output's shape.
  void broadcast() {
    const Ref a = spread(a_, shape_a_);
    const Ref b = spread(b_, shape_b_);
    plan_.keep(a);
    plan_.keep(b);
    add_flat(a, b, Layout::kPlain, kernels::BroadcastB::kNone, {});
  }

  Ref spread(ValueId v, const Shape& shape) {
    const Ref from = plan_.read(node_, v, Layout::kPlain);
    const std::int64_t size = element_count(shape_y_);
    const Ref to = plan_.temporary(size);
    std::vector<std::int64_t> step(shape_y_.size(), 0);
    std::int64_t stride = 1;
    for (std::size_t i = shape.size(); i-- > 0;) {
      step[shape_y_.size() - shape.size() + i] = shape[i] == 1 ? 0 : stride;
      stride *= shape[i];
    }
    const Shape extent = shape_y_;
    plan_.add_step(node_, "broadcast", 0, [=](const RunContext& run) {
      const std::uint8_t* in = run.in(from);
      std::uint8_t* out = run.ptr(to);
      std::vector<std::int64_t> at(extent.size(), 0);
      std::int64_t flat = 0;
      for (std::int64_t i = 0; i < size; ++i) {
        out[i] = in[flat];
        for (std::size_t d = extent.size(); d-- > 0;) {
          flat += step[d];
          if (++at[d] < extent[d]) break;
          at[d] = 0;
          flat -= step[d] * extent[d];
        }
      }
    });
    return to;
  }

  PlanBuilder& plan_;
  const Node& node_;
  BinaryLaw law_;
  ValueId a_ = kNoValue, b_ = kNoValue;
  Shape shape_a_, shape_b_, shape_y_;
  kernels::BinaryCall call_;
};

}  // namespace

void lower_add(PlanBuilder& plan, const Node& node) { BinaryLowering(plan, node, Kind::kAdd).lower(); }
void lower_mul(PlanBuilder& plan, const Node& node) { BinaryLowering(plan, node, Kind::kMul).lower(); }

void lower_table(PlanBuilder& plan, const Node& node) {
  const auto* prepared = plan.prepared<PreparedTable>();
  const ValueId x = node.input(0);
  const ValueId y = node.output(0);
  const Layout layout = plan.layout_of(x);
  const Shape shape = plan.shape(node, y);
  const std::int64_t size = element_count(shape);
  const std::int64_t length = row_length(shape, layout);
  const kernels::Isa isa = plan.isa();
  const std::uint8_t* table = prepared->table.data();
  const Rows src = plan.read_rows(node, x, layout);
  // The same bytes under another name: uint8 as int8, each with its own zero point.
  bool changes = false;
  for (std::size_t i = 0; i < 256; ++i) changes = changes || table[i] != i;
  if (!changes && !plan.is_joined(y)) return plan.alias(y, src.ref, layout, shape, src.ld);
  if (src.ld == length && !plan.is_joined(y)) {
    const Ref dst = plan.write_over(node, y, layout, std::array{x});
    const std::int64_t grain = plan.grain(size, 0.05);
    plan.add_step(node, kernels::lut_kernel_name(isa), 0, [=](const RunContext& run) {
      run.pool->parallel_for(size, grain, [&](std::int64_t begin, std::int64_t end) {
        kernels::lut(isa, table, run.in(src.ref) + begin, run.ptr(dst) + begin, end - begin);
      });
    });
    return;
  }
  const Rows dst = plan.write_rows(node, y, layout);
  const std::int64_t rows = length > 0 ? size / length : 0;
  const std::int64_t grain = plan.grain(rows, static_cast<double>(length) * 0.05 + 2.0);
  plan.add_step(node, kernels::lut_kernel_name(isa), 0, [=](const RunContext& run) {
    run.pool->parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r)
        kernels::lut(isa, table, run.in(src.ref) + r * src.ld, run.ptr(dst.ref) + r * dst.ld, length);
    });
  });
}

}  // namespace nibble
