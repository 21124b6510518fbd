// DepthToSpace and SpaceToDepth: blocks of b x b pixels to channels and back.
#include <cstring>

#include "ops/nn_common.h"

namespace nibble::nn {
namespace {

std::int64_t block_size(const Node& node) {
  const std::int64_t b = node.get_int("blocksize", 0);
  if (b < 1 || b > 32768) fail_node(node, "blocksize is {}, expected 1 or more", b);
  return b;
}

enum class Direction { kToSpace, kToDepth };

template <Direction kDirection>
void infer(InferContext& ctx) {
  const TensorType& x = *ctx.inputs[0];
  TensorType& y = ctx.outputs[0];
  y.dtype = x.dtype;
  const std::int64_t b = block_size(ctx.node);
  if (!x.has_rank) return;
  if (x.dims.size() != 4) fail_node(ctx.node, "the input is {}, expected 4 axes", to_string(x));
  y.has_rank = true;
  y.dims.assign(4, Dim{});
  y.dims[0] = x.dims[0];
  const auto scaled = [&](const Dim& dim, std::int64_t multiply, std::int64_t divide) {
    Dim result;
    if (!dim.known() || dim.size > (std::int64_t{1} << 32)) return result;
    if (dim.size % divide != 0) fail_node(ctx.node, "the input {} does not divide by blocksize {}", to_string(x), b);
    result.size = dim.size * multiply / divide;
    return result;
  };
  const bool to_space = kDirection == Direction::kToSpace;
  y.dims[1] = to_space ? scaled(x.dims[1], 1, b * b) : scaled(x.dims[1], b * b, 1);
  for (std::size_t d = 2; d < 4; ++d) y.dims[d] = to_space ? scaled(x.dims[d], b, 1) : scaled(x.dims[d], 1, b);
}

// copy(depth offset, space offset) for every pair of elements that correspond; depth [N, C*b*b, H, W], space [N, C, H*b, W*b].
template <typename Copy>
void walk(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t b, bool channel_first, const Copy& copy) {
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = 0; k < c; ++k) {
      for (std::int64_t by = 0; by < b; ++by) {
        for (std::int64_t bx = 0; bx < b; ++bx) {
          const std::int64_t channel = channel_first ? (k * b + by) * b + bx : (by * b + bx) * c + k;
          for (std::int64_t y = 0; y < h; ++y) {
            for (std::int64_t x = 0; x < w; ++x)
              copy(((i * c * b * b + channel) * h + y) * w + x, ((i * c + k) * h * b + y * b + by) * w * b + x * b + bx);
          }
        }
      }
    }
  }
}

template <Direction kDirection>
std::vector<Tensor> evaluate(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& x = ctx.input(0);
  const std::int64_t b = block_size(node);
  const Shape& s = x.shape();
  if (s.size() != 4) fail_node(node, "the input has shape {}, expected 4 axes", to_string(s));
  constexpr bool kToSpace = kDirection == Direction::kToSpace;
  if (kToSpace ? s[1] % (b * b) != 0 : (s[2] % b != 0 || s[3] % b != 0))
    fail_node(node, "the input {} does not divide by blocksize {}", to_string(s), b);
  const std::string mode = kToSpace ? node.get_string("mode", "DCR") : "DCR";
  if (mode != "DCR" && mode != "CRD") fail_node(node, "mode is '{}', expected DCR or CRD", mode);
  const Shape shape = kToSpace ? Shape{s[0], s[1] / (b * b), s[2] * b, s[3] * b} : Shape{s[0], s[1] * b * b, s[2] / b, s[3] / b};
  Tensor y(x.type(), shape);
  const Shape& depth = kToSpace ? s : shape;
  const Shape& space = kToSpace ? shape : s;
  const std::byte* in = x.bytes();
  std::byte* out = y.mutable_bytes();
  const auto copy_as = [&]<typename T>() {
    walk(depth[0], space[1], depth[2], depth[3], b, mode == "CRD", [&](std::int64_t d, std::int64_t p) {
      const std::int64_t from = kToSpace ? d : p, to = kToSpace ? p : d;
      std::memcpy(out + to * static_cast<std::int64_t>(sizeof(T)), in + from * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
    });
  };
  switch (element_size(x.type())) {
    case 1: copy_as.template operator()<std::uint8_t>(); break;
    case 2: copy_as.template operator()<std::uint16_t>(); break;
    case 4: copy_as.template operator()<std::uint32_t>(); break;
    default: copy_as.template operator()<std::uint64_t>(); break;
  }
  return {std::move(y)};
}

}  // namespace

const OpDef kDepthToSpace = {
    .name = "DepthToSpace", .infer = infer<Direction::kToSpace>, .evaluate = evaluate<Direction::kToSpace>, .rule = QuantRule::kTied};
const OpDef kSpaceToDepth = {
    .name = "SpaceToDepth", .infer = infer<Direction::kToDepth>, .evaluate = evaluate<Direction::kToDepth>, .rule = QuantRule::kTied};

}  // namespace nibble::nn
