// The pipeline: a flat list, in order. Each pass may rely on those before it.
#include <array>

#include "base/fail.h"
#include "passes/pass_list.h"

namespace nibble {
namespace {

constexpr std::array kPasses = {
    PassInfo{"fold_constants", "Constant nodes and everything that follows from constants and known shapes become initializers",
             fold_constants},
    PassInfo{"eliminate_identity", "Identity, Dropout and other nodes that change nothing are removed", eliminate_identity},
    PassInfo{"cancel_transposes", "pairs of inverse Transposes around element-wise nodes are removed", cancel_transposes},
    PassInfo{"normalize_clip", "Min and Max against a constant become Clip", normalize_clip},
    PassInfo{"normalize_gemm", "Gemm loses transA, alpha and beta; MatMul and Add of a constant become Gemm", normalize_gemm},
    PassInfo{"reduce_mean_to_pool", "ReduceMean over all spatial axes becomes GlobalAveragePool", reduce_mean_to_pool},
    PassInfo{"fold_pad", "zero padding moves into the convolution or average pool that reads it", fold_pad},
    PassInfo{"fold_batch_norm",
             "BatchNormalization and per-channel Mul, Div, Add, Sub move into the layer before them; a lone one becomes a depthwise 1x1 "
             "convolution",
             fold_batch_norm},
    PassInfo{"fuse_activation", "Relu and Clip become an attribute of the node before them", fuse_activation},
};

}  // namespace

std::span<const PassInfo> pass_table() { return kPasses; }

namespace {

PassReport run_row(const PassInfo& row, Graph& graph) {
  PassReport report;
  report.pass = std::string(row.name);
  row.run(graph, report);
  verify(graph);
  return report;
}

}  // namespace

std::vector<PassReport> canonicalize(Graph& graph) {
  std::vector<PassReport> reports;
  for (const PassInfo& row : kPasses) reports.push_back(run_row(row, graph));
  return reports;
}

PassReport run_pass(std::string_view name, Graph& graph) {
  std::string known;
  for (const PassInfo& row : kPasses) {
    if (row.name == name) return run_row(row, graph);
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  fail(ErrorCode::kInvalidArgument, "there is no pass '{}'; known are {}", name, known);
}

}  // namespace nibble
