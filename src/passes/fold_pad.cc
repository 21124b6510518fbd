// Pad with zeros, read by a convolution, is that convolution's own padding. For AveragePool it is so where the padding counts
// (count_include_pad, or a pool that had no padding of its own); for MaxPool it is not: MaxPool's padding is no value at all.
#include <algorithm>

#include "ops/op.h"
#include "passes/pass_list.h"
#include "passes/rewriter.h"

namespace nibble {
namespace {

// The pads of a Pad node over its spatial axes as Conv writes them (begins, then ends); a text says why not.
std::string read_pad(const Rewriter& rewriter, const InferredGraph& known, const Node& pad, std::vector<std::int64_t>& spatial) {
  if (pad.get_string("mode", "constant") != "constant") return "its mode is " + pad.get_string("mode", "constant");
  const TensorType& in = known.types[static_cast<std::size_t>(pad.inputs[0])];
  auto pads = ints_of(rewriter, pad, 1, "pads");
  if (!pads || pads->empty()) return "its pads are not constant";
  if (const ValueId value = pad.input(2); value != kNoValue) {
    const Tensor* constant = rewriter.constant(value);
    if (constant == nullptr || constant->size() != 1) return "its value is not constant";
    if (to_doubles(*constant)[0] != 0) return "it pads with " + fmt::format("{}", to_doubles(*constant)[0]);
  } else if (pad.get_float("value", 0.0F) != 0.0F) {
    return "it pads with " + fmt::format("{}", pad.get_float("value", 0.0F));
  }
  if (pad.input(3) != kNoValue) {  // opset 18: the axes that `pads` speaks of
    const Tensor* axes = rewriter.constant(pad.input(3));
    if (axes == nullptr || !in.has_rank) return "its axes are not constant";
    const auto rank = static_cast<std::int64_t>(in.dims.size());
    const std::vector<std::int64_t> list = to_int64s(*axes);
    if (pads->size() != list.size() * 2) return "its pads do not fit its axes";
    std::vector<std::int64_t> full(static_cast<std::size_t>(2 * rank), 0);
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::int64_t axis = list[i] < 0 ? list[i] + rank : list[i];
      if (axis < 0 || axis >= rank) return "its axes are out of range";
      full[static_cast<std::size_t>(axis)] = (*pads)[i];
      full[static_cast<std::size_t>(axis + rank)] = (*pads)[i + list.size()];
    }
    pads = std::move(full);
  }
  const std::size_t rank = pads->size() / 2;
  if (rank < 3 || pads->size() % 2 != 0) return "it has no spatial axes";
  if (std::any_of(pads->begin(), pads->end(), [](std::int64_t p) { return p < 0; })) return "it crops";
  for (const std::size_t axis : {std::size_t{0}, std::size_t{1}}) {
    if ((*pads)[axis] != 0 || (*pads)[rank + axis] != 0) return "it pads the batch or channel axis";
  }
  spatial.assign(pads->begin() + 2, pads->begin() + static_cast<std::ptrdiff_t>(rank));
  spatial.insert(spatial.end(), pads->begin() + static_cast<std::ptrdiff_t>(rank) + 2, pads->end());
  return {};
}

// Why `node` cannot take the padding in, or empty.
std::string refusal(const Node& node, const std::vector<std::int64_t>& spatial) {
  const std::string auto_pad = node.get_string("auto_pad", "NOTSET");
  if (auto_pad != "NOTSET" && auto_pad != "VALID") return "its auto_pad is " + auto_pad;
  if (node.op_type == "Conv") return {};
  if (node.op_type == "MaxPool") return "MaxPool's own padding holds no zeros";
  if (node.get_int("ceil_mode", 0) != 0) return "its ceil_mode counts padding differently";
  const auto own = node.get_ints("pads").value_or(std::vector<std::int64_t>{});
  const bool has_own = std::any_of(own.begin(), own.end(), [](std::int64_t p) { return p != 0; });
  if (has_own && node.get_int("count_include_pad", 0) == 0) return "its own padding is not counted, Pad's is";
  // Runtimes refuse a pool whose padding is as wide as its window.
  const auto kernel = node.get_ints("kernel_shape").value_or(std::vector<std::int64_t>{});
  for (std::size_t i = 0; i < spatial.size() && i < 2 * kernel.size(); ++i) {
    if (spatial[i] + (i < own.size() ? own[i] : 0) >= kernel[i % kernel.size()]) return "the padding is as wide as the window";
  }
  return {};
}

}  // namespace

void fold_pad(Graph& graph, PassReport& report) {
  const InferredGraph known = infer_types(graph);
  Rewriter rewriter(graph, report);
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    if (!rewriter.is(id, "Conv") && !rewriter.is(id, "AveragePool") && !rewriter.is(id, "MaxPool")) continue;
    const Node& node = rewriter.node(id);
    const NodeId head = rewriter.producer(node.inputs[0]);
    if (!rewriter.is(head, "Pad")) continue;
    const Node& pad = rewriter.node(head);
    std::vector<std::int64_t> spatial;
    std::string why = read_pad(rewriter, known, pad, spatial);
    if (why.empty()) why = refusal(node, spatial);
    std::vector<std::int64_t> own = node.get_ints("pads").value_or(std::vector<std::int64_t>(spatial.size(), 0));
    if (node.get_string("auto_pad", "NOTSET") == "VALID") own.assign(spatial.size(), 0);
    if (why.empty() && own.size() != spatial.size()) why = "their ranks differ";
    if (!why.empty()) {
      rewriter.declined(node.name, "Pad '{}' before {}: {}", pad.name, node.op_type, why);
      continue;
    }
    for (std::size_t i = 0; i < own.size(); ++i) own[i] += spatial[i];
    const std::string pad_name = pad.name;
    const bool pool = node.op_type == "AveragePool";
    rewriter.set_input(id, 0, pad.inputs[0]);
    rewriter.editor().remove_attribute(id, "auto_pad");
    rewriter.editor().set_attribute(id, "pads", own);
    if (pool) rewriter.editor().set_attribute(id, "count_include_pad", std::int64_t{1});
    rewriter.applied(rewriter.node(id).name, "took in Pad '{}'", pad_name);
  }
  rewriter.finish();
}

}  // namespace nibble
