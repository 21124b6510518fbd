// Pad: pads and value are attributes up to opset 10, inputs from 11 on; axes from 18, mode wrap from 19 on. Negative pads crop.
#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

enum class Mode : std::uint8_t { kConstant, kReflect, kEdge, kWrap };

Mode pad_mode(const Node& node) {
  const std::string mode = node.get_string("mode", "constant");
  if (mode == "constant") return Mode::kConstant;
  if (mode == "reflect") return Mode::kReflect;
  if (mode == "edge") return Mode::kEdge;
  if (mode == "wrap") return Mode::kWrap;
  fail_node(node, "mode '{}' is not one of constant, reflect, edge, wrap", mode);
}

struct Pads {
  std::vector<std::int64_t> begin, end;  // one an axis of the data
};

template <typename Context>
std::optional<Pads> pads_of(const Context& ctx, std::int64_t rank) {
  const Node& node = ctx.node;
  const IntsArgument pads = ints_argument(ctx, "pads", 1);
  const IntsArgument axes = ints_argument(ctx, "axes", 3);
  if (!pads.given) fail_node(node, "pads are missing");
  if (!pads.values || (axes.given && !axes.values)) return std::nullopt;
  std::vector<std::int64_t> chosen;
  if (axes.given) {
    chosen = normalize_axes(node, *axes.values, rank);
  } else {
    for (std::int64_t i = 0; i < rank; ++i) chosen.push_back(i);
  }
  if (pads.values->size() != 2 * chosen.size())
    fail_node(node, "pads {} are not two for each of {} axes", to_string(*pads.values), chosen.size());
  Pads result{.begin = std::vector<std::int64_t>(static_cast<std::size_t>(rank), 0),
              .end = std::vector<std::int64_t>(static_cast<std::size_t>(rank), 0)};
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    result.begin[static_cast<std::size_t>(chosen[i])] = (*pads.values)[i];
    result.end[static_cast<std::size_t>(chosen[i])] = (*pads.values)[chosen.size() + i];
  }
  return result;
}

std::int64_t padded_size(const Node& node, std::int64_t size, std::int64_t begin, std::int64_t end) {
  const std::int64_t result = add_sizes(node, add_sizes(node, size, begin), end);
  if (result < 0) fail_node(node, "pads {} and {} leave nothing of an axis of size {}", begin, end, size);
  return result;
}

void infer_pad(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  pad_mode(ctx.node);
  if (!x.has_rank) {
    set_output(ctx, 0, unknown_rank(x.dtype));
    return;
  }
  const auto pads = pads_of(ctx, static_cast<std::int64_t>(x.dims.size()));
  TensorType out = unknown_dims(x.dtype, static_cast<std::int64_t>(x.dims.size()));
  if (pads) {
    for (std::size_t i = 0; i < x.dims.size(); ++i) {
      if (x.dims[i].known())
        out.dims[i] = dim(padded_size(ctx.node, x.dims[i].size, pads->begin[i], pads->end[i]));
      else if (pads->begin[i] == 0 && pads->end[i] == 0)
        out.dims[i] = x.dims[i];
    }
    if (out.fully_known()) element_count(out.shape());
  }
  set_output(ctx, 0, std::move(out));
}

// Where each index of the output comes from: an index of the input, or -1 for the constant.
std::vector<std::int64_t> sources(const Node& node, Mode mode, std::int64_t size, std::int64_t begin, std::int64_t end) {
  const std::int64_t total = padded_size(node, size, begin, end);
  // Cropping comes first; the other modes see only what is left.
  const std::int64_t low = std::min(size, begin < 0 ? -begin : 0);
  const std::int64_t length = std::max<std::int64_t>(0, size - low - (end < 0 ? -end : 0));
  const std::int64_t lead = std::max<std::int64_t>(0, begin);
  if (length == 0 && total > 0 && mode != Mode::kConstant) fail_node(node, "an axis without elements cannot be padded from itself");
  std::vector<std::int64_t> map(static_cast<std::size_t>(total), -1);
  for (std::int64_t i = 0; i < total; ++i) {
    std::int64_t at = i - lead;
    if (at < 0 || at >= length) {
      switch (mode) {
        case Mode::kConstant: continue;
        case Mode::kEdge: at = at < 0 ? 0 : length - 1; break;
        case Mode::kWrap: at = (at % length + length) % length; break;
        case Mode::kReflect: {
          const std::int64_t period = length > 1 ? 2 * (length - 1) : 1;
          at = (at % period + period) % period;
          if (at >= length) at = period - at;
          break;
        }
      }
    }
    map[static_cast<std::size_t>(i)] = low + at;
  }
  return map;
}

Tensor fill_of(const EvalContext& ctx, DataType type) {
  if (const Tensor* value = optional_input(ctx, 2)) {
    if (value->type() != type)
      fail_node(ctx.node, "the constant value is of type {}, the data of type {}", to_string(value->type()), to_string(type));
    if (value->size() != 1) fail_node(ctx.node, "the constant value has shape {}; a scalar is expected", to_string(value->shape()));
    return *value;
  }
  return cast(Tensor::scalar(ctx.node.get_float("value", 0.0F)), type);
}

std::vector<Tensor> evaluate_pad(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const Mode mode = pad_mode(ctx.node);
  const Pads pads = pads_of(ctx, x.rank()).value();
  const std::size_t rank = x.shape().size();
  const Tensor fill = fill_of(ctx, x.type());
  if (rank == 0) return {x};
  Shape shape;
  for (std::size_t i = 0; i < rank; ++i) shape.push_back(padded_size(ctx.node, x.shape()[i], pads.begin[i], pads.end[i]));
  Tensor result(x.type(), shape);
  if (result.size() == 0) return {std::move(result)};
  std::vector<std::vector<std::int64_t>> maps;
  for (std::size_t i = 0; i < rank; ++i) maps.push_back(sources(ctx.node, mode, x.shape()[i], pads.begin[i], pads.end[i]));
  const auto strides = row_major_strides(x.shape());
  // The part of a row that is copied as it stands.
  const std::vector<std::int64_t>& row = maps[rank - 1];
  const auto row_size = static_cast<std::int64_t>(row.size());
  const std::int64_t body_begin = std::clamp<std::int64_t>(pads.begin[rank - 1], 0, row_size);
  const std::int64_t body_end = std::clamp<std::int64_t>(row_size - std::max<std::int64_t>(0, pads.end[rank - 1]), body_begin, row_size);
  dispatch_width(ctx.node, x.type(), [&]<typename W>() {
    const W constant = raw<W>(fill)[0];
    const W* in = raw<W>(x);
    W* out = mutable_raw<W>(result);
    std::vector<std::int64_t> index(rank - 1, 0);
    do {
      std::int64_t from = 0;
      for (std::size_t i = 0; i + 1 < rank && from >= 0; ++i) {
        const std::int64_t source = maps[i][static_cast<std::size_t>(index[i])];
        from = source < 0 ? -1 : from + source * strides[i];
      }
      if (from < 0) {
        std::fill_n(out, row_size, constant);
      } else {
        const auto edge = [&](std::int64_t i) {
          const std::int64_t source = row[static_cast<std::size_t>(i)];
          out[i] = source < 0 ? constant : in[from + source];
        };
        for (std::int64_t i = 0; i < body_begin; ++i) edge(i);
        if (body_end > body_begin && row[static_cast<std::size_t>(body_begin)] >= 0)
          std::memcpy(out + body_begin, in + from + row[static_cast<std::size_t>(body_begin)],
                      static_cast<std::size_t>(body_end - body_begin) * sizeof(W));
        for (std::int64_t i = body_end; i < row_size; ++i) edge(i);
      }
      out += row_size;
    } while (next_index(index, std::span<const std::int64_t>(shape).first(rank - 1)));
  });
  return {std::move(result)};
}

constexpr OpDef kOps[] = {
    {.name = "Pad", .max_inputs = 4, .infer = infer_pad, .evaluate = evaluate_pad, .rule = QuantRule::kTied},
};

}  // namespace

std::span<const OpDef> pad_ops() { return kOps; }

}  // namespace nibble
