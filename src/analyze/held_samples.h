// Samples kept in memory: what is judged many times is decoded once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "nibble/dataset.h"
#include "nibble/progress.h"

namespace nibble {

// The samples `indices` of a dataset, read now on `threads` threads.
std::shared_ptr<const Dataset> hold_samples(const Dataset& dataset, const std::vector<std::int64_t>& indices, int threads,
                                            ProgressSink* progress);
// The same samples with each first input changed.
std::shared_ptr<const Dataset> map_inputs(const Dataset& held, const std::function<Tensor(const Tensor&)>& change);

// Both, one after the other; labels count where both have them.
std::shared_ptr<const Dataset> join_samples(const Dataset& held, const Dataset& more);

// At most `count` of 0 ... size-1, spread evenly, ascending.
std::vector<std::int64_t> spread_indices(std::int64_t size, std::int64_t count);

}  // namespace nibble
