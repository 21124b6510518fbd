#include "schemes/scheme_json.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/fail.h"
#include "schemes/scheme_rules.h"

namespace nibble {

namespace {

using nlohmann::json;

constexpr std::array<std::pair<std::string_view, RequantizeLaw>, 3> kLaws = {
    {{"float32", RequantizeLaw::kFloat32}, {"fixed_point", RequantizeLaw::kFixedPoint}, {"shift", RequantizeLaw::kShift}}};
constexpr std::array<std::pair<std::string_view, FirstLastPolicy>, 3> kFirstLast = {
    {{"same", FirstLastPolicy::kSame}, {"float", FirstLastPolicy::kFloat}, {"8bit", FirstLastPolicy::k8Bit}}};

constexpr std::array<std::pair<std::string_view, NodeForm>, 5> kForms = {{{"integer", NodeForm::kInteger},
                                                                         {"weight_only", NodeForm::kWeightOnly},
                                                                         {"dynamic", NodeForm::kDynamic},
                                                                         {"float16", NodeForm::kFloat16},
                                                                         {"bfloat16", NodeForm::kBFloat16}}};
constexpr std::array<std::pair<std::string_view, Codebook>, 3> kCodebooks = {
    {{"none", Codebook::kNone}, {"kmeans", Codebook::kKMeans}, {"powers_of_two", Codebook::kPowersOfTwo}}};
// Blocks of fewer would spend more on scales than on weights.
constexpr int kSmallestBlock = 8, kLargestBlock = 1 << 20;

// One object of the file. Every key that is read is remembered; finish() refuses the others.
class ObjectReader {
 public:
  ObjectReader(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) fail(ErrorCode::kInvalidData, "{}: expected an object, found {}", where_, object.type_name());
  }

  const json* find(const char* key) {
    known_.emplace_back(key);
    const auto item = object_.find(key);
    return item == object_.end() ? nullptr : &*item;
  }
  bool has(const char* key) const { return object_.contains(key); }

  void read(const char* key, bool& value) {
    if (const json* item = find(key)) {
      if (!item->is_boolean()) refuse(key, "true or false", *item);
      value = item->get<bool>();
    }
  }
  void read(const char* key, std::string& value) {
    if (const json* item = find(key)) {
      if (!item->is_string()) refuse(key, "a string", *item);
      value = item->get<std::string>();
    }
  }
  void read(const char* key, std::vector<std::string>& value) {
    const json* item = find(key);
    if (item == nullptr) return;
    if (!item->is_array() || !std::all_of(item->begin(), item->end(), [](const json& s) { return s.is_string(); })) {
      refuse(key, "an array of strings", *item);
    }
    value = item->get<std::vector<std::string>>();
  }
  void read_bit_width(const char* key, int& value) {
    if (const json* item = find(key)) {
      if (!item->is_number_integer() || *item < 1 || *item > 16) refuse(key, "an integer from 1 to 16", *item);
      value = item->get<int>();
    }
  }
  void read_block_size(const char* key, std::int64_t& value) {
    if (const json* item = find(key)) {
      if (!item->is_number_integer() || (*item != 0 && (*item < kSmallestBlock || *item > kLargestBlock)))
        refuse(key, fmt::format("0 (no blocks) or a number from {} to {}", kSmallestBlock, kLargestBlock), *item);
      value = item->get<std::int64_t>();
    }
  }
  template <typename Enum, std::size_t n>
  void read(const char* key, Enum& value, const std::array<std::pair<std::string_view, Enum>, n>& names) {
    const json* item = find(key);
    if (item == nullptr) return;
    std::vector<std::string_view> known;
    for (const auto& [name, enumerator] : names) {
      if (item->is_string() && item->get_ref<const std::string&>() == name) {
        value = enumerator;
        return;
      }
      known.push_back(name);
    }
    refuse(key, fmt::format("one of {}", fmt::join(known, ", ")), *item);
  }

  [[noreturn]] void refuse(const char* key, std::string_view expected, const json& found) const {
    std::string text = found.dump(-1, ' ', true, json::error_handler_t::replace);
    if (text.size() > 60) text = text.substr(0, 60) + " ...";
    fail(ErrorCode::kInvalidData, "{}: \"{}\": expected {}, found {}", where_, key, expected, text);
  }
  void finish() const {
    for (const auto& item : object_.items()) {
      if (std::find(known_.begin(), known_.end(), item.key()) == known_.end()) {
        fail(ErrorCode::kInvalidData, "{}: unknown key \"{}\"; known: {}", where_, item.key(), fmt::join(known_, ", "));
      }
    }
  }
  const std::string& where() const { return where_; }

 private:
  const json& object_;
  std::string where_;
  std::vector<std::string> known_;
};

enum class TensorKind { kWeights, kActivations };

void read_tensor_scheme(const json& object, const std::string& where, TensorKind kind, TensorScheme& scheme) {
  ObjectReader reader(object, where);
  reader.read_bit_width("bit_width", scheme.type.bit_width);
  reader.read("signed", scheme.type.is_signed);
  // A narrow range is a matter of signed types: an unsigned type drops an inherited one, and refuses one that is asked for.
  if (!scheme.type.is_signed && !reader.has("narrow_range")) scheme.type.narrow_range = false;
  reader.read("narrow_range", scheme.type.narrow_range);
  reader.read("symmetric", scheme.symmetric);
  if (kind == TensorKind::kWeights) {
    reader.read("per_channel", scheme.per_channel);
    reader.read_block_size("block_size", scheme.block_size);
    reader.read("codebook", scheme.codebook, kCodebooks);
  }
  reader.finish();
  if (scheme.type.narrow_range && !scheme.type.is_signed) {
    fail(ErrorCode::kInvalidData, "{}: \"narrow_range\" is for signed types only; leave it out or set \"signed\" to true", where);
  }
}

void read_limits(const json& object, const std::string& where, TargetLimits& limits) {
  ObjectReader reader(object, where);
  const auto tensors = [&](const char* key, TargetLimits::Tensors& t) {
    const json* item = reader.find(key);
    if (item == nullptr) return false;
    ObjectReader inner(*item, where + ": " + key);
    inner.read("types", t.types);
    inner.read("zero_points", t.zero_points);
    inner.read("per_channel", t.per_channel);
    inner.read("full_range", t.full_range);
    inner.read_bit_width("code_bits", t.code_bits);
    if (const json* sizes = inner.find("block_sizes")) {
      if (!sizes->is_array() || !std::all_of(sizes->begin(), sizes->end(), [](const json& n) { return n.is_number_integer(); }))
        inner.refuse("block_sizes", "an array of integers", *sizes);
      t.block_sizes = sizes->get<std::vector<std::int64_t>>();
    }
    inner.finish();
    return true;
  };
  tensors("weights", limits.weights);
  tensors("activations", limits.activations);
  TargetLimits::Tensors alone;
  limits.weight_only.reset();
  if (tensors("weight_only", alone)) limits.weight_only = alone;
  reader.read("dynamic", limits.dynamic);
  reader.read("power_of_two_scales", limits.power_of_two_scales);
  reader.finish();
}

NodeRule read_rule(const json& object, const std::string& where, const NodeScheme& defaults) {
  ObjectReader reader(object, where);
  NodeRule rule;
  reader.read("node", rule.node_regex);
  reader.read("op_type", rule.op_type);
  if (rule.node_regex.empty() && rule.op_type.empty()) {
    fail(ErrorCode::kInvalidData,
         "{}: a rule needs \"node\" (a regular expression for whole node names) or \"op_type\"; \"defaults\" are for all nodes", where);
  }
  if (reader.has("quantized")) {
    bool quantized = true;
    reader.read("quantized", quantized);
    rule.quantized = quantized;
  } else {
    reader.find("quantized");
  }
  if (reader.has("form")) {
    NodeForm form = NodeForm::kInteger;
    reader.read("form", form, kForms);
    rule.form = form;
  } else {
    reader.find("form");
  }
  if (const json* weights = reader.find("weights")) {
    rule.weights = defaults.weights;
    read_tensor_scheme(*weights, where + ": weights", TensorKind::kWeights, *rule.weights);
  }
  if (const json* activations = reader.find("activations")) {
    rule.activations = defaults.activations;
    read_tensor_scheme(*activations, where + ": activations", TensorKind::kActivations, *rule.activations);
  }
  reader.finish();
  if (!rule.quantized && !rule.form && !rule.weights && !rule.activations) {
    fail(ErrorCode::kInvalidData, "{}: a rule needs \"quantized\", \"form\", \"weights\" or \"activations\"", where);
  }
  return rule;
}

template <typename Enum, std::size_t n>
std::string name_of(Enum value, const std::array<std::pair<std::string_view, Enum>, n>& names) {
  for (const auto& [name, enumerator] : names) {
    if (enumerator == value) return std::string(name);
  }
  return "";
}

json tensor_to_json(const TensorScheme& scheme, TensorKind kind) {
  json result = {{"bit_width", scheme.type.bit_width},
                 {"signed", scheme.type.is_signed},
                 {"narrow_range", scheme.type.narrow_range},
                 {"symmetric", scheme.symmetric}};
  if (kind == TensorKind::kWeights) {
    result["per_channel"] = scheme.per_channel;
    if (scheme.block_size != 0) result["block_size"] = scheme.block_size;
    if (scheme.codebook != Codebook::kNone) result["codebook"] = name_of(scheme.codebook, kCodebooks);
  }
  return result;
}

}  // namespace

QuantScheme apply_scheme_json(QuantScheme scheme, std::string_view text, const std::string& origin, SchemeExtras* extras) {
  json root;
  try {
    root = json::parse(text, nullptr, true, true);
  } catch (const json::exception& e) {
    fail(ErrorCode::kInvalidData, "{}: not valid JSON: {}", origin, e.what());
  }
  ObjectReader reader(root, origin);
  if (extras != nullptr) {
    reader.read("name", extras->name);
    reader.read("summary", extras->summary);
    extras->takes.weight_only = TargetLimits::Tensors{};
    if (const json* takes = reader.find("takes")) read_limits(*takes, origin + ": takes", extras->takes);
  }
  reader.read("law", scheme.law, kLaws);
  reader.read("first_last", scheme.first_last, kFirstLast);
  reader.read("reduce_range", scheme.reduce_range);
  reader.read("op_types_to_quantize", scheme.op_types_to_quantize);
  reader.read("unsupported_ops", scheme.unsupported_ops);
  if (const json* defaults = reader.find("defaults")) {
    ObjectReader inner(*defaults, origin + ": defaults");
    if (const json* weights = inner.find("weights")) {
      read_tensor_scheme(*weights, origin + ": defaults: weights", TensorKind::kWeights, scheme.defaults.weights);
    }
    if (const json* activations = inner.find("activations")) {
      read_tensor_scheme(*activations, origin + ": defaults: activations", TensorKind::kActivations, scheme.defaults.activations);
    }
    inner.read("form", scheme.defaults.form, kForms);
    inner.read("quantized", scheme.defaults.quantized);
    if (!scheme.defaults.quantized) scheme.defaults.reason = "not quantized by default (" + origin + ")";
    inner.finish();
  }
  if (const json* rules = reader.find("rules")) {
    if (!rules->is_array()) reader.refuse("rules", "an array", *rules);
    std::size_t number = 0;
    for (const json& rule : *rules) {
      scheme.rules.push_back(read_rule(rule, fmt::format("{}: rule {}", origin, ++number), scheme.defaults));
      try {
        QuantScheme one;
        one.rules = {scheme.rules.back()};
        const SchemeRules check(one);  // a wrong regular expression is refused here, where the file and the rule are known
      } catch (const Error& e) {
        fail(ErrorCode::kInvalidData, "{}: rule {}: {}", origin, number, e.what());
      }
    }
  }
  reader.finish();
  return scheme;
}

QuantScheme apply_scheme_recipe(QuantScheme scheme, const std::string& json_text, const std::string& origin) {
  return apply_scheme_json(std::move(scheme), json_text, origin, nullptr);
}

bool needs_ranges(const QuantScheme& scheme) {
  return scheme.defaults.form == NodeForm::kInteger ||
         std::any_of(scheme.rules.begin(), scheme.rules.end(), [](const NodeRule& r) { return r.form == NodeForm::kInteger; });
}

std::string to_json(const QuantScheme& scheme) {
  json rules = json::array();
  for (const NodeRule& rule : scheme.rules) {
    json item = json::object();
    if (!rule.node_regex.empty()) item["node"] = rule.node_regex;
    if (!rule.op_type.empty()) item["op_type"] = rule.op_type;
    if (rule.quantized) item["quantized"] = *rule.quantized;
    if (rule.form) item["form"] = name_of(*rule.form, kForms);
    if (rule.weights) item["weights"] = tensor_to_json(*rule.weights, TensorKind::kWeights);
    if (rule.activations) item["activations"] = tensor_to_json(*rule.activations, TensorKind::kActivations);
    rules.push_back(std::move(item));
  }
  json root = {{"law", name_of(scheme.law, kLaws)},
                  {"first_last", name_of(scheme.first_last, kFirstLast)},
                  {"reduce_range", scheme.reduce_range},
                  {"op_types_to_quantize", scheme.op_types_to_quantize},
                  {"unsupported_ops", scheme.unsupported_ops},
                  {"defaults",
                   {{"quantized", scheme.defaults.quantized},
                    {"weights", tensor_to_json(scheme.defaults.weights, TensorKind::kWeights)},
                    {"activations", tensor_to_json(scheme.defaults.activations, TensorKind::kActivations)}}},
                  {"rules", std::move(rules)}};
  if (scheme.defaults.form != NodeForm::kInteger) root["defaults"]["form"] = name_of(scheme.defaults.form, kForms);
  return root.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace nibble
