// Samples shared out over threads, each with networks of its own.
#pragma once

#include <cstdint>
#include <functional>

#include "nibble/dataset.h"
#include "report/stage.h"

namespace nibble {

// `make_worker` is called once a thread, on that thread, and gives the function that handles one sample. Every network inside runs on one
// thread, so the result of a sample does not depend on `threads`; write it to a place of its own and add up in order afterwards. Progress
// and cancellation are handled on the calling thread. Of several errors, that of the lowest sample is thrown.
using SampleWorker = std::function<void(std::int64_t index, const Sample& sample)>;
void for_each_sample(const Dataset& dataset, int threads, Stage& stage, const std::function<SampleWorker()>& make_worker);

}  // namespace nibble
