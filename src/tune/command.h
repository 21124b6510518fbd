// The user's own judge: a program that gets a folder of outputs and prints one number.
#pragma once

#include <string>
#include <vector>

#include "nibble/progress.h"
#include "nibble/tensor.h"

namespace nibble {

// Writes each tensor as N.npy (0.npy, 1.npy ...) into the empty folder `folder`, runs `command` by the shell with the folder as one
// argument more, and gives the number it prints (higher is better). Throws Error{kInvalidData} where it fails, prints anything else than
// one finite number, or is not done after `seconds` (it is stopped then); Error{kInterrupted} where the sink asks for it.
double run_command(const std::string& command, const std::vector<Tensor>& outputs, const std::string& folder, double seconds,
                   ProgressSink* progress);

}  // namespace nibble
