#include "unit/ops/op_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "nibble/graph.h"
#include "ops/fail.h"
#include "ops/op.h"

namespace nibble {
namespace {

// Results are small sums and products of small numbers, or library functions within a few units in the last place.
constexpr double kTolerance = 2e-6;

Graph parse(const OpCase& c) { return parse_graph_text(fmt::format("graph g\nopset ai.onnx {}\n{}\n", c.opset, c.graph), c.name); }

void expect_close(const Tensor& got, const Tensor& want) {
  ASSERT_EQ(to_string(got.type()), to_string(want.type()));
  ASSERT_EQ(got.shape(), want.shape());
  const auto a = to_doubles(got);
  const auto b = to_doubles(want);
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    EXPECT_TRUE(is_float(got.type()) && std::fabs(a[i] - b[i]) <= kTolerance * std::max(1.0, std::fabs(b[i])))
        << "element " << i << ": " << a[i] << " instead of " << b[i];
  }
}

struct Inferred {
  std::vector<TensorType> types;
  std::vector<std::optional<Tensor>> constants;
};

Inferred infer(const Node& node, int opset, const std::vector<TensorType>& types, const std::vector<const Tensor*>& constants) {
  const OpDef* op = find_op(node.domain, node.op_type);
  std::vector<const TensorType*> pointers;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) pointers.push_back(node.inputs[i] == kNoValue ? nullptr : &types[i]);
  InferContext ctx{.node = node, .opset = opset, .inputs = pointers, .constants = constants, .outputs = {}, .constant_outputs = {}};
  ctx.outputs.resize(node.outputs.size());
  ctx.constant_outputs.resize(node.outputs.size());
  op->infer(ctx);
  return {.types = ctx.outputs, .constants = ctx.constant_outputs};
}

void expect_no_contradiction(const Inferred& inferred, const std::vector<Tensor>& outputs, const char* what) {
  for (std::size_t o = 0; o < inferred.types.size(); ++o) {
    const TensorType& claimed = inferred.types[o];
    bool holds = claimed.dtype == DataType::kUndefined || claimed.dtype == outputs[o].type();
    if (claimed.has_rank) {
      holds = holds && claimed.dims.size() == outputs[o].shape().size();
      for (std::size_t i = 0; holds && i < claimed.dims.size(); ++i)
        holds = !claimed.dims[i].known() || claimed.dims[i].size == outputs[o].shape()[i];
    }
    EXPECT_TRUE(holds) << what << ": inference says " << to_string(claimed) << ", the output is " << to_string(outputs[o].type())
                       << to_string(outputs[o].shape());
    if (inferred.constants[o]) {
      EXPECT_TRUE(bit_equal(*inferred.constants[o], outputs[o])) << what;
    }
  }
}

}  // namespace

void PrintTo(const OpCase& c, std::ostream* out) { *out << c.name; }

void expect_outputs(const OpCase& c) {
  SCOPED_TRACE(c.name + "\n" + c.graph);
  const Graph graph = parse(c);
  const Graph want = parse_graph_text("graph w\nopset ai.onnx 13\n" + c.want + "\n", c.name);
  ASSERT_EQ(graph.nodes().size(), 1U);
  const Node& node = graph.nodes()[0];
  std::vector<const Tensor*> inputs;
  std::vector<TensorType> exact;
  for (const ValueId id : node.inputs) {
    inputs.push_back(id == kNoValue ? nullptr : &graph.value(id).constant.value());
    exact.push_back(id == kNoValue ? TensorType{} : make_type(inputs.back()->type(), inputs.back()->shape()));
  }
  std::vector<Tensor> outputs;
  try {
    outputs = evaluate_node({.node = node, .opset = c.opset, .inputs = inputs});
  } catch (const std::exception& error) {
    FAIL() << error.what();
  }
  ASSERT_GE(outputs.size(), node.outputs.size());
  for (std::size_t o = 0; o < node.outputs.size(); ++o) {
    if (node.outputs[o] == kNoValue) continue;
    const auto id = want.find_value(graph.value(node.outputs[o]).name);
    ASSERT_TRUE(id.has_value());
    expect_close(outputs[o], want.value(*id).constant.value());
  }
  try {
    expect_no_contradiction(infer(node, c.opset, exact, inputs), outputs, "everything known");
    const std::vector<const Tensor*> none(inputs.size(), nullptr);
    expect_no_contradiction(infer(node, c.opset, exact, none), outputs, "values unknown");
    auto symbolic = exact;
    for (std::size_t i = 0; i < symbolic.size(); ++i) {
      for (std::size_t d = 0; d < symbolic[i].dims.size(); ++d) symbolic[i].dims[d] = {.size = -1, .symbol = fmt::format("n{}_{}", i, d)};
    }
    expect_no_contradiction(infer(node, c.opset, symbolic, none), outputs, "sizes unknown");
    if (!inputs.empty()) {
      auto first = exact;
      if (!first[0].dims.empty()) first[0].dims[0] = {.size = -1, .symbol = "batch"};
      auto values = inputs;
      values[0] = nullptr;
      expect_no_contradiction(infer(node, c.opset, first, values), outputs, "batch unknown");
    }
    for (TensorType& type : symbolic) type = {.dtype = type.dtype, .has_rank = false, .dims = {}};
    expect_no_contradiction(infer(node, c.opset, symbolic, none), outputs, "ranks unknown");
    for (TensorType& type : symbolic) type = {};
    expect_no_contradiction(infer(node, c.opset, symbolic, none), outputs, "nothing known");
  } catch (const std::exception& error) {
    FAIL() << "inference: " << error.what();
  }
}

void expect_refusal(const OpCase& c) {
  SCOPED_TRACE(c.name + "\n" + c.graph);
  const Graph graph = parse(c);
  const Node& node = graph.nodes().at(0);
  std::vector<const Tensor*> inputs;
  std::vector<TensorType> types;
  for (const ValueId id : node.inputs) {
    inputs.push_back(id == kNoValue ? nullptr : &graph.value(id).constant.value());
    types.push_back(id == kNoValue ? TensorType{} : make_type(inputs.back()->type(), inputs.back()->shape()));
  }
  try {
    evaluate_node({.node = node, .opset = c.opset, .inputs = inputs});
    ADD_FAILURE() << "was accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("'" + node.name + "'"));
    EXPECT_THAT(error.what(), testing::HasSubstr(c.want));
  }
  try {
    infer_types(graph);
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("'" + node.name + "'"));
    EXPECT_THAT(error.what(), testing::HasSubstr(c.want));
  }
  // Without the values inference must not read past what is there.
  const std::vector<const Tensor*> none(inputs.size(), nullptr);
  for (int known = 2; known >= 0; --known) {
    try {
      infer(node, c.opset, types, none);
    } catch (const Error&) {
    }
    for (TensorType& type : types) {
      if (known == 2)
        type.dims.assign(type.dims.size(), Dim{});
      else
        type = {};
    }
  }
}

}  // namespace nibble
