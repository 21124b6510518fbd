#include "train/torch_ops.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/fail.h"
#include "train/binarize.h"
#include "train/torch_windows.h"

namespace nibble::train {
namespace {

using Inputs = std::vector<torch::Tensor>;

[[noreturn]] void refuse(const Node& node, std::string_view why) {
  fail(ErrorCode::kUnsupported, "node '{}' ({}): {}", node.name, node.op_type, why);
}

// An operand of whole numbers: an attribute in old opsets, a constant input in new ones; nullopt where it is left out.
std::optional<std::vector<std::int64_t>> ints(const OpSite& site, std::size_t input, std::string_view attribute) {
  if (const auto given = site.node.get_ints(attribute)) return given;
  const ValueId id = site.node.input(input);
  if (id == kNoValue) return std::nullopt;
  if (site.graph.is_constant(id)) return to_int64s(*site.graph.value(id).constant);
  if (const auto& known = site.known.constants[static_cast<std::size_t>(id)]) return to_int64s(*known);
  refuse(site.node, fmt::format("its {} are computed while the network runs; training needs constants", attribute));
}

std::optional<double> real(const OpSite& site, std::size_t input, std::string_view attribute) {
  if (site.node.has(attribute)) return static_cast<double>(site.node.get_float(attribute, 0));
  const ValueId id = site.node.input(input);
  if (id == kNoValue) return std::nullopt;
  if (!site.graph.is_constant(id) || site.graph.value(id).constant->size() != 1)
    refuse(site.node, fmt::format("its {} is not one constant", attribute));
  return to_doubles(*site.graph.value(id).constant)[0];
}

std::int64_t from_front(const Node& node, std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= std::max<std::int64_t>(rank, 1))
    refuse(node, fmt::format("axis {} does not fit a tensor of rank {}", axis, rank));
  return axis < 0 ? axis + rank : axis;
}

// --- element-wise ------------------------------------------------------------------------------------------------------------------

using Unary = torch::Tensor (*)(const torch::Tensor& x, double alpha, double beta);
struct UnaryRow {
  std::string_view op;
  double alpha, beta;  // defaults of the attributes
  Unary apply;
};
constexpr UnaryRow kUnary[] = {
    {"Identity", 0, 0, [](const torch::Tensor& x, double, double) { return x; }},
    {"Relu", 0, 0, [](const torch::Tensor& x, double, double) { return x.relu(); }},
    {"LeakyRelu", 0.01, 0, [](const torch::Tensor& x, double a, double) { return at::leaky_relu(x, a); }},
    {"Elu", 1, 0, [](const torch::Tensor& x, double a, double) { return at::elu(x, a); }},
    {"Sigmoid", 0, 0, [](const torch::Tensor& x, double, double) { return x.sigmoid(); }},
    {"Tanh", 0, 0, [](const torch::Tensor& x, double, double) { return x.tanh(); }},
    {"HardSigmoid", 0.2, 0.5, [](const torch::Tensor& x, double a, double b) { return (x * a + b).clamp(0, 1); }},
    {"HardSwish", 0, 0, [](const torch::Tensor& x, double, double) { return at::hardswish(x); }},
    {"Softplus", 0, 0, [](const torch::Tensor& x, double, double) { return at::softplus(x); }},
    {"Abs", 0, 0, [](const torch::Tensor& x, double, double) { return x.abs(); }},
    {"Neg", 0, 0, [](const torch::Tensor& x, double, double) { return -x; }},
    {"Exp", 0, 0, [](const torch::Tensor& x, double, double) { return x.exp(); }},
    {"Sqrt", 0, 0, [](const torch::Tensor& x, double, double) { return x.sqrt(); }},
    {"Erf", 0, 0, [](const torch::Tensor& x, double, double) { return x.erf(); }},
};

TorchOp make_unary(const OpSite& site) {
  for (const UnaryRow& row : kUnary) {
    if (row.op != site.node.op_type) continue;
    const double alpha = static_cast<double>(site.node.get_float("alpha", static_cast<float>(row.alpha)));
    const double beta = static_cast<double>(site.node.get_float("beta", static_cast<float>(row.beta)));
    return [apply = row.apply, alpha, beta](const Inputs& in, const StepInfo&) { return apply(in[0], alpha, beta); };
  }
  return {};
}

TorchOp make_clip(const OpSite& site) {
  const double lo = real(site, 1, "min").value_or(-std::numeric_limits<double>::infinity());
  const double hi = real(site, 2, "max").value_or(std::numeric_limits<double>::infinity());
  return [lo, hi](const Inputs& in, const StepInfo&) { return in[0].clamp(lo, hi); };
}

TorchOp make_binary(const OpSite& site) {
  const std::string& op = site.node.op_type;
  if (op == "Add") return [](const Inputs& in, const StepInfo&) { return in[0] + in[1]; };
  if (op == "Sub") return [](const Inputs& in, const StepInfo&) { return in[0] - in[1]; };
  if (op == "Mul") return [](const Inputs& in, const StepInfo&) { return in[0] * in[1]; };
  return [](const Inputs& in, const StepInfo&) { return in[0] / in[1]; };
}

TorchOp make_prelu(const OpSite&) {
  // The slope broadcasts as any operand of ONNX does, from the last axis; torch's own prelu takes one a channel.
  return [](const Inputs& in, const StepInfo&) { return in[0].clamp_min(0) + in[0].clamp_max(0) * in[1]; };
}

TorchOp make_dropout(const OpSite& site) {
  if (site.node.output(1) != kNoValue) refuse(site.node, "training has no mask as an output");
  const double ratio = real(site, 1, "ratio").value_or(0.5);
  if (!(ratio >= 0 && ratio < 1)) refuse(site.node, fmt::format("its ratio is {}; expected 0 <= ratio < 1", ratio));
  return [ratio, number = site.site](const Inputs& in, const StepInfo& step) {
    if (!step.training || ratio == 0) return in[0];
    const torch::Tensor draws = uniform_draws_by_sample(step.seed, step.step, number, step.sample_ids, in[0].sizes());
    return in[0] * ((draws >= ratio).to(in[0].dtype()) / (1 - ratio));
  };
}

TorchOp make_softmax(const OpSite& site) {
  const bool log = site.node.op_type == "LogSoftmax";
  const bool flattens = site.graph.opset("") < 13;
  const std::int64_t wanted = site.node.get_int("axis", flattens ? 1 : -1);
  return [node = site.node, log, flattens, wanted](const Inputs& in, const StepInfo&) {
    const std::int64_t axis = from_front(node, wanted, in[0].dim());
    const torch::Tensor x = flattens ? in[0].flatten(axis) : in[0];
    return (log ? x.log_softmax(axis) : x.softmax(axis)).view_as(in[0]);
  };
}

// --- matrices ----------------------------------------------------------------------------------------------------------------------

TorchOp make_gemm(const OpSite& site) {
  const Node& node = site.node;
  const bool a = node.get_int("transA", 0) != 0, b = node.get_int("transB", 0) != 0;
  const double alpha = static_cast<double>(node.get_float("alpha", 1)), beta = static_cast<double>(node.get_float("beta", 1));
  return [a, b, alpha, beta](const Inputs& in, const StepInfo&) {
    const torch::Tensor left = a ? in[0].t() : in[0], right = b ? in[1].t() : in[1];
    if (in.size() < 3 || !in[2].defined()) return alpha == 1 ? at::mm(left, right) : at::mm(left, right) * alpha;
    return at::addmm(in[2], left, right, beta, alpha);
  };
}

// --- shapes ------------------------------------------------------------------------------------------------------------------------

TorchOp make_reshape(const OpSite& site) {
  const auto target = ints(site, 1, "shape");
  if (!target) refuse(site.node, "it has no shape");
  const bool zero_is_copied = site.node.get_int("allowzero", 0) == 0;
  // Networks of one sample name their batch in the shape: it then stands for any.
  const TensorType& in_type = site.graph.value(site.graph.inputs()[0]).type;
  const std::int64_t declared = in_type.has_rank && !in_type.dims.empty() && in_type.dims[0].known() ? in_type.dims[0].size : -1;
  return [node = site.node, target = *target, zero_is_copied, declared](const Inputs& in, const StepInfo& step) {
    std::vector<std::int64_t> shape = target;
    std::int64_t product = 1;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] == 0 && zero_is_copied && static_cast<std::int64_t>(i) < in[0].dim())
        shape[i] = in[0].size(static_cast<std::int64_t>(i));
      product *= shape[i];
    }
    const std::int64_t batch = step.sample_ids.defined() ? step.sample_ids.numel() : in[0].size(0);
    const bool holds_batch = in[0].dim() > 0 && in[0].size(0) == batch;
    if (product != in[0].numel() && (product >= 0 || holds_batch) && !shape.empty() && shape[0] == declared && declared > 0)
      shape[0] = batch;
    product = 1;
    bool open = false;
    for (const std::int64_t s : shape) {
      open = open || s < 0;
      product *= s < 0 ? 1 : s;
    }
    if (open ? product <= 0 || in[0].numel() % product != 0 : product != in[0].numel())
      refuse(node, fmt::format("a batch of {} makes {} elements, which do not fit the shape {}", batch, in[0].numel(), to_string(target)));
    return in[0].reshape(shape);
  };
}

TorchOp make_flatten(const OpSite& site) {
  return [node = site.node, axis = site.node.get_int("axis", 1)](const Inputs& in, const StepInfo&) {
    const std::int64_t at = axis == in[0].dim() ? axis : from_front(node, axis, in[0].dim());
    std::int64_t rows = 1;
    for (std::int64_t i = 0; i < at; ++i) rows *= in[0].size(i);
    return in[0].reshape({rows, rows == 0 ? 0 : in[0].numel() / rows});
  };
}

TorchOp make_squeeze(const OpSite& site) {
  const auto axes = ints(site, 1, "axes");
  return [node = site.node, axes](const Inputs& in, const StepInfo&) {
    std::vector<std::int64_t> shape;
    std::vector<std::int64_t> gone;
    if (axes) {
      for (const std::int64_t axis : *axes) gone.push_back(from_front(node, axis, in[0].dim()));
    }
    for (std::int64_t i = 0; i < in[0].dim(); ++i) {
      const bool named = axes ? std::find(gone.begin(), gone.end(), i) != gone.end() : in[0].size(i) == 1;
      if (!named) shape.push_back(in[0].size(i));
    }
    return in[0].reshape(shape);
  };
}

TorchOp make_unsqueeze(const OpSite& site) {
  const auto axes = ints(site, 1, "axes");
  if (!axes) refuse(site.node, "it has no axes");
  return [node = site.node, axes = *axes](const Inputs& in, const StepInfo&) {
    const std::int64_t rank = in[0].dim() + std::ssize(axes);
    std::vector<std::int64_t> places;
    for (const std::int64_t axis : axes) places.push_back(from_front(node, axis, rank));
    std::sort(places.begin(), places.end());
    torch::Tensor y = in[0];
    for (const std::int64_t place : places) y = y.unsqueeze(place);
    return y;
  };
}

TorchOp make_transpose(const OpSite& site) {
  const auto perm = site.node.get_ints("perm");
  return [perm](const Inputs& in, const StepInfo&) {
    std::vector<std::int64_t> order;
    for (std::int64_t i = in[0].dim(); i-- > 0;) order.push_back(i);
    return in[0].permute(perm ? *perm : order);
  };
}

TorchOp make_concat(const OpSite& site) {
  return [node = site.node, axis = site.node.get_int("axis", 1)](const Inputs& in, const StepInfo&) {
    return torch::cat(in, from_front(node, axis, in[0].dim()));
  };
}

TorchOp make_slice(const OpSite& site) {
  const auto starts = ints(site, 1, "starts"), ends = ints(site, 2, "ends"), steps = ints(site, 4, "steps");
  auto axes = ints(site, 3, "axes");
  if (!starts || !ends || starts->size() != ends->size()) refuse(site.node, "its starts and ends do not fit each other");
  if (!axes) {
    axes.emplace();
    for (std::size_t i = 0; i < starts->size(); ++i) axes->push_back(static_cast<std::int64_t>(i));
  }
  if (axes->size() != starts->size() || (steps && steps->size() != starts->size())) refuse(site.node, "its axes do not fit its starts");
  return [node = site.node, starts = *starts, ends = *ends, axes = *axes, steps](const Inputs& in, const StepInfo&) {
    torch::Tensor y = in[0];
    for (std::size_t i = 0; i < axes.size(); ++i) {
      const std::int64_t axis = from_front(node, axes[i], y.dim()), size = y.size(axis), step = steps ? (*steps)[i] : 1;
      if (step == 0) refuse(node, "its step is 0");
      if (step > 0) {
        y = y.slice(axis, starts[i], ends[i], step);
        continue;
      }
      const auto clamped = [&](std::int64_t at) { return std::clamp<std::int64_t>(at < 0 ? at + size : at, -1, size - 1); };
      const std::int64_t first = clamped(starts[i]), last = ends[i] < -size ? -1 : clamped(ends[i]);
      std::vector<std::int64_t> picked;
      for (std::int64_t at = first; at > last; at += step) picked.push_back(at);
      y = y.index_select(axis, torch::tensor(picked, torch::kInt64));
    }
    return y;
  };
}

TorchOp make_pad(const OpSite& site) {
  const Node& node = site.node;
  const std::string mode = node.get_string("mode", "constant");
  if (mode != "constant") refuse(node, fmt::format("training pads with a constant, not in mode {}", mode));
  const auto pads = ints(site, 1, "pads");
  if (!pads || pads->size() % 2 != 0) refuse(node, "its pads do not come in pairs");
  const double value = real(site, 2, "value").value_or(0);
  const auto axes = ints(site, 3, "axes");
  return [node, pads = *pads, axes, value](const Inputs& in, const StepInfo&) {
    const std::int64_t rank = in[0].dim();
    const std::size_t count = pads.size() / 2;
    std::vector<std::int64_t> order(static_cast<std::size_t>(2 * rank), 0);  // last axis first
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t axis = from_front(node, axes ? axes->at(i) : static_cast<std::int64_t>(i), rank);
      const auto at = static_cast<std::size_t>(2 * (rank - 1 - axis));
      order[at] = pads[i];
      order[at + 1] = pads[count + i];
    }
    return at::constant_pad_nd(in[0], order, value);
  };
}

TorchOp make_global_pool(const OpSite& site) {
  const bool is_max = site.node.op_type == "GlobalMaxPool";
  return [is_max](const Inputs& in, const StepInfo&) {
    std::vector<std::int64_t> axes;
    for (std::int64_t i = 2; i < in[0].dim(); ++i) axes.push_back(i);
    return is_max ? in[0].amax(axes, true) : in[0].mean(axes, true);
  };
}

TorchOp make_reduce_mean(const OpSite& site) {
  const auto given = ints(site, 1, "axes");
  const bool keep = site.node.get_int("keepdims", 1) != 0;
  if ((!given || given->empty()) && site.node.get_int("noop_with_empty_axes", 0) != 0)
    return [](const Inputs& in, const StepInfo&) { return in[0]; };
  return [node = site.node, given, keep](const Inputs& in, const StepInfo&) {
    std::vector<std::int64_t> axes;
    for (std::int64_t i = 0; i < in[0].dim(); ++i) axes.push_back(i);
    if (given && !given->empty()) {
      axes.clear();
      for (const std::int64_t axis : *given) axes.push_back(from_front(node, axis, in[0].dim()));
    }
    return in[0].mean(axes, keep);
  };
}

struct OpRow {
  std::string_view op;
  TorchOp (*make)(const OpSite&);
};
constexpr OpRow kOps[] = {
    {"Conv", make_conv},
    {"Gemm", make_gemm},
    {"MatMul", [](const OpSite&) -> TorchOp { return [](const Inputs& in, const StepInfo&) { return at::matmul(in[0], in[1]); }; }},
    {"Clip", make_clip},
    {"PRelu", make_prelu},
    {"Add", make_binary},
    {"Sub", make_binary},
    {"Mul", make_binary},
    {"Div", make_binary},
    {"MaxPool", make_max_pool},
    {"AveragePool", make_average_pool},
    {"GlobalAveragePool", make_global_pool},
    {"GlobalMaxPool", make_global_pool},
    {"ReduceMean", make_reduce_mean},
    {"Pad", make_pad},
    {"Slice", make_slice},
    {"Concat", make_concat},
    {"Reshape", make_reshape},
    {"Flatten", make_flatten},
    {"Squeeze", make_squeeze},
    {"Unsqueeze", make_unsqueeze},
    {"Transpose", make_transpose},
    {"Dropout", make_dropout},
    {"Softmax", make_softmax},
    {"LogSoftmax", make_softmax},
};

}  // namespace

TorchOp make_torch_op(const OpSite& site) {
  if (is_sign(site.node)) return [](const Inputs& in, const StepInfo&) { return in[0]; };  // its edge's quantizer does it
  if (site.node.domain.empty()) {
    for (const OpRow& row : kOps) {
      if (row.op == site.node.op_type) return row.make(site);
    }
    if (TorchOp op = make_unary(site)) return op;
  }
  refuse(site.node, "training does not know this operator");
}

}  // namespace nibble::train
