// Results as JSON: keys in a fixed order, numbers as they are, unknown ones null.
#include <cmath>
#include <nlohmann/json.hpp>

#include "nibble/report.h"

namespace nibble {
namespace {

using Json = nlohmann::ordered_json;

// Text from files may be no UTF-8; JSON must be.
std::string dump(const Json& json) { return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"; }

Json optional(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

Json spec_json(const InputSpec& spec) {
  Json dims = Json::array();
  for (const Dim& dim : spec.type.dims) {
    if (dim.known())
      dims.push_back(dim.size);
    else
      dims.push_back(dim.symbol.empty() ? "?" : dim.symbol);
  }
  return {{"name", spec.name}, {"type", std::string(to_string(spec.type.dtype))}, {"shape", dims}};
}

Json specs_json(const std::vector<InputSpec>& specs) {
  Json list = Json::array();
  for (const InputSpec& spec : specs) list.push_back(spec_json(spec));
  return list;
}

Json proof_json(const std::optional<AccumulatorProof>& proof) {
  if (!proof) return nullptr;
  return {{"lo", proof->lo}, {"hi", proof->hi}, {"bits_needed", proof->bits_needed}, {"worst_case_bits", proof->worst_case_bits}};
}

Json layer_compare_json(const std::vector<LayerCompare>& layers) {
  Json list = Json::array();
  for (const LayerCompare& layer : layers)
    list.push_back({{"name", layer.name},
                    {"op_type", layer.op_type},
                    {"sqnr_db", layer.sqnr_db},
                    {"float_rms", layer.float_rms},
                    {"error_rms", layer.error_rms}});
  return list;
}

Json params_json(const QuantParams& params) {
  Json granularity = "per_tensor";
  if (const auto* channel = std::get_if<PerChannel>(&params.granularity)) granularity = {{"per_channel", channel->axis}};
  if (const auto* block = std::get_if<PerBlock>(&params.granularity)) granularity = {{"per_block", {block->axis, block->block_size}}};
  return {{"bit_width", params.type.bit_width}, {"signed", params.type.is_signed}, {"narrow_range", params.type.narrow_range},
          {"granularity", granularity},         {"scale", params.scale},           {"zero_point", params.zero_point}};
}

Json ladder_json(const std::vector<MethodScore>& ladder) {
  Json list = Json::array();
  for (const MethodScore& row : ladder)
    list.push_back({{"method", row.method}, {"score", std::isfinite(row.score) ? Json(row.score) : Json(nullptr)}});
  return list;
}

Json passes_json(const std::vector<PassReport>& passes) {
  const auto items = [](const std::vector<PassReport::Item>& list) {
    Json out = Json::array();
    for (const auto& item : list) out.push_back({{"node", item.node}, {"what", item.what}});
    return out;
  };
  Json list = Json::array();
  for (const PassReport& pass : passes)
    list.push_back({{"pass", pass.pass}, {"applied", items(pass.applied)}, {"declined", items(pass.declined)}});
  return list;
}

}  // namespace

std::string to_json(const InspectResult& result) {
  Json layers = Json::array();
  for (const LayerSummary& layer : result.layers) {
    Json row = {{"name", layer.name},
                {"op_type", layer.op_type},
                {"output", layer.output_type},
                {"macs", layer.macs},
                {"parameters", layer.parameters}};
    if (result.quantized) {
      row["integer"] = layer.integer;
      row["reason"] = layer.reason;
      row["accumulator"] = proof_json(layer.proof);
    }
    layers.push_back(std::move(row));
  }
  Json json = {{"inputs", specs_json(result.inputs)},
               {"outputs", specs_json(result.outputs)},
               {"nodes", result.nodes},
               {"parameters", result.parameters},
               {"macs", result.macs},
               {"file_bytes", result.file_bytes},
               {"weight_bytes", result.weight_bytes},
               {"bits_per_weight", optional(result.bits_per_weight)},
               {"opset", result.opset},
               {"ir_version", result.ir_version},
               {"quantized", result.quantized},
               {"metadata", result.metadata},
               {"notes", result.notes},
               {"layers", layers}};
  if (!result.target.empty()) {
    Json findings = Json::array();
    for (const TargetFinding& f : result.target_findings) findings.push_back({{"node", f.node}, {"op_type", f.op_type}, {"reason", f.reason}});
    json["target"] = result.target;
    json["target_findings"] = std::move(findings);
  }
  return dump(json);
}

std::string to_json(const EvaluateResult& result) {
  return dump({{"samples", result.samples},
               {"top1", optional(result.top1)},
               {"top5", optional(result.top5)},
               {"agreement", optional(result.agreement)},
               {"reference_top1", optional(result.reference_top1)},
               {"kl", optional(result.kl)},
               {"sqnr_db", optional(result.sqnr_db)},
               {"notes", result.notes}});
}

std::string to_json(const CompareResult& result) {
  return dump({{"samples", result.samples},
               {"agreement", optional(result.agreement)},
               {"layers", layer_compare_json(result.layers)},
               {"outputs", layer_compare_json(result.outputs)}});
}

namespace {

std::string_view kind_name(StepKind kind) {
  switch (kind) {
    case StepKind::kInteger: return "integer";
    case StepKind::kFloatIsland: return "float island";
    case StepKind::kConversion: return "conversion";
    case StepKind::kFloat: return "float";
    case StepKind::kConstant: return "constant";
  }
  return "";
}

}  // namespace

std::string to_json(const BenchmarkResult& result) {
  Json json = {{"median_ms", result.median_ms},
               {"p10_ms", result.p10_ms},
               {"p90_ms", result.p90_ms},
               {"threads", result.threads},
               {"batch", result.batch},
               {"runs", result.runs},
               {"isa", result.isa},
               {"arena_bytes", result.arena_bytes},
               {"weight_bytes", result.weight_bytes}};
  if (result.start_ms > 0) json["start_ms"] = result.start_ms;
  if (!result.steps.empty()) {
    json["peak_gops"] = result.peaks;
    json["float_ms"] = result.beside ? Json(result.beside->median_ms) : Json(nullptr);
    json["speedup"] = result.beside ? Json(result.beside->speedup) : Json(nullptr);
    Json steps = Json::array();
    for (const BenchmarkStep& step : result.steps)
      steps.push_back({{"node", step.node},
                       {"op_type", step.op_type},
                       {"kernel", step.kernel},
                       {"kind", kind_name(step.kind)},
                       {"us", step.microseconds},
                       {"macs", step.macs},
                       {"gops", step.gops},
                       {"peak_percent", step.peak_percent},
                       {"float_us", step.float_us ? Json(*step.float_us) : Json(nullptr)},
                       {"note", step.note}});
    json["steps"] = std::move(steps);
  }
  return dump(json);
}

std::string to_json(const QuantizeReport& report, const QuantizedGraph& model, const RangeTable& ranges) {
  Json layers = Json::array();
  for (const LayerInfo& layer : model.layers)
    layers.push_back({{"name", layer.name},
                      {"op_type", layer.op_type},
                      {"integer", layer.integer},
                      {"reason", layer.reason},
                      {"notes", layer.notes},
                      {"accumulator", proof_json(layer.proof)}});
  Json table = Json::object();
  for (const auto& [name, entry] : ranges.entries) {
    if (entry.pinned)
      table[name] = {{"pinned", params_json(*entry.pinned)}};
    else if (entry.range)
      table[name] = {{"lo", entry.range->lo}, {"hi", entry.range->hi}};
    else
      table[name] = nullptr;
  }
  Json params = Json::object();
  for (ValueId v = 0; v < static_cast<ValueId>(model.graph.values().size()); ++v) {
    if (const QuantParams* p = model.params_of(v)) params[model.graph.value(v).name] = params_json(*p);
  }
  Json warnings = model.warnings;
  for (const std::string& warning : ranges.warnings) warnings.push_back(warning);
  Json json = {{"input", report.input},
               {"output", report.output},
               {"float_bytes", report.float_bytes},
               {"quantized_bytes", report.quantized_bytes},
               {"method", report.method},
               {"ladder", ladder_json(report.ladder)},
               {"law", to_string(model.law)},
               {"scheme", Json::parse(to_json(report.scheme), nullptr, false)},
               {"format", report.format},
               {"data", report.data},
               {"data_hash", report.data_hash},
               {"samples", report.samples},
               {"metadata", report.metadata},
               {"warnings", warnings},
               {"layers", layers},
               {"ranges", table},
               {"params", params},
               {"passes", passes_json(report.passes)}};
  return dump(json);
}

}  // namespace nibble
