// The story of a search. Layers are priced one by one (what each form of their weights costs the output alone); uniform quantization is the
// first trial; where it loses too much, the costliest layers go back to float. Then methods are compared on a network in the middle of the
// way down, a bisection finds how far down the way of cheapest moves it may go, and what trials are left try further moves in batches that
// shrink where they fail. Every step depends on the trials before it alone, so a search that was killed takes the same way again, over the
// trials on disk.
#include "nibble/tune.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <random>

#include "analyze/held_samples.h"
#include "analyze/judge.h"
#include "base/atomic_file.h"
#include "base/fail.h"
#include "data/hasher.h"
#include "nibble/interpreter.h"
#include "nibble/methods.h"
#include "nibble/onnx.h"
#include "nibble/passes.h"
#include "nibble/runtime.h"
#include "tune/command.h"
#include "tune/metric.h"
#include "tune/moves.h"
#include "tune/space.h"
#include "tune/state.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr const char* kNone = "none";

// The budget is spent, or the size is reached: no error, the search is over.
struct Done {};

struct Split {
  std::vector<std::int64_t> calibrating, deciding;
};
// Half and half, drawn by the seed (Fisher-Yates; see split_for_choice).
Split split(std::int64_t samples, std::uint64_t seed, std::int64_t most) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(samples));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
  std::mt19937_64 random(seed);
  for (std::size_t i = order.size(); i-- > 1;) std::swap(order[i], order[random() % (i + 1)]);
  const auto middle = static_cast<std::ptrdiff_t>(std::min((samples + 1) / 2, most));
  Split result{.calibrating = {order.begin() + middle, order.end()}, .deciding = {order.begin(), order.begin() + middle}};
  std::sort(result.calibrating.begin(), result.calibrating.end());
  std::sort(result.deciding.begin(), result.deciding.end());
  return result;
}

// Lists for --methods that are compared, from the simplest; only those that this build has.
std::vector<std::string> method_lists() {
  std::vector<std::string> lists = {kNone};
  const auto known = [](std::string_view name) {
    return std::any_of(method_table().begin(), method_table().end(), [&](const MethodInfo& row) { return row.name == name; });
  };
  if (known("bias_correction")) lists.emplace_back("bias_correction");
  if (known("gptq")) lists.emplace_back(known("bias_correction") ? "gptq,bias_correction" : "gptq");
  return lists;
}

std::string path_of_recipe(const std::string& output) {
  fs::path path(output);
  if (path.extension() == ".json") return output;
  return path.replace_extension(".recipe.json").string();
}

class Search {
 public:
  Search(const Graph& original, const std::shared_ptr<const Dataset>& data, const TuneOptions& options)
      : options_(options), begin_(Clock::now()), state_(options.state, fingerprint(original, *data, options)), graph_(original) {
    canonicalize(graph_);
    if (data->size() < 2)
      fail(ErrorCode::kInvalidData, "{}: {} samples; tune needs some that calibrate and others that decide", data->description(),
           data->size());
    const Split parts = split(data->size(), options.seed, options.deciding_samples);
    calibrating_ = subset(data, parts.calibrating);
    const auto deciding = hold_samples(*data, parts.deciding, options.threads, options.progress);
    ranges_ = observe(graph_);
    judge_.emplace(graph_, deciding, options.threads, options.progress);
    space_.emplace(graph_, ranges_, options.scheme);
    if (space_->layers().empty())
      fail(ErrorCode::kInvalidModel,
           "no layer of the model has weights that can be integers under these options: there is nothing to tune");
    choose_metric();
    result_.calibrating = std::ssize(parts.calibrating);
    result_.deciding = deciding->size();
  }

  TuneResult run() {
    try {
      price_layers();
      const Assignment from = start();
      if (best_) go_down(from);
    } catch (const Done&) {
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInterrupted) throw;
      fail(ErrorCode::kInterrupted, "interrupted; {}", where_it_stands());
    }
    return finish();
  }

 private:
  static std::string fingerprint(const Graph& original, const Dataset& data, const TuneOptions& options) {
    Hasher hasher;
    hasher.add(serialize_onnx(original));
    hasher.add(data.hash());
    hasher.add(to_json(options.scheme));
    hasher.add(options.method);
    hasher.add(options.metric ? to_string(*options.metric) : "");
    hasher.add(options.command);
    // Trials do not depend on budgets, threads and names of files: a search may go on with more.
    hasher.add(fmt::format("{} {} {} {}", options.max_drop, options.seed, options.sensitivity_samples, options.deciding_samples));
    return hasher.hex();
  }

  void choose_metric() {
    const Figures& figures = judge_->truth().figures;
    result_.metric = options_.metric.value_or(figures.top1 ? TuneMetric::kTop1 : figures.kl ? TuneMetric::kKl : TuneMetric::kSqnr);
    if (result_.metric == TuneMetric::kTop1 && !figures.top1)
      fail(ErrorCode::kInvalidArgument, "metric top1 needs labelled samples and one row of scores; use agreement, kl or sqnr");
    if (result_.metric == TuneMetric::kKl && !figures.kl)
      fail(ErrorCode::kInvalidArgument, "metric kl needs an output of scores; use sqnr");
    if (result_.metric == TuneMetric::kAgreement && !figures.agreement)
      fail(ErrorCode::kInvalidArgument, "metric agreement needs an output of scores; use sqnr");
    result_.max_drop = options_.max_drop;
    result_.float_value = value_of_float(result_.metric, judge_->truth());
    if (result_.metric == TuneMetric::kCommand) {
      std::vector<Tensor> outputs;
      Interpreter interpreter(graph_, {.threads = options_.threads, .mode = ExecMode::kFast});
      for (std::int64_t i = 0; i < judge_->samples().size(); ++i)
        outputs.push_back(interpreter.run(judge_->samples().sample(i).inputs).at(0));
      result_.float_value = ask_command(outputs);
    }
  }

  double ask_command(const std::vector<Tensor>& outputs) const {
    return run_command(options_.command, outputs, (fs::path(state_.folder()) / "outputs").string(), options_.command_seconds,
                       options_.progress);
  }

  RangeTable observe(const Graph& graph) const {
    CalibrateOptions options;
    options.methods = {options_.method};
    options.target = {.type = options_.scheme.defaults.activations.type, .symmetric = options_.scheme.defaults.activations.symmetric};
    options.threads = options_.threads;
    options.keep_states = false;
    options.progress = options_.progress;
    return std::move(calibrate(graph, *calibrating_, options).at(0));
  }

  void price_layers() {
    std::vector<Layer>& layers = space_->layers();
    if (const auto& known = state_.damages(); known && known->size() == layers.size()) {
      for (std::size_t l = 0; l < layers.size(); ++l) {
        if ((*known)[l].size() != layers[l].damage.size() + 1)
          fail(ErrorCode::kInvalidData, "{}: its state is damaged; remove it to begin anew", state_.folder());
        layers[l].damage.assign((*known)[l].begin(), (*known)[l].end() - 1);
        layers[l].full_damage = (*known)[l].back();
      }
      return;
    }
    const auto some =
        hold_samples(judge_->samples(), spread_indices(judge_->samples().size(), options_.sensitivity_samples), options_.threads, nullptr);
    space_->measure(*some, options_.threads, options_.progress);
    std::vector<std::vector<double>> damages;
    for (const Layer& layer : layers) {
      damages.push_back(layer.damage);
      damages.back().push_back(layer.full_damage);
    }
    state_.set_damages(std::move(damages));
  }

  QuantizedGraph build(const std::string& methods, const Assignment& layers) {
    MethodState state = method_state(graph_, ranges_, space_->scheme_for(layers));
    if (methods != kNone) {
      MethodInputs inputs;
      inputs.calibration = calibrating_;
      inputs.deciding = judge_->shared_samples();
      inputs.observe = [this](const Graph& graph) { return observe(graph); };
      inputs.seed = options_.seed;
      inputs.threads = options_.threads;
      apply_methods(state, parse_methods(methods), inputs);
    }
    return quantize(state.graph, state.ranges, state.scheme);
  }

  std::string file_of(const QuantizedGraph& model, const TuneTrial& trial) const {
    ExportOptions options;
    options.metadata = options_.metadata;
    options.metadata["scheme"] = to_json(space_->scheme_for(trial.layers));
    options.metadata["methods"] = trial.methods;
    options.metadata["law"] = to_string(model.law);
    options.metadata["calibration_method"] = ranges_.method;
    options.metadata["data_hash"] = ranges_.data_hash;
    return serialize_onnx(export_graph(model, options));
  }

  double time_of(const QuantizedGraph& model) const {
    constexpr int kRuns = 5;
    const Program program = lower(model);
    Session session(program, {.threads = 1});
    const Sample sample = judge_->samples().sample(0);
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < kRuns; ++i) {
      const auto begin = Clock::now();
      session.run(sample.inputs);
      best = std::min(best, std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
    }
    return best;
  }

  // Tries a network, or remembers that it was tried.
  const TuneTrial& attempt(const std::string& methods, const Assignment& layers) {
    for (const TuneTrial& old : result_.trials) {
      if (old.methods == methods && old.layers == layers) return old;
    }
    if (std::ssize(result_.trials) >= options_.max_trials) throw Done();
    const double minutes = std::chrono::duration<double>(Clock::now() - begin_).count() / 60;
    const TuneTrial* known = state_.find(methods, layers);
    if (known == nullptr && options_.max_minutes && minutes >= *options_.max_minutes) throw Done();
    if (options_.progress != nullptr && options_.progress->cancelled()) fail(ErrorCode::kInterrupted, "interrupted");
    TuneTrial trial;
    if (known != nullptr) {
      trial = *known;
    } else {
      trial.methods = methods;
      trial.layers = layers;
      const QuantizedGraph model = build(methods, layers);
      const Judgement found = (*judge_)(model);
      double said = 0;
      if (result_.metric == TuneMetric::kCommand) {
        const Program program = lower(model);
        Session session(program, {.threads = options_.threads});
        std::vector<Tensor> outputs;
        for (std::int64_t i = 0; i < judge_->samples().size(); ++i)
          outputs.push_back(session.run(judge_->samples().sample(i).inputs).at(0));
        said = ask_command(outputs);
      }
      trial.size_bytes = std::ssize(file_of(model, trial));
      trial.milliseconds = time_of(model);
      rate(trial, result_.metric, options_.max_drop, judge_->truth(), found, result_.float_value,
           result_.trials.empty() ? std::nullopt : std::optional(result_.trials[0].value), said);
    }
    trial.number = std::ssize(result_.trials) + 1;
    const bool better = trial.passes && (!best_ || trial.size_bytes < result_.trials[*best_].size_bytes ||
                                         (trial.size_bytes == result_.trials[*best_].size_bytes &&
                                          worth(result_.metric, trial.value) > worth(result_.metric, result_.trials[*best_].value)));
    if (known == nullptr) state_.add(trial);
    result_.trials.push_back(trial);
    if (options_.progress != nullptr) options_.progress->advance(trial.number);
    if (better) {
      best_ = result_.trials.size() - 1;
      if (known == nullptr) write_best();
      if (options_.max_size && trial.size_bytes <= *options_.max_size) throw Done();
    }
    return result_.trials.back();
  }

  std::string where_it_stands() const {
    return best_ ? fmt::format("the best so far ({} bytes) is in {}; the same command goes on from {}", result_.trials[*best_].size_bytes,
                               options_.output, state_.folder())
                 : fmt::format("nothing passed so far; the same command goes on from {}", state_.folder());
  }

  void write_best() {
    const TuneTrial& trial = result_.trials[*best_];
    const std::string recipe = to_json(space_->scheme_for(trial.layers)) + "\n";
    const std::string recipe_path = path_of_recipe(options_.output);
    if (recipe_path != options_.output) write_file(options_.output, file_of(build(trial.methods, trial.layers), trial));
    write_file(recipe_path, recipe);
  }

  // Uniform quantization, or as much of it as passes.
  Assignment start() {
    Assignment uniform = space_->start();
    const bool passes = attempt(kNone, uniform).passes;
    if (passes) return uniform;
    for (const std::string& methods : method_lists()) {
      if (attempt(methods, uniform).passes) return uniform;
    }
    std::vector<std::size_t> order(space_->layers().size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return space_->layers()[a].full_damage > space_->layers()[b].full_damage; });
    for (std::size_t count = 1;; count = std::min(2 * count, order.size())) {
      Assignment some = uniform;
      for (std::size_t i = 0; i < count; ++i) some[order[i]] = 'f';
      if (attempt(method_lists().back(), some).passes || count == order.size()) return some;
    }
  }

  void go_down(const Assignment& from) {
    const std::vector<Assignment> path = path_down(*space_, from);
    // Which methods: where the bits are few enough to tell them apart, and not so few that nothing helps.
    std::size_t middle = 0;
    while (middle + 1 < path.size() && space_->estimated_bytes(path[middle]) > 0.6 * space_->estimated_bytes(path[0])) ++middle;
    std::string methods = kNone;
    double least = std::numeric_limits<double>::infinity();
    for (const std::string& list : method_lists()) {
      const TuneTrial& trial = attempt(list, path[middle]);
      const double loss = trial.figures.kl.value_or(-trial.figures.sqnr_db);
      constexpr double kClearly = 0.95;
      if (loss < (least > 0 ? kClearly * least : least)) {
        least = loss;
        methods = list;
      }
    }
    result_.notes.push_back(fmt::format("methods: {} (closest to float at {:.0f} % of the weights' bytes)", methods,
                                        100 * space_->estimated_bytes(path[middle]) / space_->estimated_bytes(path[0])));

    // How far down. The first step passes.
    std::size_t good = 0;
    std::size_t bad = path.size();
    while (bad - good > 1) {
      const std::size_t next = good + (bad - good) / 2;
      (attempt(methods, path[next]).passes ? good : bad) = next;
    }
    // Further moves, in batches: one layer that fails must not keep the others from going on.
    Assignment now = path[good];
    Tabu tabu;
    std::size_t batch = std::max<std::size_t>(1, space_->layers().size() / 8);
    while (true) {
      Assignment next = now;
      std::vector<Move> moves;
      while (moves.size() < batch) {
        const auto move = cheapest_move(*space_, next, tabu);
        if (!move) break;
        next[move->layer] = move->to;
        moves.push_back(*move);
      }
      if (moves.empty()) return;
      if (attempt(methods, next).passes) {
        now = next;
      } else if (moves.size() > 1) {
        batch = (moves.size() + 1) / 2;
      } else {
        tabu.emplace(moves[0].layer, moves[0].to);
        refused_.emplace(moves[0].layer, moves[0].to);
      }
    }
  }

  TuneResult finish() {
    if (best_) {
      result_.best = result_.trials[*best_].number;
      write_best();
      result_.recipe = to_json(space_->scheme_for(result_.trials[*best_].layers));
      describe_layers();
    }
    find_pareto();
    if (state_.known() > 0)
      result_.notes.push_back(
          fmt::format("{} trials were taken from {}", std::min<std::size_t>(state_.known(), result_.trials.size()), state_.folder()));
    if (!best_)
      result_.notes.push_back(
          fmt::format("no network passes: nothing was written; allow more than --max-drop {:g}, or more trials", options_.max_drop));
    if (best_ && options_.max_size && result_.trials[*best_].size_bytes > *options_.max_size)
      result_.notes.push_back(fmt::format("--max-size {} was not reached within --max-drop {:g}; allow more loss or more trials",
                                          *options_.max_size, options_.max_drop));
    return std::move(result_);
  }

  void describe_layers() {
    const Assignment& best = result_.trials[*best_].layers;
    const auto forms = form_table();
    const char* unit = judge_->truth().figures.kl ? "nats" : "noise / signal";
    for (std::size_t l = 0; l < best.size(); ++l) {
      const Layer& layer = space_->layers()[l];
      TuneLayer row{
          .name = layer.name, .op_type = layer.op_type, .weights = layer.weights, .form = std::string(form_of(best[l]).name), .reason = {}};
      const std::size_t now = index_of_form(best[l]);
      if (best[l] == 'f') {
        row.reason = fmt::format("in integers it alone costs {:.3g} {}, and uniform quantization loses too much", layer.full_damage, unit);
      } else {
        row.reason = fmt::format("alone it costs {:.3g} {}", layer.damage[now], unit);
        const double saved = static_cast<double>(layer.weights) * (8 - space_->stored_bits(now)) / 8;
        if (saved > 0) row.reason += fmt::format(" and saves {:.0f} bytes", saved);
        if (now + 1 < forms.size()) {
          row.reason += fmt::format("; {} would cost {:.3g}", forms[now + 1].name, layer.damage[now + 1]);
          if (refused_.contains({l, forms[now + 1].letter})) row.reason += " and lost too much when tried";
        }
      }
      result_.layers.push_back(std::move(row));
    }
  }

  void find_pareto() {
    for (const TuneTrial& trial : result_.trials) {
      const bool beaten = std::any_of(result_.trials.begin(), result_.trials.end(), [&](const TuneTrial& other) {
        const double a = worth(result_.metric, other.value), b = worth(result_.metric, trial.value);
        const bool no_worse = a >= b && other.size_bytes <= trial.size_bytes;
        return no_worse && (a > b || other.size_bytes < trial.size_bytes || other.number < trial.number);
      });
      if (!beaten) result_.pareto.push_back(trial.number);
    }
    const auto size_of = [&](std::int64_t number) { return result_.trials[static_cast<std::size_t>(number - 1)].size_bytes; };
    std::sort(result_.pareto.begin(), result_.pareto.end(), [&](std::int64_t a, std::int64_t b) { return size_of(a) < size_of(b); });
  }

  const TuneOptions& options_;
  Clock::time_point begin_;
  TuneState state_;
  Graph graph_;  // canonical
  std::shared_ptr<const Dataset> calibrating_;
  RangeTable ranges_;
  std::optional<Judge> judge_;
  std::optional<Space> space_;
  Tabu refused_;
  std::optional<std::size_t> best_;  // index into the trials
  TuneResult result_;
};

}  // namespace

TuneResult tune(const Graph& original, const std::shared_ptr<const Dataset>& data, const TuneOptions& options) {
  if (has_quantization(original)) fail(ErrorCode::kInvalidArgument, "the model is quantized already; tune needs the float model");
  if (!(options.max_drop >= 0)) fail(ErrorCode::kInvalidArgument, "max_drop is {}; expected 0 or more", options.max_drop);
  if (options.max_trials < 1) fail(ErrorCode::kInvalidArgument, "max_trials is {}; expected 1 or more", options.max_trials);
  if (options.state.empty() || options.output.empty()) fail(ErrorCode::kInvalidArgument, "tune needs a state folder and an output path");
  return Search(original, data, options).run();
}

}  // namespace nibble
