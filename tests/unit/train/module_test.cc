#include "module_support.h"

namespace nibble::train {
namespace {

class Classifiers : public testing::TestWithParam<const char*> {};

// Float32 sums in another order, through up to 56 layers: 1e-4 of the largest logit.
TEST_P(Classifiers, EvaluationIsTheInterpreters) {
  const auto path = test::asset(GetParam());
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here: set NIBBLE_ASSETS";
  const Graph graph = import_onnx(path.string());
  TrainModule module(graph, {});
  const std::int64_t batch = 3;
  const torch::Tensor images = test::random_images(graph, batch, 7);
  torch::NoGradGuard guard;
  const torch::Tensor logits = module.forward(images, test::step_of(batch, false));
  EXPECT_LT(test::relative_error(logits, test::interpret(graph, images, test::logits_name(graph))), 1e-4);
}

TEST_P(Classifiers, InitializersGoBackExactly) {
  const auto path = test::asset(GetParam());
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here: set NIBBLE_ASSETS";
  const Graph graph = import_onnx(path.string());
  TrainModule module(graph, {});
  {
    torch::NoGradGuard guard;
    module.forward(test::random_images(graph, 2, 7), test::step_of(2, false));
  }
  const Graph back = module.float_graph();
  for (const Parameter& parameter : module.parameters()) {
    const auto id = back.find_value(parameter.name);
    ASSERT_TRUE(id) << parameter.name;
    EXPECT_TRUE(bit_equal(*back.value(*id).constant, from_torch(parameter.value)));
    const auto before = graph.find_value(parameter.name);
    if (!before || !graph.is_constant(*before)) continue;
    const Tensor& found = *back.value(*id).constant;  // a bias of [1,10] may have become one of [10]
    EXPECT_TRUE(bit_equal(found, graph.value(*before).constant->reshaped(found.shape()))) << parameter.name;
  }
  if (!module.notes().empty()) return;
  EXPECT_EQ(print_graph(back), print_graph(graph));
}

INSTANTIATE_TEST_SUITE_P(Assets, Classifiers,
                         testing::Values("cifar10_resnet20.onnx", "cifar10_resnet56.onnx", "mlperf_resnet8.onnx", "mnist_cntk.onnx",
                                         "mobilenet_v1_0.75_224.onnx", "mobilenet_v2_1.0_224.onnx", "squeezenet1.1_gluon.onnx",
                                         "kws_dscnn.onnx"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
                           return name;
                         });

}  // namespace
}  // namespace nibble::train
