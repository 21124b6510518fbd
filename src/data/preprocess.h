// Preprocessing with the file's name in its errors.
#pragma once

#include <string>

#include "nibble/dataset.h"

namespace nibble {

// preprocess(); `origin` names the image in messages.
Tensor preprocess_image(const Tensor& image, const PreprocessRecipe& recipe, const std::string& origin);

}  // namespace nibble
