// Runs ONNX's node tests: every case is imported, inferred, and run in both execution modes; what comes out is compared with what ONNX
// expects.
//
// A case is "not supported" if one of its operators is not in the op table, or if it needs something no tensor network has (sequences,
// optionals, strings, subgraphs). A case of supported operators that nibble declines must be listed, with the reason, in the --declined
// file; any other failure makes the exit code 1.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "nibble/error.h"
#include "nibble/interpreter.h"
#include "nibble/onnx.h"
#include "ops/op.h"

namespace {

using namespace nibble;
namespace fs = std::filesystem;

// Those of ONNX's own backend tests.
constexpr double kRelative = 1e-3;
constexpr double kAbsolute = 1e-5;
// ONNX's generator truncates to bfloat16 where the specification (and nibble) rounds to nearest: one step of its 8-bit significand apart.
constexpr double kRelativeBFloat16 = 0x1p-7;
constexpr int kSkipped = 77;

struct Outcome {
  enum class Kind { kPassed, kFailed, kNotSupported, kDeclined } kind = Kind::kPassed;
  std::string reason;
  std::set<std::string> unknown_ops;
  int partly_inferred = 0;  // outputs of which inference does not know everything
};

std::vector<fs::path> sorted_entries(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(prefix)) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

// PREFIX0.pb, PREFIX1.pb, ...
std::vector<Tensor> read_tensors(const fs::path& folder, const std::string& prefix) {
  std::vector<Tensor> tensors;
  for (int i = 0;; ++i) {
    const fs::path file = folder / fmt::format("{}_{}.pb", prefix, i);
    if (!fs::exists(file)) return tensors;
    tensors.push_back(read_onnx_tensor(file.string()).tensor);
  }
}

// NumPy has no bfloat16: the test data hold its bits as uint16 where the model says bfloat16.
void as_declared(Tensor& tensor, const TensorType& declared) {
  if (declared.dtype != DataType::kBFloat16 || tensor.type() != DataType::kUInt16) return;
  Tensor bits(DataType::kBFloat16, tensor.shape());
  std::copy_n(tensor.bytes(), tensor.size_bytes(), bits.mutable_bytes());
  tensor = bits;
}

// "" if they agree.
std::string difference(const Tensor& got, const Tensor& expected) {
  if (got.type() != expected.type()) return fmt::format("type {} instead of {}", to_string(got.type()), to_string(expected.type()));
  if (got.shape() != expected.shape()) return fmt::format("shape {} instead of {}", to_string(got.shape()), to_string(expected.shape()));
  if (!is_float(got.type())) {
    if (bit_equal(got, expected)) return "";
    const auto a = to_int64s(got);
    const auto b = to_int64s(expected);
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (a[i] != b[i]) return fmt::format("element {}: {} instead of {}", i, a[i], b[i]);
    }
    return "the bytes differ";
  }
  const double relative = got.type() == DataType::kBFloat16 ? kRelativeBFloat16 : kRelative;
  const auto a = to_doubles(got);
  const auto b = to_doubles(expected);
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (a[i] == b[i]) continue;
    if (!(std::fabs(a[i] - b[i]) <= kAbsolute + relative * std::fabs(b[i])))
      return fmt::format("element {}: {} instead of {}", i, a[i], b[i]);
  }
  return "";
}

// What inference claims must hold for the actual tensor.
std::string contradiction(const TensorType& claimed, const Tensor& actual) {
  bool holds = claimed.dtype == DataType::kUndefined || claimed.dtype == actual.type();
  if (claimed.has_rank) {
    holds = holds && claimed.dims.size() == actual.shape().size();
    for (std::size_t i = 0; holds && i < claimed.dims.size(); ++i)
      holds = !claimed.dims[i].known() || claimed.dims[i].size == actual.shape()[i];
  }
  return holds ? ""
               : fmt::format("inference says {}, the output is {}{}", to_string(claimed), to_string(actual.type()),
                             to_string(actual.shape()));
}

Outcome run_case(const fs::path& folder) {
  Outcome outcome;
  const auto failed = [&](const std::string& reason) {
    outcome.kind = Outcome::Kind::kFailed;
    outcome.reason = reason;
    return outcome;
  };
  const auto not_supported = [&](const std::string& reason) {
    outcome.kind = Outcome::Kind::kNotSupported;
    outcome.reason = reason;
    return outcome;
  };
  Graph graph;
  try {
    graph = import_onnx((folder / "model.onnx").string());
  } catch (const Error& error) {
    return error.code() == ErrorCode::kUnsupported ? not_supported(error.what()) : failed(error.what());
  }
  for (const Node& node : graph.nodes()) {
    if (find_op(node.domain, node.op_type) == nullptr)
      outcome.unknown_ops.insert(node.domain.empty() ? node.op_type : node.domain + "." + node.op_type);
  }
  if (!outcome.unknown_ops.empty()) return not_supported(fmt::format("operator {}", fmt::join(outcome.unknown_ops, ", ")));

  for (const fs::path& set : sorted_entries(folder, "test_data_set_")) {
    std::vector<Tensor> inputs;
    std::vector<Tensor> expected;
    try {
      inputs = read_tensors(set, "input");
      expected = read_tensors(set, "output");
    } catch (const Error& error) {
      return error.code() == ErrorCode::kUnsupported ? not_supported(error.what()) : failed(error.what());
    }
    try {
      for (std::size_t i = 0; i < std::min(inputs.size(), graph.inputs().size()); ++i)
        as_declared(inputs[i], graph.value(graph.inputs()[i]).type);
      for (std::size_t i = 0; i < std::min(expected.size(), graph.outputs().size()); ++i)
        as_declared(expected[i], graph.value(graph.outputs()[i]).type);
      // A few CastLike models declare another shape for `like` than their data have; only its type matters.
      GraphEditor editor(graph);
      for (std::size_t i = 0; i < std::min(inputs.size(), graph.inputs().size()); ++i) {
        const ValueId id = graph.inputs()[i];
        if (!contradiction(graph.value(id).type, inputs[i]).empty() && graph.value(id).name == "like")
          editor.set_type(id, make_type(inputs[i].type(), inputs[i].shape()));
      }
      editor.finish(GraphEditor::Prune::kNo);
      const InferredGraph declared = infer_types(graph);
      std::vector<TensorType> input_types;
      for (const Tensor& input : inputs) input_types.push_back(make_type(input.type(), input.shape()));
      const InferredGraph exact = infer_types(graph, input_types);
      for (const ExecMode mode : {ExecMode::kFast, ExecMode::kFixedOrder}) {
        const std::string where = mode == ExecMode::kFast ? "fast" : "fixed order";
        Interpreter interpreter(graph, {.threads = 1, .mode = mode});
        const auto outputs = interpreter.run(inputs);
        if (outputs.size() != expected.size()) return failed(fmt::format("{} outputs instead of {}", outputs.size(), expected.size()));
        for (std::size_t i = 0; i < outputs.size(); ++i) {
          const auto id = static_cast<std::size_t>(graph.outputs()[i]);
          if (const std::string text = difference(outputs[i], expected[i]); !text.empty())
            return failed(fmt::format("{}, output {}: {}", where, i, text));
          for (const InferredGraph* inferred : {&declared, &exact}) {
            if (const std::string text = contradiction(inferred->types[id], outputs[i]); !text.empty())
              return failed(fmt::format("output {}: {}", i, text));
            if (const auto& constant = inferred->constants[id]) {
              if (const std::string text = difference(*constant, expected[i]); !text.empty())
                return failed(fmt::format("folded output {}: {}", i, text));
            }
          }
          if (mode == ExecMode::kFast && !exact.types[id].fully_known()) ++outcome.partly_inferred;
        }
      }
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUnsupported) return failed(error.what());
      outcome.kind = Outcome::Kind::kDeclined;
      outcome.reason = error.what();
      return outcome;
    }
  }
  return outcome;
}

std::set<std::string> read_declined(const std::string& path) {
  std::set<std::string> names;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    if (words >> name && name[0] != '#') names.insert(name);
  }
  return names;
}

int run(const fs::path& root, const std::string& declined_path, const std::string& only, bool verbose) {
  const std::set<std::string> declined = declined_path.empty() ? std::set<std::string>() : read_declined(declined_path);
  std::map<Outcome::Kind, int> counts;
  std::map<std::string, int> reasons;  // of cases that are not supported
  std::vector<std::string> failures;
  std::vector<std::string> refusals;
  int partly = 0;
  for (const char* group : {"node", "simple"}) {
    if (!fs::is_directory(root / group)) continue;
    for (const fs::path& folder : sorted_entries(root / group, "test_")) {
      const std::string name = folder.filename().string();
      if (!only.empty() && name.find(only) == std::string::npos) continue;
      Outcome outcome = run_case(folder);
      if (outcome.kind == Outcome::Kind::kDeclined && !declined.contains(name)) {
        outcome.kind = Outcome::Kind::kFailed;
        outcome.reason = "declined, and not in the list: " + outcome.reason;
      }
      ++counts[outcome.kind];
      partly += outcome.partly_inferred;
      switch (outcome.kind) {
        case Outcome::Kind::kFailed: failures.push_back(fmt::format("{}: {}", name, outcome.reason)); break;
        case Outcome::Kind::kDeclined: refusals.push_back(fmt::format("{}: {}", name, outcome.reason)); break;
        case Outcome::Kind::kNotSupported:
          if (outcome.unknown_ops.empty())
            ++reasons[verbose ? name + ": " + outcome.reason : "sequences, optionals, strings, subgraphs (refused when read)"];
          for (const std::string& op : outcome.unknown_ops) ++reasons["operator " + op];
          break;
        case Outcome::Kind::kPassed: break;
      }
      if (verbose && outcome.partly_inferred > 0) fmt::print("not fully inferred: {}\n", name);
    }
  }
  using enum Outcome::Kind;
  const int total = counts[kPassed] + counts[kFailed] + counts[kNotSupported] + counts[kDeclined];
  if (total == 0) {
    fmt::print(stderr, "SKIPPED: no ONNX node tests in {}\n", root.string());
    return kSkipped;
  }
  fmt::print("not supported, by reason (a case may have several):\n");
  for (const auto& [reason, count] : reasons) fmt::print("  {:4}  {}\n", count, reason);
  if (!refusals.empty()) fmt::print("declined by name:\n");
  for (const std::string& line : refusals) fmt::print("  {}\n", line);
  if (!failures.empty()) fmt::print("failed:\n");
  for (const std::string& line : failures) fmt::print("  {}\n", line);
  fmt::print("{} cases: {} passed, {} failed, {} declined, {} not supported; {} outputs are not fully inferred\n", total, counts[kPassed],
             counts[kFailed], counts[kDeclined], counts[kNotSupported], partly);
  return counts[kFailed] == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::string root, declined, only;
  bool verbose = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--declined" && i + 1 < argc)
      declined = argv[++i];
    else if (argument == "--only" && i + 1 < argc)
      only = argv[++i];
    else if (argument == "--verbose")
      verbose = true;
    else
      root = argument;
  }
  if (root.empty()) {
    fmt::print(stderr, "usage: nibble_onnx_node_tests DIR [--declined FILE] [--only PART_OF_A_NAME] [--verbose]\n");
    return 2;
  }
  try {
    return run(root, declined, only, verbose);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
