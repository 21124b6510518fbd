// Columns against plain loops over the definition of a convolution.
#include "methods/columns.h"

#include <gtest/gtest.h>

#include "networks.h"

namespace nibble {
namespace {

struct Case {
  Shape x, w;
  std::int64_t group, stride, pad, dilation;
};

class Columns : public ::testing::TestWithParam<Case> {};

Graph conv_graph(const Case& c, std::mt19937_64& random) {
  Graph graph;
  GraphEditor editor(graph);
  editor.set_opset("", 13);
  const ValueId x = editor.add_input("x", make_type(DataType::kFloat32, c.x));
  const ValueId w = editor.add_constant("w", test::random_tensor(c.w, random));
  const std::size_t spatial = c.x.size() - 2;
  Node node{.name = "conv", .domain = "", .op_type = "Conv", .inputs = {x, w}, .outputs = {editor.add_value("y")}, .attributes = {}};
  node.attributes["group"] = c.group;
  node.attributes["strides"] = std::vector<std::int64_t>(spatial, c.stride);
  node.attributes["dilations"] = std::vector<std::int64_t>(spatial, c.dilation);
  node.attributes["pads"] = std::vector<std::int64_t>(2 * spatial, c.pad);
  const ValueId y = node.outputs[0];
  editor.add_node(std::move(node));
  editor.set_outputs({y});
  editor.finish();
  return graph;
}

TEST_P(Columns, TimesTheWeightsAreTheOutputs) {
  const std::uint64_t seed = 7;
  std::mt19937_64 random(seed);
  const Case& c = GetParam();
  const Graph graph = conv_graph(c, random);
  const LayerView layer = *layer_view(graph, 0);
  const Tensor& w = *graph.value(layer.weights).constant;
  const std::vector<Tensor> inputs = {test::random_tensor(c.x, random), test::random_tensor(c.x, random)};
  Interpreter interpreter(graph, {.threads = 1, .mode = ExecMode::kFixedOrder});
  std::vector<Tensor> outputs;
  for (const Tensor& x : inputs) outputs.push_back(interpreter.run(std::span(&x, 1))[0]);

  ThreadPool pool(2);
  const ColumnDraw draw = draw_columns(graph.node(0), layer, w.shape(), inputs, 1000000, seed);
  const Shape& out = outputs[0].shape();
  const std::int64_t pixels = element_count(out) / out[0] / out[1];
  ASSERT_EQ(std::ssize(draw.places), 2 * out[0] * pixels) << "all places are taken where there are no more";
  const std::vector<float> columns = gather_columns(graph.node(0), layer, w.shape(), inputs, draw, pool);
  std::vector<double> mean(static_cast<std::size_t>(layer.outputs()), 0.0);
  for (std::size_t p = 0; p < draw.places.size(); ++p) {
    for (std::int64_t o = 0; o < layer.outputs(); ++o) {
      const std::int64_t g = o / layer.group_out;
      double sum = 0;
      for (std::int64_t i = 0; i < layer.group_in; ++i) {
        for (std::int64_t t = 0; t < layer.taps; ++t)
          sum += static_cast<double>(w.data<float>()[static_cast<std::size_t>(layer.place(o, i, t))]) *
                 static_cast<double>(columns[static_cast<std::size_t>(
                     (g * std::ssize(draw.places) + static_cast<std::int64_t>(p)) * layer.columns() + i * layer.taps + t)]);
      }
      const std::int64_t n = draw.places[p].place / pixels, pixel = draw.places[p].place % pixels;
      const Tensor& y = outputs[static_cast<std::size_t>(draw.places[p].sample)];
      EXPECT_NEAR(sum, y.data<float>()[static_cast<std::size_t>((n * out[1] + o) * pixels + pixel)], 1e-4) << "seed " << seed;
      mean[static_cast<std::size_t>(o)] += sum / static_cast<double>(draw.places.size());
    }
  }
  const ColumnMoments moments = column_moments(graph.node(0), layer, w.shape(), inputs, pool);
  EXPECT_EQ(moments.places, std::ssize(draw.places));
  for (std::int64_t o = 0; o < layer.outputs(); ++o) {
    double sum = 0;
    for (std::int64_t i = 0; i < layer.group_in; ++i) {
      for (std::int64_t t = 0; t < layer.taps; ++t)
        sum += static_cast<double>(w.data<float>()[static_cast<std::size_t>(layer.place(o, i, t))]) *
               moments.mean[static_cast<std::size_t>(o / layer.group_out * layer.columns() + i * layer.taps + t)];
    }
    EXPECT_NEAR(sum, mean[static_cast<std::size_t>(o)], 1e-4);
  }
  for (std::size_t i = 0; i < moments.square.size(); ++i) {
    double square = 0;
    for (std::size_t p = 0; p < draw.places.size(); ++p) {
      const std::size_t k = static_cast<std::size_t>(layer.columns());
      const double v = columns[(i / k * draw.places.size() + p) * k + i % k];
      square += v * v / static_cast<double>(draw.places.size());
    }
    EXPECT_NEAR(moments.square[i], square, 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Columns,
                         ::testing::Values(Case{{1, 3, 5, 6}, {4, 3, 3, 3}, 1, 1, 1, 1}, Case{{2, 4, 5, 5}, {4, 1, 3, 3}, 4, 2, 1, 1},
                                           Case{{1, 6, 7, 7}, {4, 3, 2, 2}, 2, 1, 0, 2}, Case{{1, 3, 9}, {5, 3, 3}, 1, 2, 1, 1},
                                           Case{{1, 2, 3, 4, 3}, {3, 2, 1, 3, 3}, 1, 1, 1, 1}));

TEST(Columns, DrawsAreSeededAndSpreadOverTheSamples) {
  std::mt19937_64 random(3);
  const Case c{{1, 2, 8, 8}, {2, 2, 1, 1}, 1, 1, 0, 1};
  const Graph graph = conv_graph(c, random);
  const LayerView layer = *layer_view(graph, 0);
  const std::vector<Tensor> inputs(4, test::random_tensor(c.x, random));
  const ColumnDraw a = draw_columns(graph.node(0), layer, {2, 2, 1, 1}, inputs, 40, 5),
                   b = draw_columns(graph.node(0), layer, {2, 2, 1, 1}, inputs, 40, 5);
  ASSERT_EQ(a.places.size(), 40U);
  int of_first = 0;
  for (std::size_t i = 0; i < 40; ++i) {
    EXPECT_EQ(a.places[i].sample, b.places[i].sample);
    EXPECT_EQ(a.places[i].place, b.places[i].place);
    of_first += a.places[i].sample == 0 ? 1 : 0;
    for (std::size_t j = 0; j < i; ++j) EXPECT_FALSE(a.places[i].sample == a.places[j].sample && a.places[i].place == a.places[j].place);
  }
  EXPECT_EQ(of_first, 10);
}

}  // namespace
}  // namespace nibble
