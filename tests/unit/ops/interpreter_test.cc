// The interpreter: its errors, its order of events, and its two modes against each other.
#include "nibble/interpreter.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>

#include "nibble/error.h"
#include "ops/op.h"

namespace nibble {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string message_of(const std::function<void()>& action, ErrorCode code) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "no error";
}

Tensor random_tensor(Shape shape, std::mt19937& random) {
  Tensor tensor(DataType::kFloat32, std::move(shape));
  std::uniform_real_distribution<float> values(-1.0F, 1.0F);
  for (float& v : tensor.mutable_data<float>()) v = values(random);
  return tensor;
}

Graph with_constants(const std::string& text, const std::vector<std::pair<std::string, Tensor>>& constants) {
  // Larger constants cannot be written as text: they are inputs there, and become constants here.
  Graph graph = parse_graph_text(text);
  GraphEditor editor(graph);
  std::vector<ValueId> inputs;
  for (const ValueId id : graph.inputs()) {
    bool constant = false;
    for (const auto& [name, tensor] : constants) constant = constant || graph.value(id).name == name;
    if (!constant) inputs.push_back(id);
  }
  editor.set_inputs(inputs);
  for (const auto& [name, tensor] : constants) editor.set_constant(*graph.find_value(name), tensor);
  editor.finish(GraphEditor::Prune::kNo);
  return graph;
}

TEST(Interpreter, NamesAnUnknownOpWithDomainAndOpset) {
  const Graph graph =
      parse_graph_text("graph g\nopset ai.onnx 13\nopset my.ops 3\ninput x float32[1]\ny = my.ops:Frobnicate(x) name \"n\"\noutput y");
  const std::string message = message_of([&] { Interpreter run(graph); }, ErrorCode::kUnsupported);
  EXPECT_THAT(message, testing::AllOf(HasSubstr("'n'"), HasSubstr("Frobnicate"), HasSubstr("my.ops"), HasSubstr("opset 3")));
}

TEST(Interpreter, RefusesAWrongNumberOfInputsAndALeftOutOne) {
  const Graph few = parse_graph_text("graph g\nopset ai.onnx 13\ninput x float32[1,1,1]\ny = Conv(x) name \"n\"\noutput y");
  EXPECT_THAT(message_of([&] { Interpreter run(few); }, ErrorCode::kInvalidModel), HasSubstr("has 1 inputs, expected 2 to 3"));
  const Graph empty = parse_graph_text("graph g\nopset ai.onnx 13\ninput x float32[1,1,1]\ny = Conv(x, _, x) name \"n\"\noutput y");
  EXPECT_THAT(message_of([&] { Interpreter run(empty); }, ErrorCode::kInvalidModel), HasSubstr("input 1 is required"));
}

TEST(Interpreter, ChecksItsInputs) {
  const Graph graph = parse_graph_text("graph g\nopset ai.onnx 13\ninput x float32[n,2]\ny = Softmax(x)\noutput y");
  Interpreter run(graph);
  const std::vector<Tensor> none, wrong_type{Tensor::zeros(DataType::kInt8, {1, 2})}, wrong_size{Tensor::zeros(DataType::kFloat32, {1, 3})},
      wrong_rank{Tensor::zeros(DataType::kFloat32, {2})}, fine{Tensor::zeros(DataType::kFloat32, {5, 2})}, undefined(1);
  for (const auto* inputs : {&none, &wrong_type, &wrong_size, &wrong_rank, &undefined})
    message_of([&] { run.run(*inputs); }, ErrorCode::kInvalidData);
  EXPECT_THAT(message_of([&] { run.run(wrong_size); }, ErrorCode::kInvalidData),
              testing::AllOf(HasSubstr("'x'"), HasSubstr("[1,3]"), HasSubstr("[n,2]")));
  EXPECT_EQ(run.run(fine)[0].shape(), (Shape{5, 2}));
}

TEST(Interpreter, NamesTheNodeThatFailsAndRunsAgain) {
  const Graph graph = parse_graph_text(
      "graph g\nopset ai.onnx 13\ninput x float32[n,c]\nconst w float32[2,1] = {1, 2}\ny = MatMul(x, w) name \"product\"\noutput y");
  Interpreter run(graph);
  const std::vector<Tensor> bad{Tensor::zeros(DataType::kFloat32, {1, 3})}, good{Tensor::from<float>({1, 2}, {3, 4})};
  EXPECT_THAT(message_of([&] { run.run(bad); }, ErrorCode::kInvalidModel), HasSubstr("node 'product' (MatMul)"));
  EXPECT_FLOAT_EQ(run.run(good)[0].data<float>()[0], 11.0F);
}

TEST(Interpreter, ShowsEveryValueThatIsNoInitializerInOrder) {
  const Graph graph = parse_graph_text(
      "graph g\nopset ai.onnx 13\ninput x float32[1,1,2,2]\nconst w float32[1,1,1,1] = {2}\na = Conv(x, w)\nb = MaxPool(a) "
      "[kernel_shape=[2, 2]]\noutput b\noutput x");
  for (const ExecMode mode : {ExecMode::kFast, ExecMode::kFixedOrder}) {
    Interpreter run(graph, {.mode = mode});
    std::vector<std::string> seen;
    const auto outputs =
        run.run(std::vector<Tensor>{Tensor::from<float>({1, 1, 2, 2}, {1, 2, 3, 4})},
                [&](ValueId id, const Tensor& tensor) { seen.push_back(graph.value(id).name + to_string(tensor.shape())); });
    EXPECT_THAT(seen, ElementsAre("x[1,1,2,2]", "a[1,1,2,2]", "b[1,1,1,1]"));
    EXPECT_FLOAT_EQ(outputs[0].data<float>()[0], 8.0F);
    EXPECT_FLOAT_EQ(outputs[1].data<float>()[3], 4.0F);
  }
}

// A sum of k products, each operand below 1 in size, is off by at most about k * k / 2 roundings of size k * eps / k: k * eps relative to
// the sum of magnitudes, which is at most k. Both sides err, and a few ops follow.
float tolerance(std::int64_t k) {
  return 4.0F * static_cast<float>(k) * std::numeric_limits<float>::epsilon() * std::sqrt(static_cast<float>(k)) + 1e-6F;
}

TEST(InterpreterModes, ConvolutionsAgree) {
  const unsigned seed = 20230;
  std::mt19937 random(seed);
  const auto pick = [&](std::int64_t low, std::int64_t high) { return std::uniform_int_distribution<std::int64_t>(low, high)(random); };
  for (int round = 0; round < 60; ++round) {
    const std::int64_t groups = pick(1, 3), in = round % 3 == 0 ? 1 : pick(1, 9), out = pick(1, 9), kh = pick(1, 3), kw = pick(1, 4),
                       dilation = pick(1, 2);
    const std::int64_t height = kh * dilation + pick(0, 9), width = kw * dilation + pick(0, 20);
    const std::string text = fmt::format(
        "graph g\nopset ai.onnx 13\ninput x float32[n,{},{},{}]\ninput w float32[{},{},{},{}]\ninput b float32[{}]\n"
        "y = Conv(x, w, b) [group={}, strides=[{}, {}], dilations=[{}, {}], pads=[{}, {}, {}, {}]{}]\noutput y",
        groups * in, height, width, groups * out, in, kh, kw, groups * out, groups, pick(1, 2), pick(1, 3), dilation, dilation, pick(0, 2),
        pick(0, 2), pick(0, 2), pick(0, 2), round % 2 == 0 ? ", activation=\"Clip\", activation_min=-0.5, activation_max=0.5" : "");
    SCOPED_TRACE(fmt::format("seed {} round {}\n{}", seed, round, text));
    const Graph graph =
        with_constants(text, {{"w", random_tensor({groups * out, in, kh, kw}, random)}, {"b", random_tensor({groups * out}, random)}});
    Interpreter fast(graph), fixed(graph, {.mode = ExecMode::kFixedOrder}), threaded(graph, {.threads = 3, .mode = ExecMode::kFixedOrder});
    const Tensor x = random_tensor({2, groups * in, height, width}, random);
    const Tensor a = fast.run(std::vector<Tensor>{x})[0], b = fixed.run(std::vector<Tensor>{x})[0];
    ASSERT_EQ(a.shape(), b.shape());
    for (std::int64_t i = 0; i < a.size(); ++i)
      ASSERT_NEAR(a.data<float>()[static_cast<std::size_t>(i)], b.data<float>()[static_cast<std::size_t>(i)], tolerance(in * kh * kw)) << i;
    EXPECT_TRUE(bit_equal(b, threaded.run(std::vector<Tensor>{x})[0])) << "threads change the bits of the fixed order";
    Interpreter fast_threaded(graph, {.threads = 3});
    const Tensor c = fast_threaded.run(std::vector<Tensor>{x})[0];
    for (std::int64_t i = 0; i < c.size(); ++i)
      ASSERT_NEAR(c.data<float>()[static_cast<std::size_t>(i)], b.data<float>()[static_cast<std::size_t>(i)], tolerance(in * kh * kw)) << i;
    // One sample alone gives the bits it has in a batch.
    const std::int64_t half = x.size() / 2;
    const Tensor second = Tensor::from<float>({1, groups * in, height, width}, x.data<float>().subspan(static_cast<std::size_t>(half)));
    const Tensor alone = fixed.run(std::vector<Tensor>{second})[0];
    EXPECT_EQ(std::memcmp(alone.bytes(), b.bytes() + b.size_bytes() / 2, alone.size_bytes()), 0)
        << "the batch changes the bits of the fixed order";
    // The primitive is remade for another batch.
    const Tensor again = fast.run(std::vector<Tensor>{second})[0];
    for (std::int64_t i = 0; i < again.size(); ++i)
      ASSERT_NEAR(again.data<float>()[static_cast<std::size_t>(i)], alone.data<float>()[static_cast<std::size_t>(i)],
                  tolerance(in * kh * kw))
          << i;
    const Tensor rows = fast_threaded.run(std::vector<Tensor>{second})[0];  // one sample: cut by rows
    for (std::int64_t i = 0; i < rows.size(); ++i)
      ASSERT_NEAR(rows.data<float>()[static_cast<std::size_t>(i)], alone.data<float>()[static_cast<std::size_t>(i)],
                  tolerance(in * kh * kw))
          << i;
  }
}

TEST(InterpreterModes, ProductsAgreeAndAreBatchIndependent) {
  const unsigned seed = 7;
  std::mt19937 random(seed);
  for (const std::int64_t m : {1, 5, 13}) {
    for (const std::int64_t k : {1, 17, 300}) {
      for (const std::int64_t n : {1, 15, 33}) {
        const Graph graph = with_constants(fmt::format("graph g\nopset ai.onnx 13\ninput x float32[n,{}]\ninput w float32[{},{}]\ny = "
                                                       "MatMul(x, w) [activation=\"Relu\"]\nz = Gemm(x, w) [alpha=0.5]\noutput y\noutput z",
                                                       k, k, n),
                                           {{"w", random_tensor({k, n}, random)}});
        Interpreter fast(graph, {.threads = 2}), fixed(graph, {.mode = ExecMode::kFixedOrder});
        const Tensor x = random_tensor({m, k}, random);
        const auto a = fast.run(std::vector<Tensor>{x}), b = fixed.run(std::vector<Tensor>{x});
        for (std::size_t o = 0; o < 2; ++o) {
          for (std::size_t i = 0; i < a[o].data<float>().size(); ++i)
            ASSERT_NEAR(a[o].data<float>()[i], b[o].data<float>()[i], tolerance(k)) << "seed " << seed;
        }
        const Tensor row = Tensor::from<float>({1, k}, x.data<float>().last(static_cast<std::size_t>(k)));
        const auto alone = fixed.run(std::vector<Tensor>{row});
        EXPECT_EQ(
            std::memcmp(alone[0].bytes(), b[0].bytes() + static_cast<std::size_t>((m - 1) * n) * sizeof(float), alone[0].size_bytes()), 0);
      }
    }
  }
}

// Everything that may stay channels-last, and the ways back to plain: a second plain reader, broadcasts of every rank, Concat on each axis.
TEST(InterpreterModes, ChannelsLastChainsAgree) {
  const unsigned seed = 99;
  std::mt19937 random(seed);
  const Graph graph = with_constants(R"(graph g
opset ai.onnx 13
input x float32[n,3,9,11]
input w float32[4,3,3,3]
const s float32[4] = {1, 2, 0.5, -1}
const c float32[4,1,1] = {0.1, 0.2, 0.3, 0.4}
const q float32[1,4,1,1] = {1, -1, 2, 0.5}
const row float32[11] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
const half float32[] = {0.5}
const one float32[4] = {1, 1, 1, 1}
const shape int64[2] = {0, -1}
const scales float32[4] = {1, 1, 2, 1.5}
a = Conv(x, w) [pads=[1, 1, 1, 1]]
bn = BatchNormalization(a, s, one, s, one)
p = Add(bn, c)
m = Mul(q, p)
r = Add(m, row)
h = Mul(r, half)
f = Relu(h)
mp = MaxPool(f) [kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1]]
ap = AveragePool(f) [kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1]
cat = Concat(mp, ap) [axis=1]
cat2 = Concat(cat, cat) [axis=-1]
up = Resize(cat2, _, scales) [mode="linear"]
g = GlobalAveragePool(up)
flat = Reshape(f, shape)
t = Transpose(cat) [perm=[0, 2, 3, 1]]
output up
output g
output flat
output t
output f
)",
                                     {{"w", random_tensor({4, 3, 3, 3}, random)}});
  Interpreter fast(graph), fixed(graph, {.mode = ExecMode::kFixedOrder});
  const std::vector<Tensor> inputs{random_tensor({2, 3, 9, 11}, random)};
  for (int run = 0; run < 2; ++run) {
    const auto a = fast.run(inputs), b = fixed.run(inputs);
    for (std::size_t o = 0; o < a.size(); ++o) {
      ASSERT_EQ(a[o].shape(), b[o].shape()) << o;
      // Values reach about 100 here: the tolerance is relative to that.
      for (std::size_t i = 0; i < a[o].data<float>().size(); ++i)
        ASSERT_NEAR(a[o].data<float>()[i], b[o].data<float>()[i], 2e-4F) << "output " << o << " element " << i;
    }
  }
}

TEST(InferTypes, KeepsSymbolsAndFollowsConstants) {
  const Graph graph = parse_graph_text(
      "graph g\nopset ai.onnx 13\ninput x float32[n,3,8,8]\nconst w float32[4,3,3,3] splat 1\ny = Conv(x, w) [strides=[2, 2]]\nz = "
      "MaxPool(y) [kernel_shape=[3, 3]]\noutput z");
  const InferredGraph inferred = infer_types(graph);
  EXPECT_EQ(to_string(inferred.types[static_cast<std::size_t>(graph.outputs()[0])]), "float32[n,4,1,1]");
  const std::vector<TensorType> concrete{make_type(DataType::kFloat32, {2, 3, 16, 16})};
  EXPECT_EQ(to_string(infer_types(graph, concrete).types[static_cast<std::size_t>(graph.outputs()[0])]), "float32[2,4,5,5]");
}

TEST(InferTypes, LeavesUnknownOpsUnknown) {
  const Graph graph = parse_graph_text("graph g\nopset ai.onnx 13\ninput x float32[n]\ny = Mystery(x)\nz = Softmax(y)\noutput z");
  EXPECT_FALSE(infer_types(graph).types[static_cast<std::size_t>(graph.outputs()[0])].has_rank);
}

// Two branches that join, channels-last and plain nodes, a value that is read twice.
constexpr const char* kBranching =
    "graph g\nopset ai.onnx 13\ninput x float32[n,3,6,6]\ninput w1 float32[8,3,3,3]\ninput w2 float32[8,1,3,3]\ninput w3 float32[288,5]\n"
    "a = Conv(x, w1) [pads=[1, 1, 1, 1], activation=\"Relu\"]\nb = Conv(a, w2) [pads=[1, 1, 1, 1], group=8]\nc = Add(a, b)\n"
    "d = Flatten(c)\ny = MatMul(d, w3)\nz = Relu(b)\noutput y\noutput z";

TEST(Interpreter, AReplayEqualsARunOfTheChangedGraph) {
  const unsigned seed = 7;
  std::mt19937 random(seed);
  const Tensor w1 = random_tensor({8, 3, 3, 3}, random), w2 = random_tensor({8, 1, 3, 3}, random), w3 = random_tensor({288, 5}, random);
  const Graph graph = with_constants(kBranching, {{"w1", w1}, {"w2", w2}, {"w3", w3}});
  const std::vector<Tensor> x{random_tensor({2, 3, 6, 6}, random)};
  Interpreter replayed(graph);
  const auto kept = replayed.keep(x);
  for (const std::string name : {"w1", "w2", "w3"}) {
    SCOPED_TRACE(name);
    const Tensor other = random_tensor(graph.value(*graph.find_value(name)).constant->shape(), random);
    const Graph changed = with_constants(kBranching, {{"w1", name == "w1" ? other : w1}, {"w2", name == "w2" ? other : w2}, {"w3", name == "w3" ? other : w3}});
    std::vector<std::string> seen;
    const auto found = replayed.replay({.constants = {{*graph.find_value(name), other}}, .edited = {}, .edit = {}},
                                       [&](ValueId id, std::span<const float>, std::span<const float>) { seen.push_back(graph.value(id).name); });
    const auto expected = Interpreter(changed).run(x);
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(bit_equal(expected[i], found[i])) << i;
    if (name == "w1") { EXPECT_THAT(seen, ElementsAre("a", "b", "c", "d", "y", "z")); }
    if (name == "w3") { EXPECT_THAT(seen, ElementsAre("y")); }
  }
  // Without a change, and after changes: the kept run.
  const auto again = replayed.replay({});
  for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(bit_equal(kept[i], again[i])) << i;
  const auto run = replayed.run(x);
  for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(bit_equal(kept[i], run[i])) << i;
}

TEST(Interpreter, AReplayEditsValues) {
  const unsigned seed = 8;
  std::mt19937 random(seed);
  const Graph graph = with_constants(kBranching, {{"w1", random_tensor({8, 3, 3, 3}, random)}, {"w2", random_tensor({8, 1, 3, 3}, random)},
                                                  {"w3", random_tensor({288, 5}, random)}});
  const std::vector<Tensor> x{random_tensor({1, 3, 6, 6}, random)};
  Interpreter run(graph);
  const auto kept = run.keep(x);
  std::vector<bool> edited(graph.values().size(), false);
  const ValueId c = *graph.find_value("c");
  edited[static_cast<std::size_t>(c)] = true;
  std::int64_t count = 0;
  const auto found = run.replay({.constants = {},
                                 .edited = edited,
                                 .edit =
                                     [&](ValueId id, std::span<float> values) {
                                       EXPECT_EQ(id, c);
                                       for (float& v : values) v *= 2.0F;
                                     }},
                                [&](ValueId id, std::span<const float> before, std::span<const float> after) {
                                  if (id != c) return;
                                  ASSERT_EQ(before.size(), after.size());
                                  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_EQ(after[i], 2.0F * before[i]);
                                  count += std::ssize(before);
                                });
  EXPECT_EQ(count, 8 * 36);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_FLOAT_EQ(found[0].data<float>()[i], 2.0F * kept[0].data<float>()[i]);
  EXPECT_TRUE(bit_equal(found[1], kept[1])) << "z does not depend on c";
  // The input, too; it is the caller's and stays as it was.
  edited.assign(edited.size(), false);
  edited[static_cast<std::size_t>(graph.inputs()[0])] = true;
  const Tensor before = Tensor::from<float>(x[0].shape(), x[0].data<float>());
  run.replay({.constants = {}, .edited = edited, .edit = [](ValueId, std::span<float> values) { std::fill(values.begin(), values.end(), 0.0F); }});
  EXPECT_TRUE(bit_equal(before, x[0]));
}

TEST(Interpreter, AReplayRefusesAConstantOfAnotherShapeAndAValueThatIsNone) {
  const Graph graph = parse_graph_text("graph g\nopset ai.onnx 13\ninput x float32[n,2]\nconst w float32[2,1] = {1, 2}\ny = MatMul(x, w)\noutput y");
  Interpreter run(graph);
  message_of([&] { run.replay({}); }, ErrorCode::kInvalidArgument);
  run.keep(std::vector<Tensor>{Tensor::from<float>({1, 2}, {3, 4})});
  for (const auto& [name, tensor] : {std::pair{"w", Tensor::zeros(DataType::kFloat32, {1, 2})}, std::pair{"y", Tensor::zeros(DataType::kFloat32, {1, 1})}})
    EXPECT_THAT(message_of([&] { run.replay({.constants = {{*graph.find_value(name), tensor}}, .edited = {}, .edit = {}}); }, ErrorCode::kInvalidArgument),
                HasSubstr(std::string("'") + name + "'"));
}

}  // namespace
}  // namespace nibble
