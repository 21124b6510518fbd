// Session: one plan for each set of input shapes, one arena, one pool.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/aligned_buffer.h"
#include "base/fail.h"
#include "kernels/layout/layout.h"
#include "runtime/plan.h"
#include "runtime/plan_builder.h"

namespace nibble {
namespace {

// Plans that a session keeps; data of ever new shapes must not grow it without bound.
constexpr std::size_t kKeptPlans = 8;

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

// A stored value as its own integer type, in the ONNX layout.
Tensor export_stored(const Place& place, const std::uint8_t* stored, const QuantParams& params, kernels::Isa isa) {
  Tensor out(params.type.is_signed ? DataType::kInt8 : DataType::kUInt8, place.shape);
  auto* dst = reinterpret_cast<std::uint8_t*>(out.mutable_bytes());
  if (place.layout == Layout::kChannelsLast) {
    const Extents e = extents_of(place.shape);
    kernels::nhwc_to_nchw(isa, stored, place.ld, e.batch, e.channels, e.pixels, dst);
  } else if (const std::int64_t length = row_length(place.shape, place.layout); length > 0) {
    kernels::copy_rows(stored, place.ld, dst, length, length, 0, out.size() / length);
  }
  if (params.type.is_signed) kernels::flip_sign(isa, dst, dst, out.size());
  return out;
}

}  // namespace

struct Session::Impl {
  std::shared_ptr<const Program::Impl> program;
  ThreadPool pool;
  struct Kept {
    std::vector<Shape> shapes;
    Values values = Values::kNeeded;
    std::unique_ptr<const Plan> plan;
  };
  std::vector<Kept> plans;  // the most recently used last
  std::shared_ptr<std::byte> arena;
  std::int64_t arena_size = 0;
  std::shared_ptr<std::byte> scratch;
  std::int64_t scratch_size = 0;
  std::vector<Tensor> tensors;
  bool profiling = false;
  std::vector<StepProfile> profile;
  std::int64_t last_arena_bytes = 0;

  Impl(std::shared_ptr<const Program::Impl> p, int threads) : program(std::move(p)), pool(threads) {}

  const Plan& plan_for(std::span<const Tensor> inputs, Values values) {
    std::vector<Shape> shapes;
    for (const Tensor& input : inputs) shapes.push_back(input.shape());
    const auto found =
        std::find_if(plans.begin(), plans.end(), [&](const Kept& kept) { return kept.values == values && kept.shapes == shapes; });
    if (found != plans.end()) {
      std::rotate(found, found + 1, plans.end());
      return *plans.back().plan;
    }
    std::vector<TensorType> types;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      TensorType type = make_type(inputs[i].type(), inputs[i].shape());
      if (program->model.params_of(program->model.graph.inputs()[i]) != nullptr) type.dtype = DataType::kFloat32;  // as in the shape graph
      types.push_back(std::move(type));
    }
    auto plan = make_plan(*program, types, {.threads = pool.threads(), .values = values});
    if (plans.size() == kKeptPlans) plans.erase(plans.begin());
    plans.push_back({std::move(shapes), values, std::move(plan)});
    return *plans.back().plan;
  }

  void check_inputs(std::span<const Tensor> inputs) const {
    const Graph& graph = program->model.graph;
    if (inputs.size() != graph.inputs().size())
      fail(ErrorCode::kInvalidData, "the model has {} inputs, {} were given", graph.inputs().size(), inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Value& value = graph.value(graph.inputs()[i]);
      const TensorType& type = value.type;
      bool fits = inputs[i].type() == type.dtype && (!type.has_rank || type.dims.size() == inputs[i].shape().size());
      for (std::size_t d = 0; fits && type.has_rank && d < type.dims.size(); ++d)
        fits = !type.dims[d].known() || type.dims[d].size == inputs[i].shape()[d];
      if (!fits)
        fail(ErrorCode::kInvalidData, "input '{}' is {}, but the model takes {}", value.name,
             to_string(make_type(inputs[i].type(), inputs[i].shape())), to_string(type));
    }
  }

  static void reserve(std::shared_ptr<std::byte>& memory, std::int64_t& size, std::int64_t wanted) {
    if (wanted <= size) return;
    memory = allocate_aligned(wanted);
    size = wanted;
  }

  void hand_out(const Step& step, const Plan& plan, const RunContext& context, const ValueCallback& observe) const {
    for (const ValueId v : step.produces) {
      const Place& place = plan.places[index(v)];
      if (!place.stored)
        observe(v, tensors[index(v)]);
      else
        observe(v, export_stored(place, context.in(place.ref), *program->model.params_of(v), program->isa));
    }
  }

  std::vector<Tensor> run(std::span<const Tensor> inputs, const ValueCallback& observe) {
    check_inputs(inputs);
    const Graph& graph = program->model.graph;
    const Plan& plan = plan_for(inputs, observe ? Values::kEvery : Values::kNeeded);
    reserve(arena, arena_size, plan.arena_bytes);
    reserve(scratch, scratch_size, plan.scratch_bytes * pool.threads());
    last_arena_bytes = plan.arena_bytes;
    tensors.assign(graph.values().size(), Tensor());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const ValueId v = graph.inputs()[i];
      tensors[index(v)] = inputs[i];
      if (observe && program->model.params_of(v) == nullptr) observe(v, inputs[i]);
    }
    const RunContext context{.arena = arena.get(),
                             .buffers = &plan.buffers,
                             .tensors = &tensors,
                             .pool = &pool,
                             .scratch = scratch.get(),
                             .scratch_stride = plan.scratch_bytes};
    if (profiling) profile.clear();
    for (const Step& step : plan.steps) {
      const auto start = profiling ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point();
      step.run(context);
      if (profiling) {
        const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
        profile.push_back(
            {.node = step.node, .op_type = step.op_type, .kernel = step.kernel, .microseconds = took.count(), .macs = step.macs});
      }
      if (observe) hand_out(step, plan, context, observe);
      for (const ValueId v : step.frees) tensors[index(v)] = Tensor();
    }
    std::vector<Tensor> outputs;
    for (const ValueId v : graph.outputs()) outputs.push_back(graph.is_constant(v) ? *graph.value(v).constant : tensors[index(v)]);
    tensors.clear();
    return outputs;
  }
};

Session::Session(const Program& program, const ProgramOptions& options) : impl_(std::make_unique<Impl>(program.impl(), options.threads)) {}
Session::Session(Session&&) noexcept = default;
Session::~Session() = default;

std::vector<Tensor> Session::run(std::span<const Tensor> inputs) { return impl_->run(inputs, {}); }
std::vector<Tensor> Session::run(std::span<const Tensor> inputs, const ValueCallback& observe) { return impl_->run(inputs, observe); }
void Session::set_profiling(bool on) { impl_->profiling = on; }
const std::vector<StepProfile>& Session::profile() const { return impl_->profile; }
std::int64_t Session::arena_bytes() const { return impl_->last_arena_bytes; }
std::int64_t Session::scratch_bytes() const { return impl_->scratch_size; }
std::int64_t Session::weight_bytes() const { return impl_->program->weight_bytes; }

}  // namespace nibble
