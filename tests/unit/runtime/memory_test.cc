// Where values lie: joined without copies, in place, as views; and how much memory that takes.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "nibble/onnx.h"
#include "support/quantized.h"
#include "unit/runtime/agreement.h"

namespace nibble {
namespace {

QuantizedGraph model_of(const std::string& text, unsigned seed = 1) {
  return test::quantize_on_random(parse_graph_text("graph memory\nopset ai.onnx 13\n" + text), QuantScheme{}, seed);
}

// How many steps of the plan have this kernel; the model agrees with its simulation, and again without an observer.
std::int64_t steps_with(const QuantizedGraph& model, const std::string& kernel, std::int64_t* arena_bytes = nullptr) {
  const auto inputs = test::random_inputs(model.graph, 3, -1.0F, 1.0F, 2);
  test::expect_agreement(model, inputs, 2);
  const Program program = lower(QuantizedGraph(model));
  Session session(program);
  const auto expected = simulate(model, inputs);
  const auto outputs = session.run(inputs);
  for (std::size_t i = 0; i < outputs.size(); ++i) EXPECT_TRUE(bit_equal(outputs[i], expected[i])) << "output " << i;
  if (arena_bytes != nullptr) *arena_bytes = session.arena_bytes();
  const std::string plan = program.dump();
  std::string wanted(1, ' ');
  wanted += kernel;
  std::int64_t count = 0;
  for (std::size_t at = plan.find(wanted); at != std::string::npos; at = plan.find(wanted, at + 1)) ++count;
  return count;
}

constexpr const char* kWeights =
    "const w float32[4,3,1,1] = {1, 0.5, -0.5, 0.25, 1, 0.5, 0.75, -1, 1, 0.5, -0.25, 1}\n"
    "const k float32[4,1,3,3] = {1, 0.5, -0.5, 0.25, 1, 0.5, 0.75, -1, 1, 1, 0.5, -0.5, 0.25, 1, 0.5, 0.75, -1, 1, 1, 0.5, -0.5, 0.25, 1, "
    "0.5, 0.75, "
    "-1, 1, 1, 0.5, -0.5, 0.25, 1, 0.5, 0.75, -1, 1}\n"
    "const w4 float32[2,4,1,1] = {1, 0.5, -0.5, 0.25, 1, 0.5, 0.75, -1}\n"
    "const w10 float32[2,10,1,1] = {1, 0.5, -0.5, 0.25, 1, 0.5, 0.75, -1, 1, 0.5, -0.5, 0.25, 1, 0.5, 0.75, 1, 0.5, -0.5, 0.25, 1}\n";

TEST(Memory, PartsOfAJoinAreWrittenIntoIt) {
  const QuantizedGraph model =
      model_of(std::string("input x float32[N,3,6,5]\n") + kWeights +
               "a = Conv(x, w)\nb = Conv(a, k) [group=4, pads=[1, 1, 1, 1]]\nc = MaxPool(a) [kernel_shape=[3, 3], pads=[1, 1, 1, 1]]\n"
               "y = Concat(a, b, c) [axis=1]\nz = AveragePool(y) [kernel_shape=[2, 2]]\noutput z\n");
  EXPECT_EQ(steps_with(model, "concat"), 0);
}

TEST(Memory, JoinsInsideOfJoins) {
  const QuantizedGraph model =
      model_of(std::string("input x float32[N,3,6,5]\n") + kWeights +
               "a = Conv(x, w)\nb = Conv(a, w4)\nc = Concat(a, b) [axis=1]\nd = Conv(a, k) [group=4, pads=[1, 1, 1, 1]]\n"
               "y = Concat(c, d) [axis=1]\nz = Conv(y, w10)\noutput z\n");
  EXPECT_EQ(steps_with(model, "concat"), 0);
}

TEST(Memory, WhatCannotBeWrittenInPlaceIsCopied) {
  // Twice the same value, and one that is in another join already.
  const QuantizedGraph model = model_of(std::string("input x float32[N,3,6,5]\n") + kWeights +
                                        "a = Conv(x, w)\nb = Conv(a, w4)\ny = Concat(a, a, b) [axis=1]\nu = Concat(b, a, a) [axis=1]\n"
                                        "v = Conv(y, w10)\nz = Conv(u, w10)\noutput v\noutput z\n");
  EXPECT_EQ(steps_with(model, "concat"), 2);
}

TEST(Memory, ChannelsOfAValueAreViews) {
  const QuantizedGraph model = model_of(std::string("input x float32[N,3,6,5]\n") + kWeights +
                                        "const parts int64[2] = {1, 3}\n"
                                        "a = Conv(x, w)\nb, c = Split(a, parts) [axis=1]\nd = Conv(c, w)\ne = Relu(b)\nf = Tanh(c)\n"
                                        "output d\noutput e\noutput f\n");
  EXPECT_EQ(steps_with(model, "copy:Split"), 0);
}

TEST(Memory, TransposesThatOnlyRenameAxesCostNothing) {
  const QuantizedGraph model =
      model_of(std::string("input x float32[N,3,6,5]\n") + kWeights +
               "a = Conv(x, w)\nb = Transpose(a) [perm=[0, 2, 3, 1]]\nc = Tanh(b)\nd = Transpose(c) [perm=[0, 3, 1, 2]]\n"
               "e = Conv(d, w4)\noutput e\n");
  EXPECT_EQ(steps_with(model, "copy:Transpose"), 0);
}

TEST(Memory, SlicesAndPadsOfImages) {
  const QuantizedGraph model = model_of(
      std::string("input x float32[N,3,6,5]\n") + kWeights +
      "const s int64[2] = {5, -1}\nconst e int64[2] = {0, -6}\nconst axes int64[2] = {2, 3}\nconst steps int64[2] = {-2, -2}\n"
      "const pads int64[8] = {0, 1, 0, 2, 0, 0, 1, -1}\n"
      "a = Conv(x, w)\nb = Slice(a, s, e, axes, steps)\nc = Pad(b, pads)\nd = Transpose(a) [perm=[0, 1, 3, 2]]\nf = SpaceToDepth(b) "
      "[blocksize=1]\n"
      "output c\noutput d\n");
  EXPECT_EQ(steps_with(model, "move:"), 0);
}

TEST(Memory, SumsLieOverWhatTheyReadLast) {
  // 4 KiB an image of 4 channels: two of them at once are enough, where each sum would need a third.
  const QuantizedGraph model = model_of(std::string("input x float32[N,3,32,32]\n") + kWeights +
                                        "a = Conv(x, w)\nb = Tanh(a)\nc = Add(b, a)\nd = Sigmoid(c)\ne = Mul(c, d)\noutput e\n");
  std::int64_t arena = 0;
  steps_with(model, "none", &arena);
  const std::int64_t image = std::int64_t{2} * 4 * 32 * 32;
  EXPECT_LE(arena, 2 * image);
}

TEST(Memory, SumsBehindConvolutionsAreOneStep) {
  const QuantizedGraph model =
      model_of(std::string("input x float32[N,3,6,5]\n") + kWeights +
               "const w44 float32[4,4,3,3] splat 0.25\nconst wm float32[5,5] splat 0.5\n"
               // The sum lies over a, which dies; over nothing, because the convolution reads its other operand; over nothing, because d is
               // read again.
               "a = Conv(x, w)\nb = Conv(a, k) [group=4, pads=[1, 1, 1, 1]]\nc = Conv(b, w44) [pads=[1, 1, 1, 1]]\nd = Add(a, c)\n"
               "e = Conv(d, w44) [pads=[1, 1, 1, 1]]\nf = Sub(e, d)\ng = Relu(f)\nh = Conv(g, w44) [pads=[1, 1, 1, 1]]\ni = Sub(g, h)\nj = "
               "Mul(i, g)\n"
               // Two readers; and a matrix product.
               "l = Conv(j, w44) [pads=[1, 1, 1, 1]]\nm = Add(l, j)\nn = Mul(m, l)\np = MatMul(n, wm)\nq = Add(n, p)\noutput q\n");
  EXPECT_EQ(steps_with(model, "qadd"), 1);
}

// The sum is made as soon as the convolution is, but others read what it would lie over before its own node comes.
TEST(Memory, SumsDoNotLieOverWhatIsReadBeforeTheirNode) {
  const std::string text =
      "input x float32[N,64,4,3]\nconst w float32[64,64,1,1] splat 0.03125\nconst k float32[64,64,1,1] splat -0.0625\n"
      "const from int64[1] = {0}\nconst to int64[1] = {64}\nconst axis int64[1] = {1}\n";
  const QuantizedGraph between =
      model_of(text + "a = Conv(x, w)\nb = Tanh(a)\nc = Conv(b, k)\nd = Sigmoid(a)\ne = Add(c, a)\noutput d\noutput e\n");
  steps_with(between, "none");
  // By way of a view.
  const QuantizedGraph view = model_of(text +
                                       "a = Conv(x, w)\nb = Tanh(a)\nv = Transpose(a) [perm=[0, 2, 3, 1]]\nc = Conv(b, k)\nd = Sigmoid(v)\n"
                                       "e = Sub(a, c)\noutput d\noutput e\n");
  steps_with(view, "none");
}

// Images side by side, or one below the other, as channels of another join: no run of bytes.
TEST(Memory, JoinsOfRowsInsideOfJoinsOfChannels) {
  for (const char* axes : {"2", "3", "-1", "0"}) {
    SCOPED_TRACE(axes);
    const std::string side = axes;
    const std::string shape = side == "2" ? "[N,3,8,5]" : side == "0" ? "[N,3,4,5]" : "[N,3,4,10]";
    const QuantizedGraph model = model_of("input x float32[N,3,4,5]\ninput z float32" + (side == "0" ? std::string("[M,3,4,5]") : shape) +
                                          "\n" + kWeights + "a = Conv(x, w)\nb = Tanh(a)\nc = Concat(a, b) [axis=" + side + "]\n" +
                                          (side == "0" ? "f = Conv(z, w)\ng = Concat(f, f) [axis=0]\n" : "g = Conv(z, w)\n") +
                                          "d = Concat(c, g) [axis=1]\ne = Tanh(d)\noutput e\n");
    steps_with(model, "none");
    const auto one = test::random_inputs(model.graph, 4, -1.0F, 1.0F, 1);
    test::expect_agreement(model, one, 1);
  }
}

TEST(Memory, SessionsAtOnceShareTheWeights) {
  const QuantizedGraph model = model_of(std::string("input x float32[N,3,16,15]\n") + kWeights +
                                        "a = Conv(x, w)\nb = Conv(a, k) [group=4, pads=[1, 1, 1, 1]]\nc = Add(a, b)\noutput c\n");
  const Program program = lower(QuantizedGraph(model));
  constexpr int kSessions = 4;
  std::vector<std::thread> callers;
  std::atomic<int> wrong = 0;
  for (int s = 0; s < kSessions; ++s) {
    callers.emplace_back([&, s] {
      const auto inputs = test::random_inputs(model.graph, static_cast<unsigned>(s), -1.0F, 1.0F, 1 + s % 3);
      const auto expected = simulate(model, inputs);
      Session session(program, {.threads = 1 + s % 2});
      for (int again = 0; again < 20; ++again) {
        if (!bit_equal(session.run(inputs)[0], expected[0])) ++wrong;
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(Session(program).weight_bytes(), Session(program, {.threads = 2}).weight_bytes());
}

// An image of bytes reaches the first convolution in one step, and a change of signedness is no step at all.
TEST(Memory, BytesFromOutside) {
  const Graph graph = parse_graph_text(
      "graph bytes\nopset ai.onnx 13\ninput x uint8[N,3,6,5]\n"
      "const s float32[] = {0.0078125}\nconst zu uint8[] = {128}\nconst zs int8[] = {0}\nconst zw int8[] = {0}\n"
      "const w int8[4,3,1,1] = {1, 50, -50, 25, 100, 5, 75, -100, 1, 120, -25, 1}\n"
      "a = DequantizeLinear(x, s, zu)\nb = QuantizeLinear(a, s, zs)\nc = DequantizeLinear(b, s, zs)\nf = DequantizeLinear(w, s, zw)\n"
      "d = Conv(c, f)\ne = QuantizeLinear(d, s, zs)\ny = DequantizeLinear(e, s, zs)\noutput y\n");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  Tensor x(DataType::kUInt8, {2, 3, 6, 5});
  std::uint8_t next = 0;
  for (auto& v : x.mutable_data<std::uint8_t>()) v = next = static_cast<std::uint8_t>(next + 37);
  const std::vector<Tensor> inputs = {x};
  test::expect_agreement(model, inputs);
  const std::string plan = lower(QuantizedGraph(model)).dump();
  EXPECT_EQ(std::count(plan.begin(), plan.end(), '\n'), 4) << plan;  // the copy, the convolution, the edge; and a line of sizes
}

// The goal: within 1.3 times the two largest values that are alive at once. The rest of a session is scratch memory of the kernels.
TEST(Memory, MobileNetV2) {
  const char* folder = std::getenv("NIBBLE_ASSETS");
  const auto path =
      std::filesystem::path(folder != nullptr ? folder : NIBBLE_SOURCE_DIR "/../shared/assets") / "models/mobilenet_v2_1.0_224.onnx";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here: set NIBBLE_ASSETS";
  const QuantizedGraph model = test::quantize_on_random(import_onnx(path.string()), QuantScheme{}, 1, 0.0F, 1.0F);
  Session session(lower(QuantizedGraph(model)));
  session.run(test::random_inputs(model.graph, 7, 0.0F, 1.0F));
  constexpr std::int64_t kTwoLargestAtOnce = 112 * 112 * 96 + 56 * 56 * 96;  // the second block's expansion, and its depthwise result
  EXPECT_LE(session.arena_bytes() + session.scratch_bytes(), kTwoLargestAtOnce * 13 / 10);
}

}  // namespace
}  // namespace nibble
