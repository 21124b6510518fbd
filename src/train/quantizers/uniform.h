// Uniform grids in one pass over the values: activations are large, and a chain of tensor operations goes over them a dozen times.
#pragma once

#include <torch/types.h>

#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"

namespace nibble::train {

// clamp(rne(x / s), lowest, highest) s. The gradient passes where lowest <= x / s <= highest. That of s, where it asks for one, is LSQ's:
// rne(x / s)
// - x / s inside, the level outside (Esser et al. 2019, eq. 3); sums do not depend on the number of threads. `s`: one, or one a channel, in
// x's type. Under the soft staircase both gradients are the stair's.
torch::Tensor on_grid(const torch::Tensor& x, const torch::Tensor& s, const Levels& levels, const Estimator& estimator,
                      const StepInfo& step);

// x cut to [0, clip] and rounded to `steps` steps. The gradient passes where 0 <= x < clip; that of the clip is 1 where x >= clip (Choi et
// al. 2018, eq. 3). `clip`: one, in x's type.
torch::Tensor on_clipped_grid(const torch::Tensor& x, const torch::Tensor& clip, double steps, const Estimator& estimator,
                              const StepInfo& step);

}  // namespace nibble::train
