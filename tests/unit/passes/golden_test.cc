// Golden tests of the passes. A file of tests/golden/passes is
//
//   # passes: NAME NAME ...      (or "all": the whole pipeline)
//   GRAPH
//   ---
//   GRAPH afterwards
//   ---
//   applied NODE: TEXT / declined NODE: TEXT
//
// NIBBLE_UPDATE_GOLDEN=1 rewrites what lies below the first "---"; read the difference before you commit it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "nibble/error.h"
#include "nibble/passes.h"

namespace nibble {
namespace {

struct Golden {
  std::vector<std::string> passes;
  std::string head;  // up to and without the first "---"
  std::string expected;
};

Golden read_golden(const std::string& path) {
  std::ifstream file(path);
  Golden golden;
  std::string line;
  bool below = false;
  while (std::getline(file, line)) {
    if (!below && line.starts_with("# passes:")) {
      std::istringstream words(line.substr(9));
      for (std::string word; words >> word;) golden.passes.push_back(word);
    }
    if (!below && line == "---") {
      below = true;
      continue;
    }
    (below ? golden.expected : golden.head) += line + "\n";
  }
  return golden;
}

std::string result_of(const Golden& golden, const std::string& path) {
  Graph graph = parse_graph_text(golden.head, path);
  std::vector<PassReport> reports;
  if (golden.passes == std::vector<std::string>{"all"})
    reports = canonicalize(graph);
  else {
    for (const std::string& pass : golden.passes) reports.push_back(run_pass(pass, graph));
  }
  std::string out = print_graph(graph) + "---\n";
  for (const PassReport& report : reports) {
    for (const auto& item : report.applied) out += "applied " + item.node + ": " + item.what + "\n";
    for (const auto& item : report.declined) out += "declined " + item.node + ": " + item.what + "\n";
  }
  return out;
}

std::vector<std::string> golden_files() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(NIBBLE_GOLDEN_DIR)) {
    if (entry.path().extension() == ".graph") files.push_back(entry.path().stem().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

class PassesGolden : public testing::TestWithParam<std::string> {};

TEST_P(PassesGolden, GraphAndReport) {
  const std::string path = std::string(NIBBLE_GOLDEN_DIR) + "/" + GetParam() + ".graph";
  const Golden golden = read_golden(path);
  ASSERT_FALSE(golden.passes.empty()) << path << " has no line '# passes:'";
  const std::string result = result_of(golden, path);
  if (std::getenv("NIBBLE_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << golden.head << "---\n" << result;
    return;
  }
  EXPECT_EQ(result, golden.expected) << path;
}

INSTANTIATE_TEST_SUITE_P(Files, PassesGolden, testing::ValuesIn(golden_files()), [](const auto& param_info) { return param_info.param; });

TEST(Passes, UnknownNameListsTheKnownOnes) {
  Graph graph = parse_graph_text("graph g\nopset ai.onnx 13\ninput x float32[1]\ny = Relu(x)\noutput y\n");
  try {
    run_pass("fold_everything", graph);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("fold_batch_norm"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace nibble
