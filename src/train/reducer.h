// Reducer: what the processes of one training run add up together. One process: nothing to do.
#pragma once

#include <torch/types.h>

namespace nibble::train {

// Every function is a collective: all ranks call it in the same order with tensors of the same shape and type. Results are equal on all
// ranks, to the bit. Throws Error{kUnavailable-like} naming the rank that is gone.
class Reducer {
 public:
  virtual ~Reducer() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  virtual void sum(torch::Tensor& tensor) = 0;  // in place; no gradient flows
  virtual void min(torch::Tensor& tensor) = 0;
  virtual void max(torch::Tensor& tensor) = 0;
  virtual void broadcast(torch::Tensor& tensor, int root) = 0;
  virtual void barrier() = 0;
};
// The reducer of a run of one process.
Reducer& single_process();
// Sum over all ranks through which gradients flow: the gradient of the sum is the sum of the ranks' gradients.
torch::Tensor differentiable_sum(const torch::Tensor& tensor, Reducer& reducer);

}  // namespace nibble::train
