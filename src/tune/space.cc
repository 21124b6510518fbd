#include "tune/space.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "analyze/cause.h"
#include "analyze/fake_quantized.h"
#include "analyze/sensitivity.h"
#include "base/fail.h"
#include "nibble/interpreter.h"
#include "nibble/onnx.h"
#include "quantize/integer_form.h"
#include "report/for_each_sample.h"
#include "report/scores.h"
#include "schemes/scheme_rules.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

template <int bits>
void take_bits(NodeRule& rule, const NodeScheme& base) {
  rule.weights = base.weights;
  rule.weights->type.bit_width = bits;
}
void take_float(NodeRule& rule, const NodeScheme&) { rule.quantized = false; }

constexpr std::array kForms = {
    Form{'f', "float", take_float},    Form{'8', "8 bits", take_bits<8>}, Form{'7', "7 bits", take_bits<7>},
    Form{'6', "6 bits", take_bits<6>}, Form{'5', "5 bits", take_bits<5>}, Form{'4', "4 bits", take_bits<4>},
    Form{'3', "3 bits", take_bits<3>}, Form{'2', "2 bits", take_bits<2>},
};

}  // namespace

std::span<const Form> form_table() { return kForms; }

std::size_t index_of_form(char letter) {
  for (std::size_t f = 0; f < kForms.size(); ++f) {
    if (kForms[f].letter == letter) return f;
  }
  fail(ErrorCode::kInvalidData, "there is no form '{}' of a layer", letter);
}
const Form& form_of(char letter) { return kForms[index_of_form(letter)]; }

Space::Space(const Graph& graph, const RangeTable& ranges, const QuantScheme& scheme) : graph_(graph), ranges_(ranges), scheme_(scheme) {
  const FakeQuantized fake = fake_quantized(graph, quantize(graph, ranges, scheme));
  const SchemeRules rules(scheme);
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
    const Node& node = graph.node(n);
    const Operands operands = operands_of(graph, node);
    if (!operands.weights || !fake.integer[index(n)]) continue;
    Layer layer;
    layer.node = n;
    layer.name = node.name;
    layer.op_type = node.op_type;
    layer.weights = graph.value(node.input(*operands.weights)).constant->size();
    layer.base = rules.scheme_for(node);
    layer.damage.assign(kForms.size(), 0);
    layers_.push_back(std::move(layer));
  }
  std::int64_t weights = 0;
  for (const Layer& layer : layers_) weights += layer.weights;
  const auto file_bytes = [&](char letter) {
    return static_cast<double>(
        serialize_onnx(export_graph(quantize(graph_, ranges_, scheme_for(Assignment(layers_.size(), letter))), {})).size());
  };
  constexpr double kBase = 8;
  const double base = file_bytes('8');
  for (const Form& form : kForms) {
    if (form.letter == 'f')
      stored_bits_.push_back(32);
    else if (form.letter == '8')
      stored_bits_.push_back(kBase);
    else
      stored_bits_.push_back(kBase + 8 * (file_bytes(form.letter) - base) / static_cast<double>(std::max<std::int64_t>(weights, 1)));
  }
}

Assignment Space::start() const {
  Assignment assignment;
  for (const Layer& layer : layers_) assignment += static_cast<char>('0' + std::clamp(layer.base.weights.type.bit_width, 2, 8));
  return assignment;
}

QuantScheme Space::scheme_for(const Assignment& assignment) const {
  QuantScheme scheme = scheme_;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (assignment[i] != 'f' && assignment[i] - '0' == layers_[i].base.weights.type.bit_width) continue;
    NodeRule rule;
    rule.node_regex = exactly(layers_[i].name);
    form_of(assignment[i]).apply(rule, layers_[i].base);
    scheme.rules.push_back(std::move(rule));
  }
  return scheme;
}

double Space::estimated_bytes(const Assignment& assignment) const {
  double bytes = 0;
  for (std::size_t i = 0; i < layers_.size(); ++i)
    bytes += static_cast<double>(layers_[i].weights) * stored_bits_[index_of_form(assignment[i])] / 8;
  return bytes;
}

void Space::measure(const Dataset& samples, int threads, ProgressSink* progress) {
  // One quantization a form, all layers alike; then each layer's weights are put on their grid alone.
  std::vector<FakeQuantized> fakes(kForms.size());
  for (std::size_t f = 0; f < kForms.size(); ++f) {
    if (kForms[f].letter != 'f')
      fakes[f] = fake_quantized(graph_, quantize(graph_, ranges_, scheme_for(Assignment(layers_.size(), kForms[f].letter))));
  }
  const FakeQuantized start = fake_quantized(graph_, quantize(graph_, ranges_, scheme_));
  struct Loss {
    double kl = 0, signal = 0, error = 0;
  };
  const std::size_t columns = kForms.size() + 1;
  std::vector<std::vector<Loss>> losses(static_cast<std::size_t>(samples.size()));
  bool scores = true;
  Stage stage(progress, "layer by layer", samples.size());
  for_each_sample(samples, threads, stage, [&]() -> SampleWorker {
    const auto interpreter = std::make_shared<Interpreter>(graph_);
    return [&, interpreter](std::int64_t i, const Sample& sample) {
      auto& mine = losses[static_cast<std::size_t>(i)];
      mine.resize(layers_.size() * columns);
      const Tensor expected = interpreter->keep(sample.inputs).at(0);
      const bool scored = score_layout(expected).classes > 1;
      for (std::size_t l = 0; l < layers_.size(); ++l) {
        for (std::size_t f = 0; f < columns; ++f) {
          if (f < kForms.size() && kForms[f].letter == 'f') continue;
          const bool whole = f == kForms.size();
          const NodeId n = layers_[l].node;
          const auto change =
              change_of(whole ? start : fakes[f], {n}, whole ? std::vector<ValueId>{graph_.node(n).output(0)} : std::vector<ValueId>{});
          const Tensor found = interpreter->replay(change).at(0);
          SquareSums sums;
          sums.add(as_float(expected).data<float>(), as_float(found).data<float>());
          mine[l * columns + f] = {.kl = scored ? mean_kl(expected, found) : -1, .signal = sums.signal, .error = sums.error};
        }
      }
    };
  });
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const auto loss_of = [&](std::size_t f) {
      Loss total;
      for (const auto& one : losses) {
        scores = scores && one[l * columns + f].kl >= 0;
        total.kl += one[l * columns + f].kl;
        total.signal += one[l * columns + f].signal;
        total.error += one[l * columns + f].error;
      }
      const auto n = static_cast<double>(std::max<std::size_t>(losses.size(), 1));
      return scores ? std::max(total.kl / n, 0.0) : (total.signal > 0 ? total.error / total.signal : total.error);
    };
    double least = 0;
    for (std::size_t f = 0; f < kForms.size(); ++f) {
      if (kForms[f].letter != 'f') least = std::max(least, loss_of(f));
      layers_[l].damage[f] = least;
    }
    layers_[l].full_damage = loss_of(kForms.size());
  }
}

}  // namespace nibble
