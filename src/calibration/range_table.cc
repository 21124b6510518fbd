// RangeTable as JSON (docs/calibration.md describes the form), and its merge.
#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "calibration/answers.h"
#include "calibration/range_warnings.h"
#include "nibble/calibrate.h"

namespace nibble {

namespace {

using nlohmann::json;

constexpr int kVersion = 1;

json type_to_json(const QuantType& type) {
  return {{"bit_width", type.bit_width}, {"signed", type.is_signed}, {"narrow_range", type.narrow_range}};
}

json pinned_to_json(const QuantParams& params) {
  json result = type_to_json(params.type);
  if (const auto* channel = std::get_if<PerChannel>(&params.granularity)) {
    result["axis"] = channel->axis;
  } else if (const auto* block = std::get_if<PerBlock>(&params.granularity)) {
    result["axis"] = block->axis;
    result["block_size"] = block->block_size;
  }
  // As doubles: their shortest decimal form gives the float back to the bit.
  json scales = json::array();
  for (const float scale : params.scale) scales.push_back(static_cast<double>(scale));
  result["scale"] = std::move(scales);
  result["zero_point"] = params.zero_point;
  return result;
}

// Walks a parsed file and says where something is wrong.
class Reader {
 public:
  explicit Reader(const std::string& origin) : origin_(origin) {}

  [[noreturn]] void refuse(const std::string& where, const std::string& why) const {
    fail(ErrorCode::kInvalidData, "{}: {}: {}; make the file again with nibble calibrate", origin_, where, why);
  }

  void expect_keys(const json& object, const std::string& where, const std::set<std::string>& required,
                   const std::set<std::string>& optional) const {
    if (!object.is_object()) refuse(where, std::string("expected an object, found ") + object.type_name());
    for (const std::string& key : required) {
      if (!object.contains(key)) refuse(where, "the key \"" + key + "\" is missing");
    }
    for (const auto& item : object.items()) {
      if (required.count(item.key()) == 0 && optional.count(item.key()) == 0) refuse(where, "unknown key \"" + item.key() + "\"");
    }
  }

  std::int64_t integer(const json& value, const std::string& where, std::int64_t least, std::int64_t most) const {
    const bool fits = value.is_number_integer() && !(value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{1} << 62);
    if (!fits || value.get<std::int64_t>() < least || value.get<std::int64_t>() > most) {
      refuse(where, fmt::format("expected an integer from {} to {}, found {}", least, most, excerpt(value)));
    }
    return value.get<std::int64_t>();
  }

  double number(const json& value, const std::string& where) const {
    constexpr double kLargest = static_cast<double>(std::numeric_limits<float>::max());
    if (!value.is_number() || !std::isfinite(value.get<double>()) || std::abs(value.get<double>()) > kLargest) {
      refuse(where, "expected a finite float32 number, found " + excerpt(value));
    }
    return value.get<double>();
  }

  bool boolean(const json& value, const std::string& where) const {
    if (!value.is_boolean()) refuse(where, "expected true or false, found " + excerpt(value));
    return value.get<bool>();
  }

  std::string text(const json& value, const std::string& where) const {
    if (!value.is_string()) refuse(where, "expected a string, found " + excerpt(value));
    return value.get<std::string>();
  }

  const json& array(const json& value, const std::string& where) const {
    if (!value.is_array()) refuse(where, std::string("expected an array, found ") + value.type_name());
    return value;
  }

  QuantType type(const json& object, const std::string& where) const {
    QuantType result;
    result.bit_width = static_cast<int>(integer(object.at("bit_width"), where + ".bit_width", 1, 16));
    result.is_signed = boolean(object.at("signed"), where + ".signed");
    result.narrow_range = boolean(object.at("narrow_range"), where + ".narrow_range");
    if (result.narrow_range && !result.is_signed) refuse(where, "narrow_range is for signed types only");
    return result;
  }

 private:
  static std::string excerpt(const json& value) {
    if (value.is_structured()) return value.type_name();
    const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
    return text.size() <= 40 ? text : text.substr(0, 40) + " ...";
  }

  const std::string& origin_;
};

QuantParams pinned_from_json(const json& object, const Reader& reader, const std::string& where) {
  reader.expect_keys(object, where, {"bit_width", "signed", "narrow_range", "scale", "zero_point"}, {"axis", "block_size"});
  QuantParams params;
  params.type = reader.type(object, where);
  if (object.contains("block_size")) {
    if (!object.contains("axis")) reader.refuse(where, "block_size needs an axis");
    params.granularity = PerBlock{.axis = reader.integer(object.at("axis"), where + ".axis", 0, 64),
                                  .block_size = reader.integer(object.at("block_size"), where + ".block_size", 1, std::int64_t{1} << 40)};
  } else if (object.contains("axis")) {
    params.granularity = PerChannel{.axis = reader.integer(object.at("axis"), where + ".axis", 0, 64)};
  }
  params.scale.clear();
  params.zero_point.clear();
  for (const json& item : reader.array(object.at("scale"), where + ".scale")) {
    const auto scale = static_cast<float>(reader.number(item, where + ".scale"));
    if (!(scale > 0)) reader.refuse(where + ".scale", "a scale must be above 0");
    params.scale.push_back(scale);
  }
  for (const json& item : reader.array(object.at("zero_point"), where + ".zero_point")) {
    params.zero_point.push_back(static_cast<std::int32_t>(reader.integer(item, where + ".zero_point", params.qmin(), params.qmax())));
  }
  if (params.scale.empty() || params.scale.size() != params.zero_point.size()) {
    reader.refuse(where, "scale and zero_point must have the same number of elements, at least one");
  }
  if (params.per_tensor() && params.scale.size() != 1) reader.refuse(where, "more than one scale, but no axis");
  return params;
}

RangeEntry entry_from_json(const json& object, const Reader& reader, const std::string& where) {
  reader.expect_keys(object, where, {"samples"}, {"range", "pinned", "bases", "states"});
  RangeEntry entry;
  entry.samples = reader.integer(object.at("samples"), where + ".samples", 0, std::int64_t{1} << 61);
  if (object.contains("range")) {
    const json& range = reader.array(object.at("range"), where + ".range");
    if (range.size() != 2) reader.refuse(where + ".range", "expected [lo, hi]");
    entry.range = Range{reader.number(range[0], where + ".range"), reader.number(range[1], where + ".range")};
    if (entry.range->lo > entry.range->hi) reader.refuse(where + ".range", "lo is above hi");
  }
  if (object.contains("pinned")) entry.pinned = pinned_from_json(object.at("pinned"), reader, where + ".pinned");
  if (object.contains("bases")) {
    for (const json& base : reader.array(object.at("bases"), where + ".bases")) entry.bases.push_back(pinned_from_json(base, reader, where + ".bases"));
  }
  if (object.contains("states")) {
    if (!object.at("states").is_object()) reader.refuse(where + ".states", "expected an object");
    for (const auto& [method, state] : object.at("states").items()) entry.states[method] = state.dump();
  }
  return entry;
}

}  // namespace

std::string to_json(const RangeTable& table) {
  json values = json::object();
  for (const auto& [name, entry] : table.entries) {
    json item = {{"samples", entry.samples}};
    if (entry.range) item["range"] = {entry.range->lo, entry.range->hi};
    if (entry.pinned) item["pinned"] = pinned_to_json(*entry.pinned);
    for (const QuantParams& base : entry.bases) item["bases"].push_back(pinned_to_json(base));
    for (const auto& [method, state] : entry.states) item["states"][method] = json::parse(state);
    values[name] = std::move(item);
  }
  json target = type_to_json(table.target.type);
  target["symmetric"] = table.target.symmetric;
  const json root = {{"nibble_ranges", kVersion},    {"method", table.method},   {"target", std::move(target)},
                     {"data_hash", table.data_hash}, {"samples", table.samples}, {"warnings", table.warnings},
                     {"values", std::move(values)}};
  // One line a value: readable, and small where states are large.
  std::string text = "{";
  const char* separator = "\n";
  for (const auto& [key, value] : root.items()) {
    if (key == "values") continue;
    text += separator + json(key).dump() + ": " + value.dump(-1, ' ', false, json::error_handler_t::replace);
    separator = ",\n";
  }
  text += ",\n\"values\": {";
  separator = "\n";
  for (const auto& [name, value] : root.at("values").items()) {
    text += separator + (" " + json(name).dump(-1, ' ', false, json::error_handler_t::replace)) + ": " + value.dump();
    separator = ",\n";
  }
  return text + "\n}}\n";
}

RangeTable range_table_from_json(const std::string& text, const std::string& origin) {
  const Reader reader(origin);
  json root;
  try {
    root = json::parse(text);
  } catch (const json::exception& e) {
    fail(ErrorCode::kInvalidData, "{}: not a range file: the JSON is damaged ({})", origin, e.what());
  }
  if (!root.is_object() || !root.contains("nibble_ranges")) {
    fail(ErrorCode::kInvalidData, "{}: not a range file: \"nibble_ranges\" is missing; expected what nibble calibrate writes", origin);
  }
  if (root.at("nibble_ranges") != kVersion) {
    fail(ErrorCode::kUnsupported, "{}: range file of version {}; this nibble reads version {}", origin,
         root.at("nibble_ranges").is_number() ? root.at("nibble_ranges").dump() : "?", kVersion);
  }
  reader.expect_keys(root, "top level", {"nibble_ranges", "method", "target", "data_hash", "samples", "warnings", "values"}, {});
  RangeTable table;
  table.method = reader.text(root.at("method"), "method");
  const json& target = root.at("target");
  reader.expect_keys(target, "target", {"bit_width", "signed", "narrow_range", "symmetric"}, {});
  table.target = {.type = reader.type(target, "target"), .symmetric = reader.boolean(target.at("symmetric"), "target.symmetric")};
  table.data_hash = reader.text(root.at("data_hash"), "data_hash");
  table.samples = reader.integer(root.at("samples"), "samples", 0, std::int64_t{1} << 61);
  for (const json& warning : reader.array(root.at("warnings"), "warnings")) table.warnings.push_back(reader.text(warning, "warnings"));
  if (!root.at("values").is_object()) reader.refuse("values", "expected an object");
  for (const auto& [name, value] : root.at("values").items())
    table.entries[name] = entry_from_json(value, reader, "value \"" + name + "\"");
  return table;
}

void save_ranges(const RangeTable& table, const std::string& path) { write_file(path, to_json(table)); }

RangeTable load_ranges(const std::string& path) { return range_table_from_json(read_file(path, "the range file"), path); }

void add_range_warnings(RangeTable& table) {
  table.warnings.clear();
  for (const auto& [name, entry] : table.entries) {
    if (entry.pinned || !entry.bases.empty()) continue;
    if (entry.samples == 0) {
      table.warnings.push_back(fmt::format("value {} was never reached by any sample; it gets a safe scale", name));
    } else if (entry.range && entry.range->lo == entry.range->hi) {
      table.warnings.push_back(
          fmt::format("value {} has the range of a single point, {}: its data is constant or all else is clipped", name, entry.range->lo));
    }
  }
}

RangeTable merge_ranges(std::span<const RangeTable> shards) {
  if (shards.empty()) fail(ErrorCode::kInvalidArgument, "merge of ranges: no shard is given");
  RangeTable merged;
  merged.method = shards.front().method;
  merged.target = shards.front().target;
  // Value name -> the shards' entries, in order.
  std::map<std::string, std::vector<const RangeEntry*>> all;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const RangeTable& shard = shards[i];
    if (shard.method != merged.method) {
      fail(ErrorCode::kInvalidData, "merge of ranges: shard {} was made with method {}, shard 1 with {}; calibrate all shards alike", i + 1,
           shard.method, merged.method);
    }
    if (!(shard.target == merged.target)) {
      fail(ErrorCode::kInvalidData, "merge of ranges: shard {} was made for another grid than shard 1; calibrate all shards alike", i + 1);
    }
    merged.data_hash += (i > 0 ? "+" : "") + shard.data_hash;
    merged.samples += shard.samples;
    for (const auto& [name, entry] : shard.entries) all[name].push_back(&entry);
  }
  for (const auto& [name, entries] : all) {
    RangeEntry result;
    // An answer's state is under another method's name; every shard's entry must then be one.
    const auto saved_as = [&](const RangeEntry* entry, const std::string& method) { return entry->states.count(method) > 0; };
    const bool is_answer = std::none_of(entries.begin(), entries.end(), [&](const RangeEntry* e) { return saved_as(e, merged.method); }) &&
                           std::any_of(entries.begin(), entries.end(), [&](const RangeEntry* e) { return saved_as(e, kAnswerMethod); });
    const std::string method = is_answer ? kAnswerMethod : merged.method;
    std::unique_ptr<Observer> sum = make_observer(method);
    bool observed = false;
    for (const RangeEntry* entry : entries) {
      result.samples += entry->samples;
      if (entry->pinned) {
        if (result.pinned && !(*result.pinned == *entry->pinned)) {
          fail(ErrorCode::kInvalidData, "merge of ranges: value {} has different pinned parameters in two shards", name);
        }
        result.pinned = entry->pinned;
      }
      if (!entry->bases.empty()) {
        if (!result.bases.empty() && result.bases != entry->bases)
          fail(ErrorCode::kInvalidData, "merge of ranges: value {} has different bases in two shards", name);
        result.bases = entry->bases;
      }
      if (!entry->range) continue;
      const auto state = entry->states.find(method);
      if (state == entry->states.end()) {
        fail(ErrorCode::kInvalidData, "merge of ranges: value {} has no saved state of method {}; write the shards with nibble calibrate",
             name, merged.method);
      }
      const std::unique_ptr<Observer> part = make_observer(method);
      part->load(state->second);
      sum->merge(*part);
      observed = true;
    }
    if (observed) {
      result.range = sum->range(merged.target);
      result.states[method] = sum->save();
    }
    merged.entries[name] = std::move(result);
  }
  add_range_warnings(merged);
  return merged;
}

}  // namespace nibble
