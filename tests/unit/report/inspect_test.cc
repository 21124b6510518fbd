#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "nibble/report.h"

namespace nibble {
namespace {

Model model_of(const char* text) {
  return {.path = "text", .graph = parse_graph_text(text), .quantized = std::nullopt, .file_bytes = 1234};
}

TEST(Inspect, CountsMacsAndParameters) {
  const Model model = model_of(R"(graph g
opset ai.onnx 13
input x float32[N,4,8,8]
const w float32[6,2,3,3] splat 1
const b float32[6] splat 0
const wt float32[6,4,2,2] splat 1
const flat int64[2] = {0, -1}
const wg float32[64,5] splat 1
a = Conv(x, w, b) [group=2, strides=[2, 2], pads=[1, 1, 1, 1]] name conv
t = ConvTranspose(a, wt) [strides=[2, 2]] name up
p = GlobalAveragePool(t) name pool
r = Reshape(p, flat) name reshape
c = Concat(r, r, r, r, r, r, r, r, r, r, r, r, r, r, r, r) [axis=1] name wide
y = Gemm(c, wg) name fc
m = MatMul(c, wg) name product
output y
output m
)");
  const InspectResult result = inspect(model);
  std::map<std::string, std::int64_t> macs;
  for (const LayerSummary& layer : result.layers) macs[layer.name] = layer.macs;
  EXPECT_EQ(macs["conv"], 6 * 4 * 4 * (2 * 3 * 3));
  EXPECT_EQ(macs["up"], 6 * 4 * 4 * (4 * 2 * 2));
  EXPECT_EQ(macs["pool"], 0);
  EXPECT_EQ(macs["fc"], 5 * 64);
  EXPECT_EQ(macs["product"], 5 * 64);
  EXPECT_EQ(result.macs, 6 * 16 * 18 + 6 * 16 * 16 + 2 * 5 * 64);
  // The shape of Reshape is no parameter; wg is read twice and counts once.
  EXPECT_EQ(result.parameters, 6 * 18 + 6 + 6 * 16 + 64 * 5);
  EXPECT_EQ(result.weight_bytes, 4 * result.parameters);
  ASSERT_EQ(result.notes.size(), 1U);
  EXPECT_NE(result.notes[0].find("'N' = 1"), std::string::npos);
}

TEST(Inspect, JsonHasTheKeysThatScriptsRead) {
  const Model model = model_of("graph g\nopset ai.onnx 13\ninput x float32[N,2]\ny = Relu(x) name \"odd \\\"name\\\"\"\noutput y\n");
  const auto json = nlohmann::json::parse(to_json(inspect(model)));
  for (const char* key : {"inputs", "outputs", "nodes", "parameters", "macs", "file_bytes", "layers"})
    EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_EQ(json["file_bytes"], 1234);
  EXPECT_EQ(json["inputs"][0]["shape"], nlohmann::json::parse(R"(["N",2])"));
  EXPECT_EQ(json["layers"][0]["name"], "odd \"name\"");
}

TEST(Inspect, JsonOfNamesThatAreNoUtf8) {
  InspectResult result;
  result.layers.push_back(
      {.name = "\xff\xfe", .op_type = "Relu", .output_type = "", .macs = 0, .parameters = 0, .integer = false, .reason = "", .proof = {}});
  EXPECT_NO_THROW(nlohmann::json::parse(to_json(result)));
}

}  // namespace
}  // namespace nibble
