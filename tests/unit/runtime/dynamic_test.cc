// Dynamically quantized layers: what the runtime makes one step of equals the nodes one by one, to the bit.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "nibble/error.h"
#include "nibble/onnx.h"
#include "unit/runtime/agreement.h"

namespace nibble {
namespace {

class Text {
 public:
  explicit Text(unsigned seed) : random_(seed) {}
  int in(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  std::string list(int n, const std::function<std::string()>& value) {
    std::string out = "{";
    for (int i = 0; i < n; ++i) out += (i == 0 ? "" : ", ") + value();
    return out + "}";
  }
  std::string reals(int n) {
    return list(n, [&] { return std::to_string(static_cast<double>(in(-1000, 1000)) / 700.0); });
  }
  std::string scales(int n) {
    return list(n, [&] { return std::to_string(static_cast<double>(in(1, 1000)) / 30000.0); });
  }
  std::string integers(int n, int low, int high) {
    return list(n, [&] { return std::to_string(in(low, high)); });
  }

  void add(const std::string& line) { lines_ += line + "\n"; }
  // x -> name, as quantize_dynamic writes it. shape: of the weights; broadcast: of constants of one value a channel.
  struct Layer {
    std::string x{}, name{}, op = "ConvInteger", shape{}, attributes{};
    int weights = 0, channels = 0;
    std::string broadcast{};
    bool shared = false;  // the quantization is there already
    bool is_unsigned = false;
    int zero_points = 0;  // none, one, or one a channel (2)
    bool per_channel = false;
    bool bias = true;
    std::string end{};  // "Relu", "Clip" or nothing
  };
  void layer(const Layer& l) {
    const std::string q = l.x + "_q", n = l.name;
    const std::string type = l.is_unsigned ? "uint8" : "int8";
    const int low = l.is_unsigned ? 0 : -128, high = l.is_unsigned ? 255 : 127;
    if (!l.shared) add(q + ", " + l.x + "_s, " + l.x + "_z = DynamicQuantizeLinear(" + l.x + ")");
    add("const " + n + "_w " + type + l.shape + " = " + integers(l.weights, low, high));
    add("const " + n + "_ws float32[" + (l.per_channel ? l.broadcast : "") + "] = " + scales(l.per_channel ? l.channels : 1));
    std::string zero;
    if (l.zero_points > 0) {
      const int count = l.zero_points == 1 ? 1 : l.channels;
      add("const " + n + "_wz " + type + "[" + (count == 1 ? "" : std::to_string(count)) + "] = " + integers(count, low, high));
      zero = ", " + n + "_wz";
    }
    add(n + "_m = Mul(" + l.x + "_s, " + n + "_ws)");
    add(n + "_a = " + l.op + "(" + q + ", " + n + "_w, " + l.x + "_z" + zero + ")" + l.attributes);
    add(n + "_c = Cast(" + n + "_a) [to=1]");
    const std::string scaled = l.bias ? n + "_d" : l.end.empty() ? n : n + "_e";
    add(scaled + " = Mul(" + n + "_c, " + n + "_m)");
    const std::string sum = l.end.empty() ? n : n + "_e";
    if (l.bias) {
      add("const " + n + "_b float32[" + l.broadcast + "] = " + reals(l.channels));
      add(sum + " = Add(" + scaled + ", " + n + "_b)");
    }
    if (l.end == "Relu") add(n + " = Relu(" + sum + ")");
    if (l.end == "Clip") {
      add("const " + n + "_lo float32[] = {-0.5}");
      add("const " + n + "_hi float32[] = {1.25}");
      add(n + " = Clip(" + sum + ", " + n + "_lo, " + n + "_hi)");
    }
  }
  Graph graph() { return parse_graph_text("graph g\nopset ai.onnx 13\n" + lines_); }
  std::mt19937& random() { return random_; }

 private:
  std::mt19937 random_;
  std::string lines_;
};

Tensor noise(const Shape& shape, std::mt19937& random) {
  Tensor x(DataType::kFloat32, shape);
  std::uniform_real_distribution<float> reals(-1.0F, 3.0F);
  for (float& v : x.mutable_data<float>()) v = reals(random);
  return x;
}

QuantizedGraph model_of(Graph graph) {
  QuantizedGraph model;
  model.graph = std::move(graph);
  model.params.resize(model.graph.values().size());
  return model;
}

void expect_one_step_each(const QuantizedGraph& model) {
  const std::string plan = lower(QuantizedGraph(model)).dump();
  for (const char* op : {"float:ConvInteger", "float:MatMulInteger", "float:DynamicQuantizeLinear", "float:Cast"})
    EXPECT_EQ(plan.find(op), std::string::npos) << plan;
}

// A layer of each kind, a sum of two, a value with a reader that is no layer, shared codes.
TEST(DynamicLayers, Chain) {
  for (const int threads : {1, 3})
    for (unsigned seed = 1; seed <= 6; ++seed) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << " threads " << threads);
      Text t(seed);
      t.add("input x float32[2,3,9,8]");
      const bool is_unsigned = seed % 2 == 0;
      const int zero_points = static_cast<int>(seed % 3);
      t.layer({.x = "x",
               .name = "a",
               .shape = "[20,3,3,3]",
               .attributes = " [pads=[1,1,1,1]]",
               .weights = 540,
               .channels = 20,
               .broadcast = "1,20,1,1",
               .is_unsigned = is_unsigned,
               .zero_points = zero_points,
               .per_channel = seed > 3,
               .end = "Clip"});
      t.layer({.x = "a",
               .name = "b",
               .shape = "[20,1,3,3]",
               .attributes = " [pads=[1,1,1,1], group=20]",
               .weights = 180,
               .channels = 20,
               .broadcast = "1,20,1,1",
               .is_unsigned = is_unsigned,
               .zero_points = zero_points,
               .end = "Relu"});
      t.layer({.x = "b",
               .name = "c",
               .shape = "[20,20,1,1]",
               .weights = 400,
               .channels = 20,
               .broadcast = "20,1,1",
               .is_unsigned = !is_unsigned,
               .zero_points = zero_points,
               .per_channel = true});
      t.add("d = Add(c, a)");
      t.layer({.x = "d",
               .name = "e",
               .shape = "[6,10,2,1]",
               .attributes = " [strides=[2,1], group=2]",
               .weights = 120,
               .channels = 6,
               .broadcast = "1,6,1,1",
               .bias = false,
               .end = "Relu"});
      t.layer({.x = "d", .name = "f", .shape = "[4,20,1,1]", .weights = 80, .channels = 4, .broadcast = "1,4,1,1", .shared = true});
      t.add("g = GlobalAveragePool(e)");
      t.add("h = Flatten(g)");
      t.layer({.x = "h",
               .name = "i",
               .op = "MatMulInteger",
               .shape = "[6,5]",
               .weights = 30,
               .channels = 5,
               .broadcast = "5",
               .is_unsigned = is_unsigned,
               .zero_points = zero_points,
               .per_channel = true});
      t.add("output i");
      t.add("output f");
      t.add("output d");
      const QuantizedGraph model = model_of(t.graph());
      expect_one_step_each(model);
      const Tensor x = noise({2, 3, 9, 8}, t.random());
      test::expect_agreement(model, {&x, 1}, threads);
    }
}

TEST(DynamicLayers, OneDimensionAndWiderProducts) {
  Text t(11);
  t.add("input x float32[2,4,17]");
  t.add("input u float32[2,3,4,8]");
  t.layer({.x = "x",
           .name = "y",
           .shape = "[6,4,5]",
           .attributes = " [pads=[2,2], dilations=[1]]",
           .weights = 120,
           .channels = 6,
           .broadcast = "6,1",
           .end = "Relu"});
  t.layer({.x = "u", .name = "v", .op = "MatMulInteger", .shape = "[8,3]", .weights = 24, .channels = 3, .broadcast = "3", .bias = false});
  t.add("output y");
  t.add("output v");
  const QuantizedGraph model = model_of(t.graph());
  expect_one_step_each(model);
  const Tensor inputs[] = {noise({2, 4, 17}, t.random()), noise({2, 3, 4, 8}, t.random())};
  test::expect_agreement(model, inputs);
}

// Zeros all over, and constants that make sums of nothing.
TEST(DynamicLayers, Zeros) {
  Text t(12);
  t.add("input x float32[1,2,4,4]");
  t.layer({.x = "x",
           .name = "y",
           .shape = "[3,2,3,3]",
           .attributes = " [pads=[1,1,1,1]]",
           .weights = 54,
           .channels = 3,
           .broadcast = "1,3,1,1",
           .zero_points = 1});
  t.add("output y");
  const QuantizedGraph model = model_of(t.graph());
  const Tensor x = Tensor::zeros(DataType::kFloat32, {1, 2, 4, 4});
  test::expect_agreement(model, {&x, 1});
}

// Forms that stay nodes of their own.
TEST(DynamicLayers, OtherReadersKeepTheNodes) {
  Text t(13);
  t.add("input x float32[1,2,4,4]");
  t.layer({.x = "x", .name = "y", .shape = "[3,2,3,3]", .weights = 54, .channels = 3, .broadcast = "1,3,1,1"});
  t.add("s = Mul(x_s, x_s)");
  t.add("output y");
  t.add("output s");
  t.add("output y_a");
  const QuantizedGraph model = model_of(t.graph());
  EXPECT_NE(lower(QuantizedGraph(model)).dump().find("float:ConvInteger"), std::string::npos);
  const Tensor x = noise({1, 2, 4, 4}, t.random());
  test::expect_agreement(model, {&x, 1});
}

// Ranges at the ends of float32, shapes that change between runs, and images of which there are none.
TEST(DynamicLayers, ExtremeRangesAndChangingShapes) {
  Text t(15);
  t.add("input x float32[N,2,H,4]");
  t.layer({.x = "x",
           .name = "a",
           .shape = "[16,2,3,3]",
           .attributes = " [pads=[1,1,1,1]]",
           .weights = 288,
           .channels = 16,
           .broadcast = "1,16,1,1"});
  t.layer({.x = "a",
           .name = "y",
           .shape = "[3,16,1,1]",
           .weights = 48,
           .channels = 3,
           .broadcast = "1,3,1,1",
           .zero_points = 1,
           .end = "Relu"});
  t.add("output y");
  const QuantizedGraph model = model_of(t.graph());
  const Program program = lower(QuantizedGraph(model));
  Session session(program, {.threads = 3});
  for (const Shape& shape : {Shape{2, 2, 4, 4}, Shape{1, 2, 3, 4}, Shape{0, 2, 3, 4}, Shape{5, 2, 1, 4}, Shape{2, 2, 4, 4}}) {
    for (const float scale : {1.0F, 1e-38F, 1e-45F, 1e34F, -1.0F}) {
      SCOPED_TRACE(testing::Message() << to_string(shape) << " " << scale);
      Tensor x = noise(shape, t.random());
      for (float& v : x.mutable_data<float>()) v *= scale;
      const auto expected = simulate(model, {&x, 1});
      const auto outputs = session.run({&x, 1});
      ASSERT_EQ(outputs.size(), 1U);
      EXPECT_TRUE(bit_equal(outputs[0], expected[0]));
    }
  }
}

// A scale of more axes than the product gives the result more axes.
TEST(DynamicLayers, AScaleOfMoreAxesChangesTheShape) {
  Text t(16);
  t.add("input x float32[2,3]");
  t.add("input u float32[1,2,4,4]");
  t.layer({.x = "x",
           .name = "y",
           .op = "MatMulInteger",
           .shape = "[3,5]",
           .weights = 15,
           .channels = 5,
           .broadcast = "1,1,5",
           .per_channel = true,
           .bias = false});
  t.layer({.x = "u",
           .name = "v",
           .shape = "[3,2,3,3]",
           .weights = 54,
           .channels = 3,
           .broadcast = "1,1,3,1,1",
           .per_channel = true,
           .bias = false});
  t.add("output y");
  t.add("output v");
  const QuantizedGraph model = model_of(t.graph());
  const Tensor inputs[] = {noise({2, 3}, t.random()), noise({1, 2, 4, 4}, t.random())};
  test::expect_agreement(model, inputs);
}

TEST(DynamicLayers, ANumberThatIsNoneIsRefused) {
  Text t(14);
  t.add("input x float32[1,2,4,4]");
  t.layer({.x = "x", .name = "y", .shape = "[3,2,3,3]", .weights = 54, .channels = 3, .broadcast = "1,3,1,1"});
  t.add("output y");
  const Program program = lower(model_of(t.graph()));
  Session session(program, {.threads = 2});
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    Tensor x = noise({1, 2, 4, 4}, t.random());
    x.mutable_data<float>()[17] = bad;
    EXPECT_THROW(session.run({&x, 1}), Error);
  }
}

}  // namespace
}  // namespace nibble
