// One pass over the data for every method.
//
// Samples are spread over threads, each with an interpreter of its own that runs on one thread, so a sample's activations are the same bits
// whoever computes them. What a sample tells is of two kinds:
//   - histograms: exact and blind to order (observers/histogram.h). All histogram methods of a value share one; a thread bins its tensor
//   aside and
//     adds it under the value's lock;
//   - statistics (ends, sums): a few numbers a value and sample, handed to the observers in the order of the samples.
// So the result depends neither on the number of threads nor on who finished first. Memory: one histogram a value, one interpreter and one
// sample a thread, and the statistics of a bounded window of samples.
#include "nibble/calibrate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "base/fail.h"
#include "base/thread_pool.h"
#include "calibration/answers.h"
#include "calibration/range_warnings.h"
#include "nibble/interpreter.h"
#include "observers/observer_base.h"
#include "ops/op.h"

namespace nibble {

namespace {

// One value of the graph and all that is known of it.
struct WatchedValue {
  ValueId id = kNoValue;
  bool certainly_float = false;                      // by its type; else only the data will tell
  bool is_answer = false;                            // min_max, whatever the method
  std::vector<std::unique_ptr<Observer>> observers;  // one a method
  std::mutex mutex;                                  // guards the histogram
  std::shared_ptr<Histogram> histogram;              // null if no method wants one
  std::int64_t samples = 0;
};

// What one sample said: the statistics of each watched value (count 0: not seen), by their order.
using SampleStats = std::vector<BatchStats>;

class Calibration {
 public:
  Calibration(const Graph& graph, const Dataset& dataset, const CalibrateOptions& options)
      : graph_(graph), dataset_(dataset), options_(options), samples_(dataset.size()) {
    if (options.methods.empty()) fail(ErrorCode::kInvalidArgument, "calibrate: no method is given");
    if (samples_ <= 0) fail(ErrorCode::kInvalidData, "calibrate: {} has no samples; ranges need at least one", dataset.description());
    watch_values();
  }

  std::vector<RangeTable> run() {
    if (options_.progress != nullptr) options_.progress->begin("calibrate", samples_);
    observe_all();
    if (options_.progress != nullptr) {
      options_.progress->advance(samples_);
      options_.progress->end();
    }
    return tables();
  }

 private:
  std::vector<bool> find_answers() const {
    static constexpr std::string_view kPassesTheAnswerOn[] = {"Softmax", "LogSoftmax", "Reshape",   "Flatten",
                                                              "Squeeze", "Unsqueeze",  "Transpose", "Identity"};
    std::vector<bool> answers(graph_.values().size(), false);
    for (const ValueId id : graph_.outputs()) answers[static_cast<std::size_t>(id)] = true;
    for (auto node = graph_.nodes().rbegin(); node != graph_.nodes().rend(); ++node) {
      const bool passes =
          std::find(std::begin(kPassesTheAnswerOn), std::end(kPassesTheAnswerOn), node->op_type) != std::end(kPassesTheAnswerOn);
      if (!passes || node->input(0) == kNoValue || node->output(0) == kNoValue) continue;
      if (answers[static_cast<std::size_t>(node->output(0))]) answers[static_cast<std::size_t>(node->input(0))] = true;
    }
    return answers;
  }

  void watch_values() {
    watched_of_.assign(graph_.values().size(), -1);
    const InferredGraph inferred = infer_types(graph_);
    const std::vector<bool> answers = find_answers();
    for (std::size_t i = 0; i < graph_.values().size(); ++i) {
      const Value& value = graph_.values()[i];
      const auto id = static_cast<ValueId>(i);
      const bool is_input = std::find(graph_.inputs().begin(), graph_.inputs().end(), id) != graph_.inputs().end();
      const DataType dtype = inferred.types[i].dtype;
      const bool maybe_float = dtype == DataType::kFloat32 || dtype == DataType::kUndefined;
      if (value.constant || !maybe_float || (value.producer == kNoNode && !is_input)) continue;
      auto watched = std::make_unique<WatchedValue>();
      watched->id = id;
      watched->certainly_float = dtype == DataType::kFloat32;
      watched->is_answer = answers[i];
      for (const std::string& method : options_.methods) {
        auto observer = make_observer(method);
        if (watched->is_answer) observer = make_observer(kAnswerMethod);
        if (auto* with_histogram = dynamic_cast<HistogramObserver*>(observer.get())) {
          if (watched->histogram == nullptr) watched->histogram = std::make_shared<Histogram>();
          with_histogram->share(watched->histogram);
        } else if (const auto* with_stats = dynamic_cast<const StatsObserver*>(observer.get())) {
          needs_moments_ = needs_moments_ || with_stats->needs_moments();
        }
        watched->observers.push_back(std::move(observer));
      }
      watched_of_[i] = static_cast<std::ptrdiff_t>(watched_.size());
      watched_.push_back(std::move(watched));
    }
  }

  // --- Any thread ---

  SampleStats observe_sample(Interpreter& interpreter, std::int64_t index, BatchHistogram& scratch) {
    const Sample sample = dataset_.sample(index);
    SampleStats stats(watched_.size());
    interpreter.run(sample.inputs, [&](ValueId id, const Tensor& tensor) {
      const std::ptrdiff_t place = watched_of_[static_cast<std::size_t>(id)];
      if (place < 0 || tensor.type() != DataType::kFloat32 || tensor.size() == 0) return;
      WatchedValue& watched = *watched_[static_cast<std::size_t>(place)];
      const auto values = tensor.data<float>();
      BatchStats& own = stats[static_cast<std::size_t>(place)];
      own = gather_stats(values);
      if (!own.finite) refuse_values(watched, values, sample, index);
      if (needs_moments_) gather_moments(values, own);
      if (watched.histogram != nullptr) add_to_histogram(watched, values, own, scratch);
    });
    return stats;
  }

  void add_to_histogram(WatchedValue& watched, std::span<const float> values, const BatchStats& all, BatchHistogram& scratch) const {
    while (!values.empty()) {
      const auto part = values.first(std::min(values.size(), kMaxBatch));
      int exponent = 0;
      {
        const std::lock_guard lock(watched.mutex);
        exponent = watched.histogram->exponent();
      }
      scratch.fill(part, part.size() == static_cast<std::size_t>(all.count) ? all : gather_stats(part), exponent);
      const std::lock_guard lock(watched.mutex);
      watched.histogram->add(scratch);
      values = values.subspan(part.size());
    }
  }

  [[noreturn]] void refuse_values(const WatchedValue& watched, std::span<const float> values, const Sample& sample,
                                  std::int64_t index) const {
    const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
    const Value& value = graph_.value(watched.id);
    const std::string where =
        value.producer == kNoNode ? std::string("an input of the network") : "made by node " + graph_.node(value.producer).name;
    fail(ErrorCode::kInvalidData,
         "calibrate: value {} ({}) holds {} at element {} for sample {} ({}); ranges need finite values: check the sample and the "
         "preprocessing",
         value.name, where, std::isnan(*bad) ? "NaN" : "an infinity", bad - values.begin(), index, sample.name);
  }

  // --- The threads ---

  void observe_all() {
    const int threads = static_cast<int>(std::clamp<std::int64_t>(options_.threads, 1, samples_));
    window_ = 4 * static_cast<std::int64_t>(threads);
    std::vector<std::thread> helpers;
    try {
      for (int i = 1; i < threads; ++i) helpers.emplace_back([this] { work(nullptr); });
      work(options_.progress);
    } catch (...) {
      stop_with(std::numeric_limits<std::int64_t>::max(), std::current_exception());
    }
    wait_for_helpers(options_.progress);
    for (std::thread& helper : helpers) helper.join();
    if (error_) std::rethrow_exception(error_);
  }

  // Takes samples until there are none. Only the thread that called calibrate() has a sink.
  void work(ProgressSink* progress) {
    const Presence presence(*this);
    std::optional<Interpreter> interpreter;
    BatchHistogram scratch;
    while (const std::optional<std::int64_t> index = take(progress)) {
      try {
        if (!interpreter) interpreter.emplace(graph_, InterpreterOptions{.threads = 1, .mode = ExecMode::kFast});
        commit(*index, observe_sample(*interpreter, *index, scratch));
      } catch (...) {
        stop_with(*index, std::current_exception());
      }
      if (progress != nullptr) report(*progress);
    }
  }

  // Counts a thread as working for as long as it lives, whatever ends it.
  struct Presence {
    explicit Presence(Calibration& calibration) : calibration_(calibration) {
      const std::lock_guard lock(calibration_.mutex_);
      ++calibration_.working_;
    }
    ~Presence() {
      const std::lock_guard lock(calibration_.mutex_);
      --calibration_.working_;
      calibration_.changed_.notify_all();
    }
    Presence(const Presence&) = delete;
    Presence& operator=(const Presence&) = delete;

   private:
    Calibration& calibration_;
  };

  // The next sample, once it lies within the window; nothing when all are taken or the run has stopped.
  std::optional<std::int64_t> take(ProgressSink* progress) {
    std::unique_lock lock(mutex_);
    for (;;) {
      if (stopped_ || next_sample_ >= samples_) return std::nullopt;
      if (next_sample_ < next_commit_ + window_) return next_sample_++;
      changed_.wait_for(lock, std::chrono::milliseconds(50));
      if (progress != nullptr) {
        lock.unlock();
        report(*progress);
        lock.lock();
      }
    }
  }

  // Statistics reach the observers in the order of the samples.
  void commit(std::int64_t index, SampleStats stats) {
    const std::lock_guard lock(mutex_);
    pending_.emplace(index, std::move(stats));
    while (!pending_.empty() && pending_.begin()->first == next_commit_) {
      const SampleStats& next = pending_.begin()->second;
      for (std::size_t i = 0; i < next.size(); ++i) {
        if (next[i].count == 0) continue;
        ++watched_[i]->samples;
        for (const auto& observer : watched_[i]->observers) {
          if (auto* with_stats = dynamic_cast<StatsObserver*>(observer.get())) with_stats->observe_stats(next[i]);
        }
      }
      pending_.erase(pending_.begin());
      ++next_commit_;
    }
    changed_.notify_all();
  }

  // Of several failures the one of the first sample counts: all samples before it have been taken, so it is the same one in every run.
  void stop_with(std::int64_t index, std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    if (!error_ || index < error_sample_) {
      error_ = std::move(error);
      error_sample_ = index;
    }
    changed_.notify_all();
  }

  void report(ProgressSink& progress) {
    std::int64_t done = 0;
    {
      const std::lock_guard lock(mutex_);
      done = next_commit_;
    }
    progress.advance(done);
    if (!progress.cancelled()) return;
    const Error interrupted(ErrorCode::kInterrupted, "calibrate: stopped on request");
    stop_with(-1, std::make_exception_ptr(interrupted));
  }

  void wait_for_helpers(ProgressSink* progress) {
    std::unique_lock lock(mutex_);
    while (working_ > 0) {
      changed_.wait_for(lock, std::chrono::milliseconds(50));
      if (progress == nullptr) continue;
      lock.unlock();
      report(*progress);
      lock.lock();
    }
  }

  // --- The result ---

  std::vector<RangeTable> tables() const {
    const std::string hash = dataset_.hash();
    std::vector<RangeTable> result(options_.methods.size());
    for (std::size_t m = 0; m < result.size(); ++m) {
      RangeTable& table = result[m];
      table.method = options_.methods[m];
      table.target = options_.target;
      table.data_hash = hash;
      table.samples = samples_;
    }
    std::vector<std::vector<RangeEntry>> entries(watched_.size());
    ThreadPool pool(std::max(1, options_.threads));
    pool.parallel_for(static_cast<std::int64_t>(watched_.size()), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) entries[static_cast<std::size_t>(i)] = entries_of(*watched_[static_cast<std::size_t>(i)]);
    });
    for (std::size_t i = 0; i < watched_.size(); ++i) {
      const WatchedValue& watched = *watched_[i];
      if (watched.samples == 0 && !watched.certainly_float) continue;  // not a float value, as it turned out
      const std::string& name = graph_.value(watched.id).name;
      for (std::size_t m = 0; m < result.size(); ++m) result[m].entries[name] = std::move(entries[i][m]);
    }
    for (RangeTable& table : result) add_range_warnings(table);
    return result;
  }

  std::vector<RangeEntry> entries_of(const WatchedValue& watched) const {
    std::vector<RangeEntry> result;
    for (std::size_t m = 0; m < watched.observers.size(); ++m) {
      RangeEntry entry;
      entry.range = watched.observers[m]->range(options_.target);
      entry.samples = watched.samples;
      if (options_.keep_states) entry.states[watched.is_answer ? kAnswerMethod : options_.methods[m]] = watched.observers[m]->save();
      result.push_back(std::move(entry));
    }
    return result;
  }

  const Graph& graph_;
  const Dataset& dataset_;
  const CalibrateOptions& options_;
  const std::int64_t samples_;
  bool needs_moments_ = false;
  std::vector<std::unique_ptr<WatchedValue>> watched_;
  std::vector<std::ptrdiff_t> watched_of_;  // by ValueId; -1: not watched

  std::mutex mutex_;  // guards what follows, and WatchedValue::samples and the StatsObservers
  std::condition_variable changed_;
  std::int64_t next_sample_ = 0, next_commit_ = 0, window_ = 1;
  std::map<std::int64_t, SampleStats> pending_;
  int working_ = 0;
  bool stopped_ = false;
  std::exception_ptr error_;
  std::int64_t error_sample_ = 0;
};

}  // namespace

std::vector<RangeTable> calibrate(const Graph& graph, const Dataset& dataset, const CalibrateOptions& options) {
  return Calibration(graph, dataset, options).run();
}

}  // namespace nibble
