// Checkpoints: everything that a run needs to go on as if it had never stopped, in one file that is whole or not there.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/train.h"
#include "train/quantizer.h"

namespace nibble::train {

struct Checkpoint {
  std::string model_hash;                      // of the float graph that training began with
  std::map<std::string, std::string> options;  // what decides the result, as text; compared one by one
  // The next step: `step_in_epoch` of `epoch`; the sampler's order follows from the seed.
  std::int64_t epoch = 0, step_in_epoch = 0, step = 0;
  double epoch_loss = 0;  // sums over the samples of this epoch so far
  std::int64_t epoch_correct = 0, epoch_samples = 0;
  double epoch_seconds = 0;
  std::int64_t log_bytes = 0;  // of the log that belong to the steps done
  std::vector<EpochReport> epochs;
  double initial_top1 = 0;
  std::vector<std::int64_t> eval_predictions;
  std::vector<StateTensor> parameters, state, optimizer;
};

// The file: a magic line, the length of a JSON header, the header, the tensors' bytes one after another, a checksum (XXH3, 128 bits) of all
// before. Little endian.
std::string serialize(const Checkpoint& checkpoint);
// Throws Error{kInvalidData} naming `origin`: no checkpoint, of another version, truncated or damaged.
Checkpoint parse_checkpoint(std::string_view bytes, const std::string& origin);

// The file in a --checkpoint folder.
std::string checkpoint_path(const std::string& folder);

// Throws Error{kInvalidArgument} that names the first difference: another model, or the option and both of its values.
void check_same_run(const Checkpoint& found, const Checkpoint& expected, const std::string& origin);

// Copies values into `targets` by name; throws Error{kInvalidData} where names, shapes or types differ.
void restore(const std::vector<StateTensor>& from, const std::vector<StateTensor>& targets, const std::string& origin);

}  // namespace nibble::train
