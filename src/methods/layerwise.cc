#include "methods/layerwise.h"

#include <algorithm>
#include <optional>

#include "base/fail.h"
#include "methods/columns.h"
#include "nibble/interpreter.h"
#include "numeric/quantize.h"
#include "ops/op.h"
#include "quantize/integer_form.h"
#include "report/stage.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

Tensor dequantized(const Tensor& codes, const QuantParams& params) {
  Tensor values(DataType::kFloat32, codes.shape());
  dequantize(codes_of(codes), codes.shape(), params, values.mutable_data<float>());
  return values;
}

// A value on the grid of activations, as the integers that readers will see.
Tensor on_grid(const Tensor& x, const QuantParams& params) {
  Tensor y(DataType::kFloat32, x.shape());
  const auto in = x.data<float>();
  const auto out = y.mutable_data<float>();
  const float scale = params.scale[0], zero = static_cast<float>(params.zero_point[0]);
  const float lo = static_cast<float>(params.qmin()) - zero, hi = static_cast<float>(params.qmax()) - zero;
  constexpr float kRound = 12582912.0F;  // 1.5 2^23: adding and taking it away rounds half to even below 2^22
  for (std::size_t i = 0; i < in.size(); ++i) {
    float q = in[i] / scale;
    q = q > lo ? q : lo;  // NaN becomes lo
    q = q < hi ? q : hi;
    out[i] = ((q + kRound) - kRound) * scale;
  }
  return y;
}

// All values of one network, for all samples, for as long as somebody needs them.
class Values {
 public:
  Values(const Graph& graph, std::size_t samples)
      : graph_(graph), samples_(samples), values_(graph.values().size()), uses_(graph.values().size(), 0) {
    for (const Node& node : graph.nodes()) {
      for (const ValueId id : node.inputs) {
        if (id != kNoValue) ++uses_[index(id)];
      }
    }
  }
  std::vector<Tensor>& of(ValueId id) {
    auto& row = values_[index(id)];
    if (row.empty()) row.resize(samples_);
    return row;
  }
  // Called once a node when it has run.
  void release_inputs(const Node& node) {
    for (const ValueId id : node.inputs) {
      if (id != kNoValue && --uses_[index(id)] == 0) {
        values_[index(id)].clear();
        values_[index(id)].shrink_to_fit();
      }
    }
    for (const ValueId id : node.outputs) {
      if (id != kNoValue && uses_[index(id)] == 0) values_[index(id)].clear();
    }
  }
  bool last_use(ValueId id) const { return uses_[index(id)] == 1; }

 private:
  const Graph& graph_;
  std::size_t samples_;
  std::vector<std::vector<Tensor>> values_;
  std::vector<std::int64_t> uses_;
};

class Pass {
 public:
  Pass(MethodState& state, const MethodInputs& inputs, std::string_view stage, const LayerVisitor& visit, bool with_data)
      : state_(state),
        visit_(visit),
        plan_(plan_quantization(state.graph, state.ranges, state.scheme)),
        with_data_(with_data),
        samples_(with_data ? static_cast<std::size_t>(inputs.calibration->size()) : 0),
        pool_(std::max(1, inputs.threads)),
        real_(state.reference, samples_),
        quantized_(state.graph, samples_),
        consumers_(state.graph.consumers()),
        stage_(inputs.progress, stage, static_cast<std::int64_t>(state.graph.nodes().size())) {
    if (state.reference.nodes().size() != state.graph.nodes().size())
      fail(ErrorCode::kInvalidArgument, "methods: the reference has {} nodes, the network {}", state.reference.nodes().size(),
           state.graph.nodes().size());
    if (with_data_) read_samples(*inputs.calibration);
  }

  void run() {
    std::map<NodeId, LayerEdit> edits;
    for (NodeId n = 0; n < static_cast<NodeId>(state_.graph.nodes().size()); ++n) {
      const Node& node = state_.graph.node(n);
      NodeRunner::Changes changes;
      Tensor weights, bias;
      const auto view = plan_.integer[index(n)] || is_weight_only(n) ? layer_view(state_.graph, n) : std::nullopt;
      if (view) {
        const auto reference = layer_view(state_.reference, n);
        if (reference) edits[n] = visit_layer(n, *view, *reference, weights, bias);
        if (reference && edits[n].output) {
          state_.ranges.entries[state_.graph.value(view->output).name].pinned = *edits[n].output;
          plan_ = plan_quantization(state_.graph, state_.ranges, state_.scheme);
        }
        changes.weights = &weights;
        changes.bias = bias.defined() ? &bias : nullptr;
      }
      if (with_data_) {
        run_node(state_.reference, n, {}, real_, nullptr);
        run_node(state_.graph, n, view ? changes : NodeRunner::Changes{}, quantized_, &plan_);
      }
      real_.release_inputs(state_.reference.node(n));
      quantized_.release_inputs(node);
      stage_.advance(n + 1);
    }
    std::erase_if(edits, [](const auto& entry) { return !entry.second.weights && !entry.second.bias && !entry.second.grid; });
    apply_edits(state_, edits);
  }

 private:
  void read_samples(const Dataset& dataset) {
    for (std::size_t s = 0; s < samples_; ++s) {
      const Sample sample = dataset.sample(static_cast<std::int64_t>(s));
      const auto& real_ids = state_.reference.inputs();
      const auto& ids = state_.graph.inputs();
      if (sample.inputs.size() != ids.size())
        fail(ErrorCode::kInvalidData, "sample {} has {} inputs, the network takes {}", sample.name, sample.inputs.size(), ids.size());
      for (std::size_t i = 0; i < ids.size(); ++i) {
        real_.of(real_ids[i])[s] = sample.inputs[i];
        quantized_.of(ids[i])[s] = sample.inputs[i];
      }
    }
  }

  bool made_of_integers(ValueId v) const {
    const NodeId producer = state_.graph.value(v).producer;
    return producer != kNoNode && plan_.integer[index(producer)];
  }

  // A value as an integer node reads it.
  Tensor as_read(ValueId v, const Tensor& x) const {
    if (!plan_.grid[index(v)] || made_of_integers(v) || x.type() != DataType::kFloat32) return x;
    return on_grid(x, *plan_.grid[index(v)]);
  }

  // Integer weights between float activations: what rounds weights serves these layers, too.
  bool is_weight_only(NodeId n) const { return plan_.reformed[index(n)] && plan_.schemes[index(n)].form == NodeForm::kWeightOnly; }

  LayerEdit visit_layer(NodeId n, const LayerView& view, const LayerView& reference, Tensor& weights, Tensor& bias) {
    const Node& node = state_.graph.node(n);
    const Tensor& w = *state_.graph.value(view.weights).constant;
    const auto entry = state_.ranges.entries.find(state_.graph.value(view.weights).name);
    const QuantParams* pinned = entry != state_.ranges.entries.end() && entry->second.pinned ? &*entry->second.pinned : nullptr;
    const bool alone = is_weight_only(n);
    const float src = alone ? 1.0F : plan_.grid[index(view.input)]->scale[0], dst = alone ? 1.0F : plan_.grid[index(view.output)]->scale[0];
    const auto quantized_with = [&](const Tensor& values, const Tensor* b, const QuantParams* grid) {
      if (alone) return quantize_weights_alone(node, values, plan_.schemes[index(n)].weights, grid);
      return quantize_weights(node, values, b, plan_.schemes[index(n)].weights, grid, src, dst, state_.scheme.law);
    };
    const Tensor* old_bias = view.bias == kNoValue ? nullptr : &*state_.graph.value(view.bias).constant;
    LayerTurn turn{.state = state_,
                   .plan = plan_,
                   .view = view,
                   .reference = reference,
                   .node = node,
                   .quantized = quantized_with(w, old_bias, pinned),
                   .quantized_values = {},
                   .src_scale = src,
                   .dst_scale = dst,
                   .real_inputs = {},
                   .quantized_inputs = {},
                   .real_summands = {},
                   .quantized_summands = {}};
    turn.quantized_values = dequantized(turn.quantized.codes, turn.quantized.params);
    std::vector<Tensor> read;
    if (with_data_) {
      turn.real_inputs = real_.of(reference.input);
      const std::vector<Tensor>& stored = quantized_.of(view.input);
      read.resize(samples_);
      pool_.parallel_for(static_cast<std::int64_t>(samples_), 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t s = begin; s < end; ++s)
          read[static_cast<std::size_t>(s)] = as_read(view.input, stored[static_cast<std::size_t>(s)]);
      });
      turn.quantized_inputs = read;
      find_summands(turn);
    }
    LayerEdit edit = visit_(turn, pool_);

    // What quantize() will make of the edit.
    Tensor new_bias;
    if (edit.bias) new_bias = Tensor::from<float>({static_cast<std::int64_t>(edit.bias->size())}, std::span<const float>(*edit.bias));
    const Tensor* b = edit.bias ? &new_bias : old_bias;
    if (edit.weights || edit.grid || edit.bias)
      turn.quantized = quantized_with(edit.weights ? *edit.weights : w, b,
                                      edit.grid           ? &*edit.grid
                                      : pinned != nullptr ? pinned
                                                          : &turn.quantized.params);
    weights = dequantized(turn.quantized.codes, turn.quantized.params);
    if (alone && edit.bias) bias = new_bias;
    if (turn.quantized.bias) bias = dequantized(*turn.quantized.bias, turn.quantized.bias_params);
    // The grid that was there when a method chose its weights and biases stays, or a new bias could widen it.
    if ((edit.weights || edit.bias) && !edit.grid) edit.grid = turn.quantized.params;
    return edit;
  }

  // Add(layer, other): the other's values, if they are there already and of the outputs' shape.
  void find_summands(LayerTurn& turn) {
    const ValueId output = turn.view.output;
    if (consumers_[index(output)].size() != 1 || state_.graph.is_graph_output(output) || activation_of(turn.node).present ||
        !has_columns(turn.node))
      return;
    const NodeId sum = consumers_[index(output)][0];
    const Node& node = state_.graph.node(sum);
    const Node& real = state_.reference.node(sum);
    if (node.op_type != "Add" || !node.domain.empty() || node.inputs.size() != 2 || node.inputs[0] == node.inputs[1]) return;
    const std::size_t other = node.inputs[0] == output ? 1 : 0;
    if (state_.graph.is_constant(node.inputs[other]) || real.op_type != "Add") return;
    const std::vector<Tensor>& there = real_.of(real.inputs[other]);
    const std::vector<Tensor>& found = quantized_.of(node.inputs[other]);
    for (std::size_t s = 0; s < samples_; ++s) {
      if (there[s].type() != DataType::kFloat32 || found[s].type() != DataType::kFloat32 || there[s].shape() != found[s].shape()) return;
      const std::int64_t places = place_count(turn.node, turn.view, turn.weights().shape(), turn.quantized_inputs[s].shape());
      if (there[s].size() != places * turn.view.outputs()) return;
    }
    turn.real_summands = there;
    const bool integer = plan_.integer[index(sum)];
    for (const Tensor& x : found) turn.quantized_summands.push_back(integer ? as_read(node.inputs[other], x) : x);
  }

  // `plan` set: the quantized side.
  void run_node(const Graph& graph, NodeId n, const NodeRunner::Changes& changes, Values& values, const QuantizationPlan* plan) {
    const Node& node = graph.node(n);
    const bool integer = plan != nullptr && plan->integer[index(n)];
    std::vector<NodeRunner> runners;
    for (int t = 0; t < pool_.threads(); ++t) runners.emplace_back(graph, n, changes);
    std::vector<std::vector<Tensor>*> in, out;
    for (const ValueId id : runners[0].inputs()) in.push_back(&values.of(id));
    for (const ValueId id : node.outputs) out.push_back(id == kNoValue ? nullptr : &values.of(id));
    pool_.parallel_for(
        static_cast<std::int64_t>(std::max<std::size_t>(samples_, 1)), 1, [&](std::int64_t begin, std::int64_t end, int thread) {
          for (std::int64_t i = begin; i < end; ++i) {
            const auto s = static_cast<std::size_t>(i);
            if (s >= samples_) return;
            NodeRunner& runner = runners[static_cast<std::size_t>(thread)];
            std::vector<Tensor> arguments;
            for (std::size_t k = 0; k < in.size(); ++k) {
              const ValueId id = runner.inputs()[k];
              arguments.push_back(integer ? as_read(id, (*in[k])[s]) : (*in[k])[s]);
              if (values.last_use(id) && std::count(runner.inputs().begin(), runner.inputs().end(), id) == 1) (*in[k])[s] = {};
            }
            std::vector<Tensor> results = runner.run(arguments);
            for (std::size_t k = 0; k < out.size(); ++k) {
              if (out[k] == nullptr) continue;
              const ValueId id = node.outputs[k];
              const bool put_on_grid = integer && (!is_tied(node) || is_bound(node)) && plan->grid[index(id)] && results[k].type() == DataType::kFloat32;
              (*out[k])[s] = put_on_grid ? on_grid(results[k], *plan->grid[index(id)]) : std::move(results[k]);
            }
          }
        });
  }

  MethodState& state_;
  const LayerVisitor& visit_;
  QuantizationPlan plan_;
  const bool with_data_;
  const std::size_t samples_;
  ThreadPool pool_;
  Values real_, quantized_;
  const std::vector<std::vector<NodeId>> consumers_;
  Stage stage_;
};

}  // namespace

struct NodeRunner::Impl {
  Graph graph;
  std::optional<Interpreter> interpreter;
};

NodeRunner::NodeRunner(const Graph& source, NodeId id, const Changes& changes) : impl_(std::make_unique<Impl>()) {
  const Node& node = source.node(id);
  {
    GraphEditor editor(impl_->graph);
    for (const auto& [domain, version] : source.opsets()) editor.set_opset(domain, version);
    std::map<ValueId, ValueId> seen;
    Node copy = node;
    copy.outputs.clear();
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId v = node.inputs[i];
      const Tensor* constant = i == 1 && changes.weights != nullptr ? changes.weights
                               : i == 2 && changes.bias != nullptr  ? changes.bias
                                                                    : nullptr;
      if (constant == nullptr && source.is_constant(v)) constant = &*source.value(v).constant;
      if (constant != nullptr) {
        copy.inputs[i] = editor.add_constant(fmt::format("c{}", i), *constant);
      } else if (v != kNoValue) {
        const auto [it, fresh] = seen.try_emplace(v, kNoValue);
        if (fresh) {
          it->second = editor.add_input(fmt::format("x{}", i), {});
          inputs_.push_back(v);
        }
        copy.inputs[i] = it->second;
      }
    }
    if (changes.bias != nullptr && node.inputs.size() < 3) copy.inputs.push_back(editor.add_constant("c2", *changes.bias));
    std::vector<ValueId> outputs;
    for (const ValueId v : node.outputs) {
      copy.outputs.push_back(v == kNoValue ? kNoValue : editor.add_value(fmt::format("y{}", copy.outputs.size())));
      if (copy.outputs.back() != kNoValue) outputs.push_back(copy.outputs.back());
    }
    if (changes.drop_activation) {
      for (const char* name : {"activation", "activation_min", "activation_max"}) copy.attributes.erase(name);
    }
    editor.add_node(std::move(copy));
    editor.set_outputs(outputs);
    editor.finish(GraphEditor::Prune::kNo);
  }
  impl_->interpreter.emplace(impl_->graph, InterpreterOptions{.threads = 1, .mode = ExecMode::kFast});
}

NodeRunner::~NodeRunner() = default;
NodeRunner::NodeRunner(NodeRunner&&) noexcept = default;

std::vector<Tensor> NodeRunner::run(std::span<const Tensor> inputs) { return impl_->interpreter->run(inputs); }

std::vector<double> mean_outputs(const LayerTurn& turn, std::span<const Tensor> inputs, const Tensor& weights, std::span<const double> bias,
                                 ThreadPool& pool) {
  const auto channels = static_cast<std::size_t>(turn.view.outputs());
  if (has_columns(turn.node)) {  // linear: the mean of the outputs is the output of the mean
    const ColumnMoments moments = column_moments(turn.node, turn.view, weights.shape(), inputs, pool);
    const auto w = weights.data<float>();
    std::vector<double> mean(bias.begin(), bias.end());
    for (std::int64_t o = 0; o < turn.view.outputs(); ++o) {
      const std::int64_t first = o / turn.view.group_out * turn.view.columns();
      for (std::int64_t i = 0; i < turn.view.group_in; ++i) {
        for (std::int64_t t = 0; t < turn.view.taps; ++t)
          mean[static_cast<std::size_t>(o)] += static_cast<double>(w[static_cast<std::size_t>(turn.view.place(o, i, t))]) *
                                               moments.mean[static_cast<std::size_t>(first + i * turn.view.taps + t)];
      }
    }
    return mean;
  }
  std::vector<std::vector<double>> sums(inputs.size());
  std::vector<std::int64_t> counts(inputs.size(), 0);
  std::vector<NodeRunner> runners;
  std::vector<float> floats(bias.begin(), bias.end());
  const Tensor zero =
      Tensor::from<float>({static_cast<std::int64_t>(channels)}, std::span<const float>(std::vector<float>(channels, 0.0F)));
  for (int t = 0; t < pool.threads(); ++t)
    runners.emplace_back(
        turn.state.graph, turn.view.node,
        NodeRunner::Changes{.weights = &weights, .bias = turn.view.bias != kNoValue ? &zero : nullptr, .drop_activation = true});
  pool.parallel_for(static_cast<std::int64_t>(inputs.size()), 1, [&](std::int64_t begin, std::int64_t end, int thread) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto s = static_cast<std::size_t>(i);
      const std::vector<Tensor> y = runners[static_cast<std::size_t>(thread)].run(inputs.subspan(s, 1));
      const auto values = y[0].data<float>();
      const Shape& shape = y[0].shape();
      std::int64_t inner = 1;
      if (turn.view.channel_axis >= 0) {
        for (std::size_t a = 2; a < shape.size(); ++a) inner *= shape[a];
      }
      sums[s].assign(channels, 0.0);
      const auto rows = static_cast<std::int64_t>(values.size()) / inner;
      for (std::int64_t r = 0; r < rows; ++r) {
        double sum = 0;
        for (std::int64_t k = 0; k < inner; ++k) sum += static_cast<double>(values[static_cast<std::size_t>(r * inner + k)]);
        sums[s][static_cast<std::size_t>(r) % channels] += sum;
      }
      counts[s] = static_cast<std::int64_t>(values.size()) / static_cast<std::int64_t>(channels);
    }
  });
  std::vector<double> mean(channels, 0.0);
  std::int64_t count = 0;
  for (std::size_t s = 0; s < inputs.size(); ++s) {
    for (std::size_t c = 0; c < channels; ++c) mean[c] += sums[s][c];
    count += counts[s];
  }
  for (std::size_t c = 0; c < channels; ++c) mean[c] = mean[c] / static_cast<double>(std::max<std::int64_t>(count, 1)) + bias[c];
  return mean;
}

void for_each_layer(MethodState& state, const MethodInputs& inputs, std::string_view stage, const LayerVisitor& visit) {
  Pass(state, inputs, stage, visit, true).run();
}

void for_each_layer_without_data(MethodState& state, const MethodInputs& inputs, std::string_view stage, const LayerVisitor& visit) {
  Pass(state, inputs, stage, visit, false).run();
}

}  // namespace nibble
