// Results as lines for a person.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "nibble/report.h"
#include "report/scores.h"

namespace nibble {
namespace {

// Rows of cells, columns padded to their widest; the first column to the left, numbers to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> head, std::size_t left_columns = 2) : left_(left_columns) { rows_.push_back(std::move(head)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string text() const {
    std::vector<std::size_t> width(rows_[0].size(), 0);
    for (const auto& row : rows_) {
      for (std::size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], row[c].size());
    }
    std::string out;
    for (const auto& row : rows_) {
      std::string line = " ";
      for (std::size_t c = 0; c < row.size(); ++c)
        line += c < left_ ? fmt::format(" {:<{}}", row[c], width[c]) : fmt::format("  {:>{}}", row[c], width[c]);
      while (!line.empty() && line.back() == ' ') line.pop_back();
      out += line + "\n";
    }
    return out;
  }

 private:
  std::size_t left_;
  std::vector<std::vector<std::string>> rows_;
};

// 3504872 -> "3.50 M"
std::string count(std::int64_t n) {
  const auto x = static_cast<double>(n);
  if (n >= 1'000'000'000) return fmt::format("{:.2f} G", x / 1e9);
  if (n >= 1'000'000) return fmt::format("{:.2f} M", x / 1e6);
  if (n >= 10'000) return fmt::format("{:.1f} k", x / 1e3);
  return fmt::format("{}", n);
}
std::string bytes(std::int64_t n) { return n >= 10'000 ? count(n) + "B" : fmt::format("{} B", n); }

std::string shortened(const std::string& text, std::size_t limit = 44) {
  return text.size() <= limit ? text : "..." + text.substr(text.size() - limit + 3);
}

std::string notes(const std::vector<std::string>& list) {
  std::string out;
  for (const std::string& note : list) out += "note: " + note + "\n";
  return out;
}

// Float nodes, those with the same op and reason in one line.
class Islands {
 public:
  void add(const std::string& node, const std::string& op, const std::string& reason) {
    auto [it, fresh] = index_.emplace(op + ": " + reason, groups_.size());
    if (fresh) groups_.push_back({it->first, {}});
    groups_[it->second].nodes.push_back(node);
  }
  std::string text() const {
    constexpr std::size_t kNamed = 3;
    std::string out;
    for (const Group& group : groups_) {
      std::string names;
      for (std::size_t i = 0; i < std::min(group.nodes.size(), kNamed); ++i) names += (i > 0 ? ", " : "") + group.nodes[i];
      if (group.nodes.size() > kNamed) names += ", ...";
      out += fmt::format("  float: {} x {} ({})\n", group.nodes.size(), group.what, names);
    }
    return out;
  }

 private:
  struct Group {
    std::string what;
    std::vector<std::string> nodes;
  };
  std::map<std::string, std::size_t> index_;
  std::vector<Group> groups_;
};

std::string decibels(double db) { return db >= kLargestSqnr ? "exact" : fmt::format("{:.1f} dB", db); }

// A quarter of the float file is what 8-bit weights promise; where it is clearly more, somebody wants to know why.
std::string size_text(const QuantizeReport& report, const QuantizedGraph& model) {
  const double ratio = report.float_bytes > 0 ? static_cast<double>(report.quantized_bytes) / static_cast<double>(report.float_bytes) : 0;
  std::string out = fmt::format("size: {} -> {} ({:.1f} %)\n", bytes(report.float_bytes), bytes(report.quantized_bytes), 100 * ratio);
  constexpr double kAboutAQuarter = 0.32;
  if (ratio <= kAboutAQuarter) return out;
  std::int64_t kept_float = 0;
  std::int64_t integers = 0;
  for (ValueId v = 0; v < static_cast<ValueId>(model.graph.values().size()); ++v) {
    const Value& value = model.graph.value(v);
    if (!value.constant) continue;
    if (model.params_of(v) != nullptr)
      integers += static_cast<std::int64_t>(value.constant->size_bytes());
    else
      kept_float += static_cast<std::int64_t>(value.constant->size_bytes());
  }
  const std::int64_t rest = std::max<std::int64_t>(report.quantized_bytes - kept_float - integers, 0);
  return out + fmt::format(
                   "  more than a quarter, because of its {} only {} are 8-bit weights and their biases: {} are constants of nodes that "
                   "stay float, {} are "
                   "scales, names and structure\n",
                   bytes(report.quantized_bytes), bytes(integers), bytes(kept_float), bytes(rest));
}

}  // namespace

std::string to_text(const InspectResult& result) {
  std::string out;
  for (const InputSpec& spec : result.inputs) out += fmt::format("input   {} {}\n", spec.name, to_string(spec.type));
  for (const InputSpec& spec : result.outputs) out += fmt::format("output  {} {}\n", spec.name, to_string(spec.type));
  out += fmt::format("{} nodes, {} parameters ({}), {} MACs, file {}, opset {}, IR {}{}\n", result.nodes, count(result.parameters),
                     bytes(result.weight_bytes), count(result.macs), bytes(result.file_bytes), result.opset, result.ir_version,
                     result.quantized ? ", quantized" : "");
  if (result.bits_per_weight)
    out += fmt::format("{} weights in {:.2f} bits each, with their scales, zero points and tables\n", count(result.weights), *result.bits_per_weight);
  for (const auto& [key, value] : result.metadata) out += fmt::format("{} = {}\n", key, value);
  out += "\n";
  std::vector<std::string> head = {"node", "op", "output", "MACs", "parameters"};
  if (result.quantized) head.insert(head.end(), {"acc bits", "acc range"});
  Table table(std::move(head), 3);
  for (const LayerSummary& layer : result.layers) {
    std::vector<std::string> row = {shortened(layer.name), layer.op_type, layer.output_type, layer.macs > 0 ? count(layer.macs) : "",
                                    layer.parameters > 0 ? count(layer.parameters) : ""};
    if (result.quantized) {
      row.push_back(layer.proof     ? fmt::format("{} of {}", layer.proof->bits_needed, layer.proof->worst_case_bits)
                    : layer.integer ? ""
                                    : "float");
      row.push_back(layer.proof ? fmt::format("{}..{}", layer.proof->lo, layer.proof->hi) : "");
    }
    table.add(std::move(row));
  }
  out += table.text();
  Islands floats;
  for (const LayerSummary& layer : result.layers) {
    if (result.quantized && !layer.integer && !layer.reason.empty()) floats.add(layer.name, layer.op_type, layer.reason);
  }
  if (const std::string text = floats.text(); !text.empty()) out += "\n" + text;
  if (!result.target.empty()) {
    out += result.target_findings.empty() ? fmt::format("\ntarget {} takes everything\n", result.target)
                                          : fmt::format("\ntarget {} will not take:\n", result.target);
    for (const TargetFinding& f : result.target_findings) out += fmt::format("  {} ({}): {}\n", f.node, f.op_type, f.reason);
  }
  return out + notes(result.notes);
}

std::string to_text(const EvaluateResult& result) {
  std::string out = fmt::format("samples        {}\n", result.samples);
  if (result.top1) out += fmt::format("top-1          {:.2f} %\n", *result.top1);
  if (result.top5) out += fmt::format("top-5          {:.2f} %\n", *result.top5);
  if (result.reference_top1) out += fmt::format("reference      {:.2f} % top-1\n", *result.reference_top1);
  if (result.agreement) out += fmt::format("agreement      {:.2f} %\n", *result.agreement);
  if (result.kl) out += fmt::format("KL divergence  {:.5f} nats\n", *result.kl);
  if (result.sqnr_db) out += fmt::format("SQNR           {}\n", decibels(*result.sqnr_db));
  return out + notes(result.notes);
}

std::string to_text(const CompareResult& result) {
  std::string out = fmt::format("{} samples\n", result.samples);
  if (result.agreement) out += fmt::format("agreement of the first output's class: {:.2f} %\n", *result.agreement);
  for (const LayerCompare& output : result.outputs) out += fmt::format("output {}: {}\n", output.name, decibels(output.sqnr_db));
  out += "\nvalues, the most damaged first\n";
  std::vector<LayerCompare> layers = result.layers;
  std::stable_sort(layers.begin(), layers.end(), [](const LayerCompare& a, const LayerCompare& b) { return a.sqnr_db < b.sqnr_db; });
  Table table({"value", "made by", "SQNR", "signal rms", "error rms"});
  for (const LayerCompare& layer : layers)
    table.add({shortened(layer.name), layer.op_type, decibels(layer.sqnr_db), fmt::format("{:.4g}", layer.float_rms),
               fmt::format("{:.4g}", layer.error_rms)});
  return out + table.text();
}

namespace {

std::string steps_text(const BenchmarkResult& result) {
  double total = 0, islands = 0, conversions = 0;
  bool integer = false;
  for (const BenchmarkStep& step : result.steps) {
    total += step.microseconds;
    if (step.kind == StepKind::kFloatIsland) islands += step.microseconds;
    if (step.kind == StepKind::kConversion) conversions += step.microseconds;
    integer = integer || step.kind == StepKind::kInteger;
  }
  const auto percent = [&](double us) { return total > 0 ? 100 * us / total : 0; };
  std::vector<std::string> head = {"node", "op", "kernel", "us", "%", "GOP/s"};
  if (integer) head.insert(head.end(), {"% of peak", "float us"});
  Table table(head, 3);
  for (const BenchmarkStep& step : result.steps) {
    if (step.kind == StepKind::kConstant) continue;
    std::vector<std::string> row = {shortened(step.node),
                                    step.op_type,
                                    step.kernel,
                                    fmt::format("{:.1f}", step.microseconds),
                                    fmt::format("{:.1f}", percent(step.microseconds)),
                                    step.gops > 0 ? fmt::format("{:.1f}", step.gops) : ""};
    if (integer) {
      row.push_back(step.peak_percent > 0 ? fmt::format("{:.1f}", step.peak_percent) : "");
      row.push_back(step.float_us ? fmt::format("{:.1f}", *step.float_us) : "");
    }
    table.add(row);
  }
  std::string out = "\n" + table.text() + fmt::format("sum of the steps: {:.3f} ms", total / 1000);
  if (!integer && islands + conversions == 0) return out + "\n";
  out += fmt::format("; float islands {:.1f} %, conversions {:.1f} %\n", percent(islands), percent(conversions));
  for (const auto& [isa, peak] : result.peaks) {
    const auto used = [&](const BenchmarkStep& step) { return step.kernel.find("_" + isa) != std::string::npos && step.macs > 0; };
    if (std::any_of(result.steps.begin(), result.steps.end(), used))
      out += fmt::format("peak of the {} 8-bit dot product, {} thread{}: {:.0f} GOP/s\n", isa, result.threads,
                         result.threads == 1 ? "" : "s", peak);
  }
  if (!result.beside) return out + "float: this model has no float form to compare with\n";
  out += fmt::format("the same network in float: {:.3f} ms, {:.2f} times as long\n", result.beside->median_ms, result.beside->speedup);
  std::vector<const BenchmarkStep*> slower;
  for (const BenchmarkStep& step : result.steps)
    if (!step.note.empty()) slower.push_back(&step);
  if (slower.empty()) return out;
  std::stable_sort(slower.begin(), slower.end(), [](const BenchmarkStep* a, const BenchmarkStep* b) {
    return a->microseconds - *a->float_us > b->microseconds - *b->float_us;
  });
  constexpr std::size_t kShown = 10;
  out += fmt::format("slower than in float: {} of {} steps\n", slower.size(), result.steps.size());
  for (std::size_t i = 0; i < std::min(slower.size(), kShown); ++i)
    out += fmt::format("  '{}' ({}, {}): {:.1f} us, float {:.1f} us: {}\n", slower[i]->node, slower[i]->op_type, slower[i]->kernel,
                       slower[i]->microseconds, *slower[i]->float_us, slower[i]->note);
  if (slower.size() > kShown) out += fmt::format("  and {} more (--json has them all)\n", slower.size() - kShown);
  return out;
}

}  // namespace

std::string to_text(const BenchmarkResult& result) {
  std::string out =
      fmt::format("median {:.3f} ms   p10 {:.3f} ms   p90 {:.3f} ms   ({} runs, {} thread{}, batch {}, {})\n", result.median_ms,
                  result.p10_ms, result.p90_ms, result.runs, result.threads, result.threads == 1 ? "" : "s", result.batch, result.isa);
  if (result.start_ms > 0) out += fmt::format("start  {:.1f} ms   (from the file to the first run)\n", result.start_ms);
  if (result.weight_bytes > 0)
    out += fmt::format("memory {} of activations, {} of weights\n", bytes(result.arena_bytes), bytes(result.weight_bytes));
  return result.steps.empty() ? out : out + steps_text(result);
}

std::string to_text(const QuantizeReport& report, const QuantizedGraph& model) {
  std::string out;
  if (report.ladder.size() > 1) {
    Table table({"method", "score"}, 1);
    for (const MethodScore& row : report.ladder)
      table.add({row.method + (row.method == report.method ? " *" : ""), fmt::format("{:.6f}", row.score)});
    out += "calibration methods, tried on calibration data (KL of the outputs, lower is better; * taken):\n" + table.text();
  }
  std::int64_t integer = 0;
  std::int64_t islands = 0;
  const AccumulatorProof* widest = nullptr;
  const LayerInfo* widest_layer = nullptr;
  for (const LayerInfo& layer : model.layers) {
    if (layer.integer)
      ++integer;
    else if (!layer.reason.empty())
      ++islands;
    if (layer.proof && (widest == nullptr || layer.proof->bits_needed > widest->bits_needed)) {
      widest = &*layer.proof;
      widest_layer = &layer;
    }
  }
  out += fmt::format("{} nodes run in integers, {} in float\n", integer, islands);
  Islands floats;
  for (const LayerInfo& layer : model.layers) {
    if (!layer.integer && !layer.reason.empty()) floats.add(layer.name, layer.op_type, layer.reason);
  }
  out += floats.text();
  if (widest != nullptr)
    out += fmt::format("accumulators: at most {} bits needed ('{}': {}..{}), 32 held\n", widest->bits_needed, widest_layer->name,
                       widest->lo, widest->hi);
  return out + size_text(report, model);
}

}  // namespace nibble
