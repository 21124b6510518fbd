#include "passes/affine.h"

#include <cmath>

namespace nibble {
namespace {

// The constant as one number a channel; empty if it is anything else.
std::vector<double> per_channel(const Tensor& tensor, std::int64_t channels, std::int64_t rank, std::int64_t channel_axis) {
  const auto count = static_cast<std::size_t>(channels);
  if (tensor.size() == 1 && (tensor.rank() == 0 || tensor.rank() <= rank)) return std::vector<double>(count, to_doubles(tensor)[0]);
  if (rank < 0 || tensor.rank() > rank || tensor.size() != channels) return {};
  // Aligned at the last axis, everything but the channel axis must be 1.
  const std::int64_t axis = channel_axis - (rank - tensor.rank());
  if (axis < 0 || axis >= tensor.rank() || tensor.shape()[static_cast<std::size_t>(axis)] != channels) return {};
  return to_doubles(tensor);
}

}  // namespace

std::string read_batch_norm(const Rewriter& rewriter, const Node& node, Affine& affine) {
  if (node.inputs.size() != 5) return "it has " + std::to_string(node.inputs.size()) + " inputs";
  if (node.get_int("training_mode", 0) != 0) return "it is in training mode";
  if (node.get_int("spatial", 1) != 1) return "it normalises each place by itself";
  for (std::size_t i = 1; i < node.outputs.size(); ++i) {
    if (node.outputs[i] != kNoValue) return "its running statistics are outputs";
  }
  std::vector<double> parameters[4];
  for (std::size_t i = 0; i < 4; ++i) {
    const Tensor* tensor = rewriter.constant(node.inputs[i + 1]);
    if (tensor == nullptr || !is_real(*tensor) || tensor->rank() != 1) return "its parameters are not constant vectors";
    parameters[i] = to_doubles(*tensor);
    if (parameters[i].size() != parameters[0].size()) return "its parameters differ in length";
  }
  const auto& [gamma, beta, mean, var] = parameters;
  const auto epsilon = static_cast<double>(node.get_float("epsilon", 1e-5F));
  for (std::size_t c = 0; c < gamma.size(); ++c) {
    const double a = gamma[c] / std::sqrt(var[c] + epsilon);
    const double b = beta[c] - mean[c] * a;
    if (!std::isfinite(a) || !std::isfinite(b)) return fmt::format("channel {} has variance {}, gamma {}", c, var[c], gamma[c]);
    affine.a.push_back(a);
    affine.b.push_back(b);
  }
  return {};
}

std::string read_tail(const Rewriter& rewriter, const Node& node, std::size_t side, std::int64_t channels, std::int64_t rank,
                      std::int64_t channel_axis, Affine& affine) {
  const Tensor* constant = rewriter.constant(node.input(1 - side));
  if (node.inputs.size() != 2 || constant == nullptr || !is_real(*constant)) return "its other input is not constant";
  const std::vector<double> c = per_channel(*constant, channels, rank, channel_axis);
  if (c.empty()) return fmt::format("its constant {} is not one number a channel", to_string(constant->shape()));
  const std::string& op = node.op_type;
  if (op == "Div" && side == 1) return "it divides by the layer's output";
  for (const double v : c) {
    double a = 1;
    double b = 0;
    if (op == "Mul")
      a = v;
    else if (op == "Div")
      a = 1 / v;
    else if (op == "Add")
      b = v;
    else if (side == 0)
      b = -v;  // x - c
    else {     // c - x
      a = -1;
      b = v;
    }
    if (!std::isfinite(a) || !std::isfinite(b)) return fmt::format("its constant holds {}", v);
    affine.a.push_back(a);
    affine.b.push_back(b);
  }
  return {};
}

}  // namespace nibble
