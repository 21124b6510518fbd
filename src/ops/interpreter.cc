// The interpreter walks the nodes in order and frees each value after its last use.
//
// In kFast mode chains of 4-D ops run channels-last: a value is held as ONNX lays it out ([N,C,H,W], `plain`), as [N,H,W,C] (`nhwc`), or
// both; whichever a node asks for is made from the other when it is first needed. Convolutions always ask for nhwc; ops that have a
// channels-last form, element-wise ops and Concat follow what their inputs already are; all others get plain tensors.
#include "nibble/interpreter.h"

#include <algorithm>
#include <chrono>

#include "base/thread_pool.h"
#include "ops/channels_last.h"
#include "ops/evaluate.h"
#include "ops/onednn.h"
#include "ops/op.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

void check_input(const Graph& graph, ValueId id, const Tensor& tensor) {
  const Value& value = graph.value(id);
  const TensorType& type = value.type;
  const auto wrong = [&] {
    fail(ErrorCode::kInvalidData, "input '{}' is {}{}, but the model takes {}", value.name, to_string(tensor.type()),
         to_string(tensor.shape()), to_string(type));
  };
  if (!tensor.defined()) fail(ErrorCode::kInvalidData, "input '{}' has no value; the model takes {}", value.name, to_string(type));
  if (type.dtype != DataType::kUndefined && type.dtype != tensor.type()) wrong();
  if (!type.has_rank) return;
  if (type.dims.size() != tensor.shape().size()) wrong();
  for (std::size_t i = 0; i < type.dims.size(); ++i) {
    if (type.dims[i].known() && type.dims[i].size != tensor.shape()[i]) wrong();
  }
}

}  // namespace

struct Interpreter::Impl {
  // One node, ready to run. Ranges index into the shared arrays below: a million nodes must not cost millions of small allocations.
  struct Step {
    const OpDef* op = nullptr;
    int opset = 0;
    bool is_constant = false;  // every input is constant: evaluated in the first run only
    std::size_t first_input = 0;
    std::size_t first_release = 0, last_release = 0;  // values whose last use this is
    std::unique_ptr<OpState> state;
    std::unique_ptr<Node> concat;  // a 4-D Concat along the channels, as its channels-last form has it
  };

  const Graph& graph;
  InterpreterOptions options;
  std::unique_ptr<ThreadPool> pool;
  std::vector<Step> steps;
  std::unique_ptr<bool[]> constant_inputs;
  std::vector<ValueId> releases;
  std::vector<bool> constant;  // by value: initializers and what follows from them
  struct Slot {
    Tensor plain;
    Tensor nhwc;  // of 4 axes always; values of fewer axes (broadcast operands) got leading ones
    const Shape& shape() const { return plain.defined() ? plain.shape() : nhwc.shape(); }
    std::size_t rank() const { return shape().size(); }
    DataType type() const { return plain.defined() ? plain.type() : nhwc.type(); }
  };
  std::vector<Slot> values;
  std::vector<Slot> kept;  // of keep(), by value
  bool constants_ready = false;

  Impl(const Graph& g, const InterpreterOptions& o) : graph(g), options(o) {
    if (options.threads < 1) fail(ErrorCode::kInvalidArgument, "threads is {}, expected at least 1", options.threads);
    if (options.threads > 1) pool = std::make_unique<ThreadPool>(options.threads);
    steps.resize(graph.nodes().size());
    constant.resize(graph.values().size());
    values.resize(graph.values().size());
    for (std::size_t v = 0; v < graph.values().size(); ++v) {
      if (const auto& tensor = graph.values()[v].constant) {
        constant[v] = true;
        values[v].plain = *tensor;
      }
    }
    std::size_t inputs = 0;
    for (const Node& node : graph.nodes()) inputs += node.inputs.size();
    constant_inputs = std::make_unique<bool[]>(inputs);
    inputs = 0;
    for (std::size_t n = 0; n < steps.size(); ++n) {
      const Node& node = graph.nodes()[n];
      Step& step = steps[n];
      step.opset = graph.opset(node.domain);
      step.op = &require_op(node, step.opset);
      check_arity(*step.op, node);
      step.first_input = inputs;
      step.is_constant = true;
      for (const ValueId id : node.inputs) {
        const bool fixed = id == kNoValue || constant[index(id)];
        constant_inputs[inputs++] = fixed;
        step.is_constant = step.is_constant && fixed;
      }
      if (options.mode == ExecMode::kFast && node.op_type == "Concat" && node.domain.empty()) {
        // The axis counts from the front here: ranks are checked when it runs.
        const std::int64_t axis = node.get_int("axis", 1);
        constexpr std::int64_t kMoved[] = {0, 3, 1, 2};
        if (axis >= -4 && axis < 4) {
          step.concat = std::make_unique<Node>(node);
          step.concat->attributes.insert_or_assign("axis", kMoved[(axis + 4) % 4]);
        }
      }
      if (step.is_constant) {
        for (const ValueId id : node.outputs) {
          if (id != kNoValue) constant[index(id)] = true;
        }
      }
    }
    plan_releases();
  }

  void plan_releases() {
    constexpr std::size_t kNever = static_cast<std::size_t>(-1);
    std::vector<std::size_t> last_use(graph.values().size(), kNever);
    for (std::size_t n = 0; n < steps.size(); ++n) {
      for (const ValueId id : graph.nodes()[n].outputs) {
        if (id != kNoValue) last_use[index(id)] = n;  // an output nobody reads goes at once
      }
      for (const ValueId id : graph.nodes()[n].inputs) {
        if (id != kNoValue) last_use[index(id)] = n;
      }
    }
    for (const ValueId id : graph.outputs()) last_use[index(id)] = kNever;
    std::vector<std::size_t> count(steps.size() + 1, 0);
    const auto released = [&](std::size_t v) { return last_use[v] != kNever && !constant[v]; };
    for (std::size_t v = 0; v < last_use.size(); ++v) {
      if (released(v)) ++count[last_use[v] + 1];
    }
    for (std::size_t n = 0; n < steps.size(); ++n) {
      count[n + 1] += count[n];
      steps[n].first_release = steps[n].last_release = count[n];
    }
    releases.resize(count.back());
    for (std::size_t v = 0; v < last_use.size(); ++v) {
      if (released(v)) releases[steps[last_use[v]].last_release++] = static_cast<ValueId>(v);
    }
  }

  const Tensor& plain(ValueId id) {
    Slot& slot = values[index(id)];
    if (!slot.plain.defined()) slot.plain = from_channels_last(pool.get(), slot.nhwc);
    return slot.plain;
  }
  const Tensor& nhwc(ValueId id) {
    Slot& slot = values[index(id)];
    if (!slot.nhwc.defined()) slot.nhwc = to_channels_last(pool.get(), slot.plain);
    return slot.nhwc;
  }

  enum class Layout {
    kPlain,
    kFirstInput,  // the op's own channels-last form: input 0 and output 0
    kAllInputs,   // element-wise, Concat: every input that is no scalar
  };

  bool one_output(const Node& node) const {
    return !node.outputs.empty() && node.outputs[0] != kNoValue &&
           std::all_of(node.outputs.begin() + 1, node.outputs.end(), [](ValueId id) { return id == kNoValue; });
  }

  Layout choose_layout(const Node& node, const Step& step) const {
    if (options.mode != ExecMode::kFast || step.is_constant || node.inputs.empty() || node.inputs[0] == kNoValue || !one_output(node))
      return Layout::kPlain;
    const Slot& first = values[index(node.inputs[0])];
    if (step.op->evaluate_nhwc != nullptr) {
      const bool wants = step.op->rule == QuantRule::kCompute || first.nhwc.defined();
      return wants && first.rank() == 4 && first.type() == DataType::kFloat32 ? Layout::kFirstInput : Layout::kPlain;
    }
    if (!step.op->elementwise && step.concat == nullptr) return Layout::kPlain;
    bool any = false;
    for (const ValueId id : node.inputs) {
      if (id == kNoValue) continue;
      const Slot& slot = values[index(id)];
      if (slot.rank() > 4 || (step.concat != nullptr && slot.rank() != 4)) return Layout::kPlain;
      any = any || (slot.nhwc.defined() && !constant[index(id)]);
    }
    return any ? Layout::kAllInputs : Layout::kPlain;
  }

  void run_step(std::size_t n, std::vector<const Tensor*>& inputs) {
    const Node& node = graph.nodes()[n];
    Step& step = steps[n];
    const Layout layout = choose_layout(node, step);
    inputs.assign(node.inputs.size(), nullptr);
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId id = node.inputs[i];
      if (id == kNoValue) continue;
      const Slot& slot = values[index(id)];
      const bool scalar = slot.plain.defined() && slot.plain.size() == 1 && slot.rank() < 4;
      const bool last = (layout == Layout::kFirstInput && i == 0) || (layout == Layout::kAllInputs && !scalar);
      inputs[i] = last ? &nhwc(id) : &plain(id);
    }
    const EvalContext context{.node = layout == Layout::kAllInputs && step.concat != nullptr ? *step.concat : node,
                              .opset = step.opset,
                              .inputs = inputs,
                              .mode = options.mode,
                              .pool = pool.get(),
                              .state = &step.state,
                              .constant_inputs = {constant_inputs.get() + step.first_input, node.inputs.size()}};
    std::vector<Tensor> outputs = naming_node(node, [&] {
      if (layout == Layout::kFirstInput) return step.op->evaluate_nhwc(context);
      if (options.mode == ExecMode::kFast && step.op->elementwise && inputs.size() == 1 && inputs[0] != nullptr) {
        if (auto y = nn::onednn_unary(pool.get(), node, *inputs[0])) return std::vector<Tensor>{std::move(*y)};
      }
      return evaluate_node(context);
    });
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      Slot& slot = values[index(node.outputs[i])];
      slot = {};
      (layout == Layout::kPlain ? slot.plain : slot.nhwc) = std::move(outputs[i]);
    }
  }

  void release_all() {
    for (std::size_t v = 0; v < values.size(); ++v) {
      if (!constant[v]) values[v] = {};
    }
  }

  std::vector<Tensor> run(std::span<const Tensor> inputs, const Callback* observe, std::vector<double>* microseconds) {
    const auto& ids = graph.inputs();
    if (inputs.size() != ids.size()) fail(ErrorCode::kInvalidData, "{} inputs were given, the model takes {}", inputs.size(), ids.size());
    release_all();  // a run that threw may have left some
    const nn::OnednnThreads onednn_threads(1);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      check_input(graph, ids[i], inputs[i]);
      values[index(ids[i])].plain = inputs[i];
      if (observe != nullptr) (*observe)(ids[i], inputs[i]);
    }
    std::vector<const Tensor*> scratch;
    for (std::size_t n = 0; n < steps.size(); ++n) {
      const Step& step = steps[n];
      if (!step.is_constant || !constants_ready) {
        if (microseconds == nullptr) {
          run_step(n, scratch);
        } else {
          const auto start = std::chrono::steady_clock::now();
          run_step(n, scratch);
          (*microseconds)[n] = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
        }
      }
      if (observe != nullptr) {
        for (const ValueId id : graph.nodes()[n].outputs) {
          if (id != kNoValue) (*observe)(id, plain(id));
        }
      }
      for (std::size_t r = step.first_release; r < step.last_release; ++r) values[index(releases[r])] = {};
    }
    constants_ready = true;
    std::vector<Tensor> outputs;
    outputs.reserve(graph.outputs().size());
    for (const ValueId id : graph.outputs()) outputs.push_back(plain(id));
    release_all();
    return outputs;
  }

  std::vector<Tensor> keep(std::span<const Tensor> inputs) {
    kept.assign(values.size(), {});
    const auto& ids = graph.inputs();
    if (inputs.size() != ids.size()) fail(ErrorCode::kInvalidData, "{} inputs were given, the model takes {}", inputs.size(), ids.size());
    release_all();
    const nn::OnednnThreads onednn_threads(1);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      check_input(graph, ids[i], inputs[i]);
      values[index(ids[i])].plain = inputs[i];
    }
    std::vector<const Tensor*> scratch;
    for (std::size_t n = 0; n < steps.size(); ++n) {
      if (!steps[n].is_constant || !constants_ready) run_step(n, scratch);
    }
    constants_ready = true;
    std::vector<Tensor> outputs;
    for (const ValueId id : graph.outputs()) outputs.push_back(plain(id));
    kept = values;  // tensors share their storage
    release_all();
    return outputs;
  }

  // Elements of both in one order: that in which `slot` was made.
  void report_difference(ValueId id, const Difference& observe) {
    Slot& slot = values[index(id)];
    Slot& other = kept[index(id)];
    if (slot.type() != DataType::kFloat32 || other.type() != DataType::kFloat32) return;
    if (slot.plain.defined()) {
      if (!other.plain.defined()) other.plain = from_channels_last(pool.get(), other.nhwc);
      observe(id, other.plain.data<float>(), slot.plain.data<float>());
    } else {
      if (!other.nhwc.defined()) other.nhwc = to_channels_last(pool.get(), other.plain);
      observe(id, other.nhwc.data<float>(), slot.nhwc.data<float>());
    }
  }

  std::vector<Tensor> replay(const Change& change, const Difference& observe) {
    if (kept.empty()) fail(ErrorCode::kInvalidArgument, "replay: there is no kept run");
    const nn::OnednnThreads onednn_threads(1);
    values = kept;
    std::vector<bool> differs(values.size(), false);
    for (const auto& [id, tensor] : change.constants) {
      const Slot& old = values[index(id)];
      if (!graph.is_constant(id) || tensor.type() != old.type() || tensor.shape() != old.shape())
        fail(ErrorCode::kInvalidArgument, "replay: '{}' cannot be replaced by {}{}", graph.value(id).name, to_string(tensor.type()),
             to_string(tensor.shape()));
      values[index(id)] = {.plain = tensor, .nhwc = {}};
      differs[index(id)] = true;
    }
    const auto settle = [&](ValueId id) {
      Slot& slot = values[index(id)];
      if (index(id) < change.edited.size() && change.edited[index(id)] && slot.type() == DataType::kFloat32) {
        if (slot.plain.defined()) slot.nhwc = {};
        change.edit(id, (slot.plain.defined() ? slot.plain : slot.nhwc).mutable_data<float>());
        differs[index(id)] = true;
      }
      if (observe && differs[index(id)]) report_difference(id, observe);
    };
    for (const ValueId id : graph.inputs()) settle(id);
    std::vector<const Tensor*> scratch;
    for (std::size_t n = 0; n < steps.size(); ++n) {
      const Node& node = graph.nodes()[n];
      if (steps[n].is_constant) continue;
      bool again = false;
      bool other_constant = false;
      for (const ValueId id : node.inputs) {
        if (id == kNoValue || !differs[index(id)]) continue;
        again = true;
        other_constant = other_constant || constant[index(id)];
      }
      if (again) {
        // What the step keeps was made of the kept constants.
        std::unique_ptr<OpState> held;
        if (other_constant) held = std::move(steps[n].state);
        run_step(n, scratch);
        if (other_constant) steps[n].state = std::move(held);
      }
      for (const ValueId id : node.outputs) {
        if (id == kNoValue) continue;
        differs[index(id)] = again;
        settle(id);
      }
    }
    std::vector<Tensor> outputs;
    for (const ValueId id : graph.outputs()) outputs.push_back(plain(id));
    for (std::size_t v = 0; v < values.size(); ++v) values[v] = constant[v] ? kept[v] : Slot{};
    return outputs;
  }
};

Interpreter::Interpreter(const Graph& graph, const InterpreterOptions& options) : impl_(std::make_unique<Impl>(graph, options)) {}
Interpreter::Interpreter(Interpreter&&) noexcept = default;
Interpreter::~Interpreter() = default;

std::vector<Tensor> Interpreter::run(std::span<const Tensor> inputs) { return impl_->run(inputs, nullptr, nullptr); }
std::vector<Tensor> Interpreter::run(std::span<const Tensor> inputs, const Callback& observe) {
  return impl_->run(inputs, observe ? &observe : nullptr, nullptr);
}
std::vector<Tensor> Interpreter::run_timed(std::span<const Tensor> inputs, std::vector<double>& microseconds) {
  microseconds.assign(impl_->steps.size(), 0);
  return impl_->run(inputs, nullptr, &microseconds);
}

std::vector<Tensor> Interpreter::keep(std::span<const Tensor> inputs) { return impl_->keep(inputs); }
std::vector<Tensor> Interpreter::replay(const Change& change, const Difference& observe) { return impl_->replay(change, observe); }

}  // namespace nibble
