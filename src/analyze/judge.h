// How far a network is from the float network on samples held in memory, sample by sample.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "nibble/analyze.h"
#include "report/scores.h"

namespace nibble {

// One sample's verdict. Differences of two networks are paired by sample, which takes the samples' own difficulty out.
struct Verdict {
  bool labelled = false, right = false;
  double log_loss = 0;  // -ln p(label), labelled samples only
  std::int64_t rows = 0, agreeing = 0;
  std::optional<double> kl;
  SquareSums sums;
};
struct Judgement {
  Figures figures;
  std::vector<Verdict> samples;
};

class Judge {
 public:
  // `graph` is the canonical float network that is the truth. Results do not depend on `threads`.
  Judge(const Graph& graph, std::shared_ptr<const Dataset> held, int threads, ProgressSink* progress);

  // In the integer runtime.
  Judgement operator()(const QuantizedGraph& model) const;
  // Another float network (same inputs and outputs), on these samples or on `other` ones that correspond to them.
  Judgement of_float(const Graph& graph, const Dataset* other = nullptr) const;
  // The float network itself: top-1 and log loss.
  const Judgement& truth() const { return truth_; }
  // Of each sample: its label, else the float network's first class (-1 where it gives none).
  std::vector<std::int64_t> truth_classes() const;
  // That the network tells apart; 0 where its first output is no single row of scores.
  std::int64_t classes() const;
  const Dataset& samples() const { return *samples_; }
  const std::shared_ptr<const Dataset>& shared_samples() const { return samples_; }
  int threads() const { return threads_; }
  ProgressSink* progress() const { return progress_; }

 private:
  template <typename MakeRun>
  Judgement judge(const Dataset& dataset, std::string_view stage, const MakeRun& make_run) const;

  std::shared_ptr<const Dataset> samples_;
  int threads_;
  ProgressSink* progress_;
  std::vector<Tensor> expected_;
  Judgement truth_;
};

// Of paired samples: `b` against `a`. Only where both are labelled.
struct PairedHits {
  std::int64_t count = 0, won = 0, lost = 0;  // right in b alone, right in a alone
  double points() const { return count > 0 ? 100.0 * static_cast<double>(won - lost) / static_cast<double>(count) : 0; }
  double log_loss_gain = 0;  // mean of a's log loss less b's
  double t = 0;              // that in standard errors
};
PairedHits compare_hits(const Judgement& a, const Judgement& b);
// More than chance: the sign test's z (won - lost) / sqrt(won + lost) >= 2.6, or a gain of log loss of 3.5 standard errors and 3 points.
bool clearly_better(const PairedHits& hits);

// Points of top-1, else of agreement, that `after` wins over `before`; where both stay the same, the KL (or noise / signal) won, / 100.
double gain_of(const Figures& before, const Figures& after);

}  // namespace nibble
