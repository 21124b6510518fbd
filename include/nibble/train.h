// Training through the quantizer: a float classifier (ONNX) and labelled data in, a network on grids out. Needs a build with libtorch.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/dataset.h"
#include "nibble/graph.h"
#include "nibble/methods.h"
#include "nibble/progress.h"
#include "nibble/quantize.h"

namespace nibble {

// What is quantized in training, and by which methods (`nibble list train-methods`).
struct TrainQuantization {
  std::string weight_method = "none";  // "none": float
  std::string activation_method = "none";
  int weight_bits = 8;
  int activation_bits = 8;
  int gradient_bits = 32;         // below 32: by the weight method's gradient side, or DoReFa's
  std::string estimator = "ste";  // or "dsq", for methods that round evenly
  MethodOptions options;
  FirstLastPolicy first_last = FirstLastPolicy::k8Bit;
  bool per_channel = true;  // weights, where the method has a choice
};

// One row for each method; documents and `nibble list` read it.
struct TrainMethodInfo {
  std::string_view name, summary, source, options;
  bool has_weights = false, has_activations = false, has_gradients = false;
};
std::vector<TrainMethodInfo> train_method_table();

}  // namespace nibble
