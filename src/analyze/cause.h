// What the detectors of causes share. A detector is a function of one file and a row of cause_table.cc: it looks for its evidence, tries
// the fix, and adds a Cause where both speak clearly.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "analyze/fake_quantized.h"
#include "analyze/judge.h"
#include "nibble/analyze.h"

namespace nibble {

// What one value looked like over the calibration samples, channel by channel (axis 1; one channel where there is none).
struct ValueStats {
  std::vector<float> lo, hi;             // by channel
  std::vector<double> sum_squares;       // by channel
  std::int64_t per_channel = 0;          // elements seen in each
  std::int64_t at_low = 0, at_high = 0;  // elements at the bounds of the producer's fused Clip
};

struct CauseContext {
  const Graph& graph;  // canonical
  const AnalyzeOptions& options;
  std::shared_ptr<const Dataset> calibration;  // all of --data, or the part that does not judge
  const RangeTable& ranges;                    // that the network was quantized with
  const QuantizedGraph& quantized;
  const Judge& judge;
  const Judge& wide;                                     // of the float network on more samples: those that judge and those that calibrate
  const Judgement& base;                                 // the quantized network on judge.samples()
  const std::vector<ValueStats>& stats;                  // by ValueId; empty channels: not a float value
  const std::vector<std::int64_t>& calibration_classes;  // of each sample: its label, else the float network's first class

  // Quantizes with other ranges or another scheme and judges.
  Judgement judged(const RangeTable& with_ranges, const QuantScheme& with_scheme) const;
};

enum class CauseTier {
  kFloat,         // the float network does not see what it was trained for: all that follows is measured on a wrong network
  kQuantization,  // float is fine, integers are not
};

struct CauseRow {
  CauseInfo info;
  CauseTier tier;
  void (*find)(const CauseContext& context, std::vector<Cause>& causes, std::vector<std::string>& observations);
};
std::span<const CauseRow> cause_rows();

// The fix won enough to call what it fixes a cause: 3 points of top-1 or agreement (2 samples at least), or 0.05 nats, or, where the output
// is no row of scores, 6 dB from below 15 dB.
bool worth_naming(const Figures& before, const Figures& after);
// A regular expression that matches this name alone.
std::string exactly(const std::string& name);
// Leaves this node in float.
NodeRule float_rule(const std::string& name);

void find_preprocessing(const CauseContext&, std::vector<Cause>&, std::vector<std::string>&);
void find_saturation(const CauseContext&, std::vector<Cause>&, std::vector<std::string>&);
void find_calibration(const CauseContext&, std::vector<Cause>&, std::vector<std::string>&);
void find_overflow(const CauseContext&, std::vector<Cause>&, std::vector<std::string>&);
void find_weight_channels(const CauseContext&, std::vector<Cause>&, std::vector<std::string>&);
void find_activation_channels(const CauseContext&, std::vector<Cause>&, std::vector<std::string>&);
void find_outlier_activations(const CauseContext&, std::vector<Cause>&, std::vector<std::string>&);
void find_clipped_ranges(const CauseContext&, std::vector<Cause>&, std::vector<std::string>&);
void find_dead(const CauseContext&, std::vector<Cause>&, std::vector<std::string>&);

}  // namespace nibble
