// Networks that are written in an unusual way, and runs that begin in float.
#include "module_support.h"
#include "nibble/error.h"
#include "nibble/quantize.h"

namespace nibble::train {
namespace {

TrainQuantization all_layers(const std::string& weights, int weight_bits, const std::string& activations, int activation_bits) {
  TrainQuantization quantization;
  quantization.weight_method = weights;
  quantization.weight_bits = weight_bits;
  quantization.activation_method = activations;
  quantization.activation_bits = activation_bits;
  quantization.first_last = FirstLastPolicy::kSame;
  return quantization;
}

Tensor numbers(const Shape& shape, std::uint64_t seed, double mean = 0, double deviation = 0.3) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(mean, deviation);
  Tensor tensor(DataType::kFloat32, shape);
  for (float& x : tensor.mutable_data<float>()) x = static_cast<float>(normal(random));
  return tensor;
}

// [N,2,6,6] -> layers one behind the other -> [N,3].
class Chain {
 public:
  explicit Chain(std::int64_t batch) {
    editor_.set_opset("", 13);
    TensorType type = make_type(DataType::kFloat32, {1, 2, 6, 6});
    if (batch < 0) type.dims[0] = {.size = -1, .symbol = "N"};
    at_ = editor_.add_input("input", type);
  }
  ValueId constant(Tensor tensor) { return editor_.add_constant(editor_.fresh_value_name("c"), std::move(tensor)); }
  void add(const std::string& op, const std::vector<ValueId>& others = {}) {
    Node node;
    node.name = op + std::to_string(++count_);
    node.op_type = op;
    node.inputs = {at_};
    node.inputs.insert(node.inputs.end(), others.begin(), others.end());
    if (op == "Conv") node.attributes["pads"] = std::vector<std::int64_t>{1, 1, 1, 1};
    at_ = editor_.add_value(node.name + "_out");
    node.outputs = {at_};
    editor_.add_node(std::move(node));
  }
  void norm(std::uint64_t seed) {
    const Shape two = {2};
    add("BatchNormalization", {constant(numbers(two, seed, 1)), constant(numbers(two, seed + 1)), constant(numbers(two, seed + 2)),
                               constant(numbers(two, seed + 3, 1, 0.1))});
  }
  Graph finish() {
    editor_.set_outputs({at_});
    editor_.finish();
    return graph_;
  }

 private:
  Graph graph_;
  GraphEditor editor_{graph_};
  ValueId at_ = kNoValue;
  int count_ = 0;
};

// Relative error of the module's evaluation against the simulation of what it leaves: the median sample, since ties upset some.
double error_of_evaluation(TrainModule& module, const Graph& graph) {
  constexpr std::int64_t kSamples = 9;
  module.initialize(test::random_images(graph, kSamples, 1), test::step_of(kSamples, true));
  const TrainedNetwork trained = module.trained();
  const QuantizedGraph quantized = quantize(trained.graph, trained.ranges, trained.scheme);
  torch::NoGradGuard guard;
  const torch::Tensor images = test::random_images(graph, kSamples, 2);
  const torch::Tensor logits = module.forward(images, test::step_of(kSamples, false));
  std::vector<double> errors;
  for (std::int64_t i = 0; i < kSamples; ++i) {
    const std::vector<Tensor> inputs = {from_torch(images.slice(0, i, i + 1))};
    errors.push_back(test::relative_error(logits[i], to_torch(simulate(quantized, inputs)[0], torch::kFloat32).view({-1})));
  }
  std::sort(errors.begin(), errors.end());
  return errors[kSamples / 2];
}

// Mul and Add behind a layer or its BatchNormalization are folded into the layer that quantize() sees, not into the module's.
TEST(OddGraphs, MulAndAddBehindLayersAreWhatTheModuleEvaluates) {
  for (const std::string method : {"ema", "lsq"}) {
    for (const bool norm : {true, false}) {
      Chain chain(-1);
      chain.add("Conv", {chain.constant(numbers({2, 2, 3, 3}, 1))});
      if (norm) chain.norm(2);
      chain.add("Mul", {chain.constant(numbers({2, 1, 1}, 6, 3))});
      chain.add("Add", {chain.constant(numbers({2, 1, 1}, 7, 1))});
      chain.add("Relu");
      chain.add("Flatten");
      chain.add("Gemm", {chain.constant(numbers({72, 3}, 8))});
      chain.add("Add", {chain.constant(numbers({3}, 9, 2))});
      const Graph graph = chain.finish();
      TrainModule module(graph, all_layers(method, 8, method, 8));
      EXPECT_LT(error_of_evaluation(module, graph), 0.02) << method << (norm ? " with" : " without") << " normalization";
    }
  }
}

TEST(OddGraphs, LayersThatShareTernaryWeightsHaveTwoBases) {
  Chain chain(-1);
  const ValueId shared = chain.constant(numbers({2, 2, 3, 3}, 1));
  for (int i = 0; i < 2; ++i) {
    chain.add("Conv", {shared});
    chain.add("Relu");
  }
  chain.add("Flatten");
  chain.add("Gemm", {chain.constant(numbers({72, 3}, 8))});
  const Graph graph = chain.finish();
  TrainModule module(graph, all_layers("ttq", 2, "lsq", 8));
  EXPECT_LT(error_of_evaluation(module, graph), 0.02);
  for (const auto& [name, entry] : module.trained().ranges.entries) EXPECT_TRUE(entry.bases.empty() || entry.bases.size() == 2) << name;
}

// Exported for one sample: its shape names the batch.
TEST(OddGraphs, ABatchGoesThroughANetworkOfOneSample) {
  Chain chain(1);
  chain.add("Conv", {chain.constant(numbers({2, 2, 3, 3}, 1))});
  chain.add("Reshape", {chain.constant(Tensor::from<std::int64_t>({2}, std::vector<std::int64_t>{1, -1}))});
  chain.add("Gemm", {chain.constant(numbers({72, 3}, 8))});
  const Graph graph = chain.finish();
  TrainModule module(graph, {});
  torch::NoGradGuard guard;
  const torch::Tensor images = test::random_images(graph, 5, 2);
  const torch::Tensor logits = module.forward(images, test::step_of(5, false));
  ASSERT_EQ(logits.size(0), 5);
  EXPECT_LT(test::relative_error(logits, test::interpret(graph, images, test::logits_name(graph))), 1e-5);
}

// Grids of methods that measure once are those of the network that the float epochs leave.
TEST(OddGraphs, GridsStartAnewAfterFloatEpochs) {
  const Graph graph = make_architecture("lenet5", {1, 20, 20}, 10, 3);
  for (const std::string method : {"lsq", "inq"}) {
    TrainModule module(graph, all_layers(method, 4, "lsq", 4));
    const torch::Tensor images = test::random_images(graph, 8, 1);
    module.initialize(images, test::step_of(8, true));
    const auto tensors = [&] {
      std::map<std::string, torch::Tensor> result;
      for (const Parameter& p : module.parameters()) result[p.name] = p.value;
      for (const StateTensor& s : module.state()) result[s.name] = s.value;
      return result;
    };
    const std::string name = method == "lsq" ? "conv1.weight/step" : "conv1.weight/n1";
    ASSERT_TRUE(tensors().contains(name));
    const torch::Tensor first = tensors()[name].detach().clone();
    {
      torch::NoGradGuard guard;
      tensors()["conv1.weight"].mul_(4);
    }
    module.initialize(images, test::step_of(8, true));
    const torch::Tensor second = tensors()[name].detach();
    EXPECT_TRUE(torch::allclose(second, method == "lsq" ? first * 4 : first + 2)) << method;
  }
}

TEST(OddGraphs, SoftStairsNeedSomethingThatRounds) {
  const Graph graph = make_architecture("lenet5", {1, 20, 20}, 10, 3);
  TrainQuantization quantization = all_layers("ttq", 2, "none", 8);
  quantization.estimator = "dsq";
  EXPECT_THROW(TrainModule(graph, quantization), Error);
  quantization.activation_method = "lsq";
  EXPECT_NO_THROW(TrainModule(graph, quantization));
}

}  // namespace
}  // namespace nibble::train
