// What nibble train starts from: a model file, or an architecture with fresh weights.
#pragma once

#include <optional>
#include <string>

#include "nibble/dataset.h"
#include "nibble/graph.h"
#include "train_options.h"

namespace nibble::cli {

struct StartingPoint {
  Graph graph;
  std::string name;                        // for messages
  std::optional<PreprocessRecipe> recipe;  // of images
};
// Reads command.model, or makes command.arch for the shape and the classes of the training data. Fresh networks see x / 255 where
// --preprocess says nothing else, in one channel if they are made for it.
StartingPoint starting_point(const TrainCommand& command);

}  // namespace nibble::cli
