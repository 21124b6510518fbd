// From what a file holds to what a network input takes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nibble/dataset.h"

namespace nibble {

enum class ValueKind {
  kArray,  // values are exact: a float that has to become an integer must be one
  kImage,  // preprocessed pixels: rounded to the nearest where the input is an integer; one grey plane may lose or gain its axes of size 1
};

// `tensor` with the input's element type and rank: a missing batch axis is added. Throws Error{kInvalidData} with found and expected.
Tensor fit_input(const Tensor& tensor, const InputSpec& spec, ValueKind kind, const std::string& origin);

// The element type alone.
Tensor convert_elements(const Tensor& tensor, DataType type, ValueKind kind, const std::string& origin);

// The one input that `what` ("images") can fill; a network with several is an error. Nothing is known (all fits) where `inputs` is empty.
InputSpec single_input(const std::vector<InputSpec>& inputs, const std::string& what, const std::string& origin);

}  // namespace nibble
