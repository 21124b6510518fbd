// The options of `quantize` that say how to quantize, and the QuantScheme that they make.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "nibble/onnx.h"
#include "nibble/quantize.h"

namespace nibble::cli {

struct SchemeOptions {
  bool per_channel = false, per_tensor = false;
  std::string weight_type, activation_type;
  std::string weight_bits, activation_bits, first_last, block_size, codebook;
  bool dynamic = false, float16 = false, bfloat16 = false;
  bool weight_symmetric = false, weight_affine = false;
  bool activation_symmetric = false, activation_affine = false;
  bool narrow_range = false, full_range = false, reduce_range = false;
  std::string law;
  std::string format = "qdq";
  std::string storage;
  std::vector<std::string> nodes_to_exclude;
  std::vector<std::string> op_types;
  std::string recipe;
  std::string target = "ort-cpu";
};
void add_scheme_options(CLI::App& command, SchemeOptions& options);

// The target's scheme, then the recipe file on top, then what the command line says. A choice that is unknown is a UsageError listing the
// known ones.
QuantScheme make_scheme(const SchemeOptions& options);
QuantFormat make_format(const SchemeOptions& options);
// Packed where the scheme has widths that ONNX has no type for, unless the options say otherwise.
WeightStorage make_storage(const SchemeOptions& options, const QuantScheme& scheme);

}  // namespace nibble::cli
