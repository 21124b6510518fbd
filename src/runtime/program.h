// Program::Impl: what lowering leaves behind. Immutable and shared by sessions: the model, everything prepared from its constants, and the
// graph that shapes are inferred on. Nothing here depends on the shapes of the inputs; that is the plan's part (runtime/plan.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "kernels/isa.h"
#include "kernels/qadd/qadd.h"
#include "kernels/qconv/qconv.h"
#include "kernels/qconv_depthwise/qconv_depthwise.h"
#include "kernels/qgemm/qgemm.h"
#include "nibble/runtime.h"
#include "numeric/requantize.h"
#include "quantize/node_arithmetic.h"

namespace nibble {

// The widest integers that the kernels take.
inline constexpr int kStoredBits = kKernelBits;

// Integer activations are stored as uint8: an int8 tensor as q + 128. Everything that the kernels see is on this unsigned grid.
struct StoredGrid {
  float scale = 1;
  std::int32_t offset = 0;  // stored = q + offset (0 or 128)
  std::int32_t zero_point = 0, qmin = 0, qmax = 255;  // of stored values
};
StoredGrid stored_grid(const QuantParams& params);
// A grid of original integers, moved onto the stored ones.
OutputGrid stored_output_grid(const OutputGrid& grid, const QuantParams& params);

// What is prepared once for a node, by its kind.
struct PreparedConv {
  kernels::PackedConv packed;
  kernels::RequantizeTable requantize;
};
struct PreparedDepthwise {
  kernels::PackedDepthwise packed;
  kernels::RequantizeTable requantize;
};
struct PreparedGemm {
  kernels::PackedGemm packed;
  kernels::RequantizeTable requantize;
};
// Convolutions that no kernel takes (3-D): plain loops over centred weights.
struct PreparedPlainConv {
  std::vector<std::int32_t> weights;  // [O, C/g, kernel...], minus their zero points
  std::vector<std::int32_t> bias;
  kernels::RequantizeTable requantize;
};
// Nodes with more bits than the kernels take (steps_wide.cc).
struct PreparedWide {
  std::vector<std::int32_t> weights;  // as in the model, around 0
  std::vector<std::int32_t> bias;     // one an output channel
  bool in_32_bits = false;            // the accumulator proof says so
};
// Sums of bases (steps_bases.cc).
struct PreparedBases {
  std::vector<std::vector<std::int32_t>> weights;  // by base, as in the model
};
struct PreparedTable {
  std::vector<std::uint8_t> table;  // 256 entries, stored -> stored
};
using Prepared = std::variant<std::monostate, PreparedConv, PreparedDepthwise, PreparedGemm, PreparedPlainConv, PreparedWide, PreparedBases, PreparedTable>;

struct Program::Impl {
  QuantizedGraph model;
  Graph shape_graph;  // the same ids; integers are floats there, integer constants unknown ones, and the edges are identities
  std::vector<Prepared> prepared;                         // by NodeId
  std::vector<std::shared_ptr<const std::vector<std::uint8_t>>> constants;  // by ValueId: stored codes of constant activation operands, plain layout
  std::vector<std::optional<Tensor>> reals;  // by ValueId: constants that DequantizeLinear makes of integer constants
  std::vector<std::string> input_names, output_names;
  std::vector<TensorType> input_types;
  kernels::Isa isa = kernels::Isa::kReference;
  std::int64_t weight_bytes = 0;
};

}  // namespace nibble
