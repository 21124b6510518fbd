// Every float model of the assets: quantized, simulated and run; the same bits under both laws.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "nibble/onnx.h"
#include "support/quantized.h"
#include "unit/runtime/agreement.h"

namespace nibble {
namespace {

std::filesystem::path assets() {
  const char* folder = std::getenv("NIBBLE_ASSETS");
  return folder != nullptr ? std::filesystem::path(folder) : std::filesystem::path(NIBBLE_SOURCE_DIR) / "../shared/assets";
}

class AssetModel : public testing::TestWithParam<std::pair<const char*, RequantizeLaw>> {};

TEST_P(AssetModel, SimulationEqualsRuntime) {
  const auto path = assets() / "models" / (std::string(GetParam().first) + ".onnx");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here: set NIBBLE_ASSETS";
  const Graph graph = import_onnx(path.string());
  QuantScheme scheme;
  scheme.law = GetParam().second;
  const QuantizedGraph model = test::quantize_on_random(graph, scheme, 1, 0.0F, 1.0F);
  EXPECT_GT(test::expect_agreement(model, test::random_inputs(model.graph, 7, 0.0F, 1.0F)), 5);
}

constexpr const char* kModels[] = {"mnist_cntk",      "kws_dscnn",          "mlperf_resnet8",  "cifar10_resnet20",     "cifar10_resnet56",       "squeezenet1.1_gluon",
                                   "ultraface_RFB-320", "yolox_nano_coco",    "deeplabv3_mnv2_257", "kwt1_keyword_transformer", "mobilenet_v1_0.75_224", "mobilenet_v2_1.0_224"};

std::vector<std::pair<const char*, RequantizeLaw>> cases() {
  std::vector<std::pair<const char*, RequantizeLaw>> result;
  for (const char* name : kModels) {
    result.emplace_back(name, RequantizeLaw::kFloat32);
    result.emplace_back(name, RequantizeLaw::kFixedPoint);
  }
  return result;
}

INSTANTIATE_TEST_SUITE_P(All, AssetModel, testing::ValuesIn(cases()), [](const auto& model) {
  std::string name = std::string(model.param.first) + "_" + to_string(model.param.second);
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
});

}  // namespace
}  // namespace nibble
