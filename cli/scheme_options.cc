#include "scheme_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <regex>
#include <sstream>

#include "command.h"
#include "nibble/error.h"
#include "nibble/interpreter.h"

namespace nibble::cli {
namespace {

std::vector<std::string> target_names() {
  std::vector<std::string> names;
  for (const TargetInfo& row : list_targets()) names.push_back(row.name);
  return names;
}

void check_regex(const std::string& text) {
  try {
    const std::regex compiled(text);
  } catch (const std::regex_error& error) {
    throw UsageError(fmt::format("--nodes-to-exclude: '{}' is no regular expression: {}", text, error.what()));
  }
}

void check_op_types(const std::vector<std::string>& ops) {
  std::vector<std::string> known;
  for (const OpInfo& row : list_ops()) {
    if (row.integer && row.domain.empty()) known.push_back(row.name);
  }
  for (const std::string& op : ops) {
    if (std::find(known.begin(), known.end(), op) == known.end())
      throw UsageError(fmt::format("--op-types-to-quantize: '{}' is no operator with an integer form; those are {}", op, joined(known)));
  }
}

std::string read_text(const std::string& path) {
  std::error_code code;
  if (!std::filesystem::exists(path, code)) throw Error(ErrorCode::kNotFound, fmt::format("--recipe: there is no file {}", path));
  if (!std::filesystem::is_regular_file(path, code))
    throw Error(ErrorCode::kInvalidArgument, fmt::format("--recipe: {} is no regular file", path));
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) throw Error(ErrorCode::kIo, fmt::format("--recipe: cannot read {}", path));
  return text.str();
}

// `lowest` to 8, or 16.
int read_bits(const std::string& option, const std::string& text, int lowest) {
  for (const int bits : {2, 3, 4, 5, 6, 7, 8, 16}) {
    if (bits >= lowest && text == std::to_string(bits)) return bits;
  }
  throw UsageError(fmt::format("{}: expected {} to 8, 16{}; found '{}'", option, lowest, option == "--activation-bits" ? " or float" : "", text));
}

}  // namespace

void add_scheme_options(CLI::App& command, SchemeOptions& o) {
  const std::string group = "How to quantize";
  const auto either = [&](const char* yes, bool& yes_value, const char* yes_help, const char* no, bool& no_value, const char* no_help) {
    CLI::Option* a = command.add_flag(yes, yes_value, yes_help)->group(group);
    CLI::Option* b = command.add_flag(no, no_value, no_help)->group(group);
    a->excludes(b);
  };
  either("--per-channel", o.per_channel, "one scale for each output channel of a weight (the default)", "--per-tensor", o.per_tensor,
         "one scale for a whole weight");
  command.add_option("--weight-type", o.weight_type, "int8 or uint8 [int8]")->type_name("TYPE")->group(group);
  command.add_option("--activation-type", o.activation_type, "uint8 or int8 [uint8]")->type_name("TYPE")->group(group);
  either("--weight-symmetric", o.weight_symmetric, "weights without a zero point (the default for int8)", "--weight-affine",
         o.weight_affine, "weights with a zero point (the default for uint8)");
  either("--activation-symmetric", o.activation_symmetric, "activations without a zero point", "--activation-affine", o.activation_affine,
         "activations with a zero point (the default)");
  either("--narrow-range", o.narrow_range, "int8 weights in -127..127 (the default)", "--full-range", o.full_range,
         "int8 weights in -128..127");
  command.add_flag("--reduce-range", o.reduce_range, "7-bit weights, for processors whose 16-bit sums saturate")->group(group);
  command.add_option("--weight-bits", o.weight_bits, "bits of a weight: 2 to 8, or 16 [8]")->type_name("N")->group(group);
  command.add_option("--activation-bits", o.activation_bits, "bits of an activation: 2 to 8, 16, or float (weight-only: integer weights, float activations) [8]")
      ->type_name("N")
      ->group(group);
  command.add_option("--block-size", o.block_size, "a scale for each block of 32, 64 or 128 input channels of a weight [none]")
      ->type_name("N")
      ->group(group);
  command
      .add_option("--codebook", o.codebook,
                  "weights take 2^(--weight-bits) chosen values, stored as indices and a table: kmeans, or powers_of_two (2 to 4 bits)")
      ->type_name("KIND")
      ->group(group);
  CLI::Option* dynamic =
      command.add_flag("--dynamic", o.dynamic, "activations get their scales while the model runs; needs no data")->group(group);
  CLI::Option* half = command.add_flag("--float16", o.float16, "weights held as float16; needs no data")->group(group);
  CLI::Option* brain = command.add_flag("--bfloat16", o.bfloat16, "weights held as bfloat16; needs no data")->group(group);
  dynamic->excludes(half)->excludes(brain);
  half->excludes(brain);
  command
      .add_option("--first-last", o.first_last,
                  "the first and the last layer that compute: 8 (bits, their inputs too), float, or same as the others [same]")
      ->type_name("WHAT")
      ->group(group);
  command
      .add_option("--law", o.law,
                  "requantization: float32 (as ONNX Runtime), fixed_point (integers only) or shift (every scale a power of two) [float32]")
      ->type_name("LAW")
      ->group(group);
  command
      .add_option("--export", o.storage,
                  "weights in the file: standard (ONNX's types, for any runtime) or packed (without gaps, for nibble alone) [packed for 2, 3, 5, 6, "
                  "7 bits and codebooks]")
      ->type_name("HOW")
      ->group(group);
  command.add_option("--quant-format", o.format, "qdq or qoperator")->type_name("FORMAT")->capture_default_str()->group(group);
  command.add_option("--nodes-to-exclude", o.nodes_to_exclude, "nodes whose whole name matches stay float (ECMAScript)")
      ->type_name("REGEX")
      ->allow_extra_args(false)
      ->group(group);
  command.add_option("--op-types-to-quantize", o.op_types, "only these operators, separated by commas [every one with an integer form]")
      ->type_name("LIST")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->group(group);
  command.add_option("--recipe", o.recipe, "quantization recipe: overrides for single nodes (JSON)")->type_name("FILE.json")->group(group);
  command.add_option("--target", o.target, "preset for the place where the model shall run: " + joined(target_names()))
      ->type_name("TARGET")
      ->capture_default_str()
      ->group(group);
}

QuantScheme make_scheme(const SchemeOptions& o) {
  check_choice("--target", o.target, target_names());
  QuantScheme scheme = scheme_for_target(o.target);
  if (!o.recipe.empty()) scheme = apply_scheme_recipe(std::move(scheme), read_text(o.recipe), o.recipe);

  TensorScheme& weights = scheme.defaults.weights;
  TensorScheme& activations = scheme.defaults.activations;
  if (o.per_channel) weights.per_channel = true;
  if (o.per_tensor) weights.per_channel = false;
  if (!o.weight_type.empty()) {
    check_choice("--weight-type", o.weight_type, {"int8", "uint8"});
    const bool is_signed = o.weight_type == "int8";
    if (!is_signed && o.narrow_range) throw UsageError("--narrow-range is for int8 weights; uint8 has no narrow range");
    weights.type = {.bit_width = weights.type.bit_width, .is_signed = is_signed, .narrow_range = is_signed};
    weights.symmetric = is_signed;
  }
  if (!o.weight_bits.empty()) weights.type.bit_width = read_bits("--weight-bits", o.weight_bits, 2);
  if (o.activation_bits == "float")
    scheme.defaults.form = NodeForm::kWeightOnly;
  else if (!o.activation_bits.empty())
    activations.type.bit_width = read_bits("--activation-bits", o.activation_bits, 2);
  if (!o.block_size.empty()) {
    check_choice("--block-size", o.block_size, {"32", "64", "128"});
    weights.block_size = std::stoi(o.block_size);
    if (o.per_tensor) throw UsageError("--block-size is finer than --per-tensor: leave one out");
  }
  if (!o.codebook.empty()) {
    check_choice("--codebook", o.codebook, {"kmeans", "powers_of_two"});
    weights.codebook = o.codebook == "kmeans" ? Codebook::kKMeans : Codebook::kPowersOfTwo;
    const int most = o.codebook == "kmeans" ? 7 : 4;
    if (weights.type.bit_width > most)
      throw UsageError(fmt::format("--codebook {}: needs --weight-bits 2 to {}", o.codebook, most));
  }
  if (o.dynamic || o.float16 || o.bfloat16) {
    if (!o.activation_bits.empty()) throw UsageError("--activation-bits does not go with --dynamic, --float16 and --bfloat16");
    scheme.defaults.form = o.dynamic ? NodeForm::kDynamic : o.float16 ? NodeForm::kFloat16 : NodeForm::kBFloat16;
  }
  if (!o.first_last.empty()) {
    check_choice("--first-last", o.first_last, {"8", "float", "same"});
    scheme.first_last = o.first_last == "8"       ? FirstLastPolicy::k8Bit
                        : o.first_last == "float" ? FirstLastPolicy::kFloat
                                                  : FirstLastPolicy::kSame;
  }
  if (o.weight_symmetric) weights.symmetric = true;
  if (o.weight_affine) weights.symmetric = false;
  if (o.narrow_range) weights.type.narrow_range = true;
  if (o.full_range) weights.type.narrow_range = false;
  if (!o.activation_type.empty()) {
    check_choice("--activation-type", o.activation_type, {"uint8", "int8"});
    activations.type = {.bit_width = activations.type.bit_width, .is_signed = o.activation_type == "int8", .narrow_range = false};
  }
  if (o.activation_symmetric) activations.symmetric = true;
  if (o.activation_affine) activations.symmetric = false;
  if (o.reduce_range) scheme.reduce_range = true;
  if (!o.law.empty()) {
    check_choice("--law", o.law, {"float32", "fixed_point", "shift"});
    scheme.law = o.law == "fixed_point" ? RequantizeLaw::kFixedPoint : o.law == "shift" ? RequantizeLaw::kShift : RequantizeLaw::kFloat32;
  }
  if (!o.op_types.empty()) {
    check_op_types(o.op_types);
    scheme.op_types_to_quantize = o.op_types;
  }
  for (const std::string& regex : o.nodes_to_exclude) {
    check_regex(regex);
    NodeRule rule;
    rule.node_regex = regex;
    rule.quantized = false;
    scheme.rules.push_back(std::move(rule));
  }
  return scheme;
}

QuantFormat make_format(const SchemeOptions& options) {
  check_choice("--quant-format", options.format, {"qdq", "qoperator"});
  return options.format == "qdq" ? QuantFormat::kQdq : QuantFormat::kQOperator;
}

WeightStorage make_storage(const SchemeOptions& options, const QuantScheme& scheme) {
  if (!options.storage.empty()) {
    check_choice("--export", options.storage, {"standard", "packed"});
    return options.storage == "packed" ? WeightStorage::kPacked : WeightStorage::kStandard;
  }
  const auto odd = [](const TensorScheme& w) {
    const int bits = w.type.bit_width;
    return w.codebook != Codebook::kNone || (bits != 4 && bits != 8 && bits != 16);
  };
  bool any = odd(scheme.defaults.weights);
  for (const NodeRule& rule : scheme.rules) any = any || (rule.weights && odd(*rule.weights));
  return any ? WeightStorage::kPacked : WeightStorage::kStandard;
}

}  // namespace nibble::cli
