// Each old form at its own opset and raised to 13: the same outputs.
#include "onnx/raise_opset.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>

#include "model_builder.h"
#include "nibble/interpreter.h"

namespace nibble {
namespace {

struct Case {
  const char* name;
  int opset;
  const char* body;  // from x float32[2,3,4,4] to y
};

class RaiseOpset : public testing::TestWithParam<Case> {};

TEST_P(RaiseOpset, ComputesTheSame) {
  const Case& c = GetParam();
  const Graph before =
      parse_graph_text(fmt::format("graph t\nopset ai.onnx {}\ninput x float32[2,3,4,4]\n{}\noutput y\n", c.opset, c.body), c.name);
  Tensor x(DataType::kFloat32, {2, 3, 4, 4});
  std::mt19937 random(11);
  std::uniform_real_distribution<float> in(-3.0F, 3.0F);
  for (float& v : x.mutable_data<float>()) v = in(random);
  const std::vector<Tensor> inputs{x};
  Interpreter old_form(before, {.threads = 1, .mode = ExecMode::kFixedOrder});
  const Tensor want = old_form.run(inputs).at(0);
  for (const int target : {13, 18, 21}) {
    const Graph after = raise_opset(before, target);
    EXPECT_EQ(after.opset(""), target);
    Interpreter new_form(after, {.threads = 1, .mode = ExecMode::kFixedOrder});
    const Tensor have = new_form.run(inputs).at(0);
    EXPECT_TRUE(bit_equal(want, have)) << target << "\n" << print_graph(after);
  }
}

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"squeeze", 11, "u = Unsqueeze(x) [axes=[0, 3]]\ny = Squeeze(u) [axes=[0]]"},
      {"reduce_sum", 11, "y = ReduceSum(x) [axes=[1, 3], keepdims=0]"},
      {"reduce_mean", 11, "y = ReduceMean(x) [axes=[2], keepdims=1]"},
      {"reduce_mean_all", 11, "y = ReduceMean(x) [keepdims=1]"},
      {"split_sizes", 11, "a, b = Split(x) [axis=1, split=[1, 2]]\ny = Concat(b, a) [axis=1]"},
      {"split_even", 11, "a, b = Split(x) [axis=2]\ny = Concat(b, a) [axis=2]"},
      {"softmax_default", 11, "y = Softmax(x)"},
      {"softmax_axis_2", 9, "y = Softmax(x) [axis=2]"},
      {"softmax_last", 11, "y = Softmax(x) [axis=-1]"},
      {"log_softmax", 9, "y = LogSoftmax(x) [axis=1]"},
      {"hardmax", 9, "y = Hardmax(x) [axis=3]"},
      {"clip_both", 9, "y = Clip(x) [min=-1.0, max=0.5]"},
      {"clip_low", 7, "y = Clip(x) [min=-1.0]"},
      {"pad", 9, "y = Pad(x) [pads=[0, 0, 1, 2, 0, 0, 0, 1], value=2.5]"},
      {"pad_edge", 9, "y = Pad(x) [pads=[0, 0, 1, 2, 0, 0, 0, 1], mode=\"edge\"]"},
      {"slice", 9, "y = Slice(x) [starts=[1, 0], ends=[3, -1], axes=[2, 3]]"},
      {"slice_no_axes", 9, "y = Slice(x) [starts=[0, 1], ends=[2, 9]]"},
      {"topk", 9, "y, i = TopK(x) [k=2, axis=-1]"},
      {"upsample_7", 7, "y = Upsample(x) [scales=[1.0, 1.0, 2.0, 3.0], mode=\"nearest\"]"},
      {"upsample_9", 9, "const s float32[4] = {1, 1, 2, 3}\ny = Upsample(x, s) [mode=\"nearest\"]"},
      {"upsample_linear", 9, "const s float32[4] = {1, 1, 2, 2}\ny = Upsample(x, s) [mode=\"linear\"]"},
      {"resize_10", 10, "const s float32[4] = {1, 1, 0.5, 1.5}\ny = Resize(x, s) [mode=\"nearest\"]"},
      {"dropout", 10, "y = Dropout(x) [ratio=0.4]"},
      {"batch_norm", 7,
       "const g float32[3] = {1, 2, 0.5}\nconst b float32[3] = {0, 1, -1}\nconst m float32[3] = {0.1, 0.2, 0.3}\nconst v float32[3] = {1, "
       "2, 3}\n"
       "y = BatchNormalization(x, g, b, m, v) [spatial=1, epsilon=0.001]"},
  };
  return all;
}
std::string case_name(const testing::TestParamInfo<Case>& parameter) { return parameter.param.name; }
INSTANTIATE_TEST_SUITE_P(All, RaiseOpset, testing::ValuesIn(cases()), case_name);

TEST(RaiseOpsetRefusals, AreNamed) {
  const auto refused = [](int opset, const std::string& body, const char* node) {
    const Graph graph = parse_graph_text(fmt::format("graph t\nopset ai.onnx {}\ninput x float32[2,3,4,4]\n{}\noutput y\n", opset, body));
    test::expect_error(ErrorCode::kUnsupported, {node, "opset"}, [&] { raise_opset(graph, 21); });
  };
  refused(10, "y, m = Dropout(x) name \"drop\"\noutput m", "'drop'");
  refused(7, "const g float32[3] splat 1\ny = BatchNormalization(x, g, g, g, g) [spatial=0] name \"norm\"", "'norm'");
  refused(9, "y = ParametricSoftplus(x) name \"odd\"", "'odd'");
}

}  // namespace
}  // namespace nibble
