// Channels-last copies of tensors: [N, C, H, W] held as [N, H, W, C].
#pragma once

#include "base/thread_pool.h"
#include "nibble/tensor.h"

namespace nibble {

// From [N,C,H,W] to [N,H,W,C] (shapes of fewer axes get leading axes of 1 first) and back. Any element type.
Tensor to_channels_last(ThreadPool* pool, const Tensor& tensor);
Tensor from_channels_last(ThreadPool* pool, const Tensor& tensor);

}  // namespace nibble
