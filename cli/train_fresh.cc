#include "train_fresh.h"

#include <fmt/format.h>

#include <algorithm>

#include "nibble/error.h"
#include "nibble/report.h"

namespace nibble::cli {
namespace {

PreprocessRecipe fresh_recipe(const std::string& arch) {
  PreprocessRecipe recipe;
  recipe.divide = 255;
  if (arch == "lenet5") recipe.channel_order = PreprocessRecipe::ChannelOrder::kGray;
  return recipe;
}

// As the data says; else one more than the largest label.
std::int64_t classes_in(const Dataset& dataset, const std::string& origin) {
  if (dataset.class_count() > 0) return dataset.class_count();
  if (!dataset.has_labels())
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: has no labels; training needs one for each sample", origin));
  std::int64_t most = -1;
  for (std::int64_t i = 0; i < dataset.size(); ++i) most = std::max(most, dataset.sample(i).label.value_or(-1));
  return most + 1;
}

}  // namespace

StartingPoint starting_point(const TrainCommand& command) {
  if (command.arch.empty()) {
    Model model = load_model(command.model);
    if (model.quantized)
      throw Error(ErrorCode::kInvalidArgument, fmt::format("{} is quantized; nibble train needs a float model", command.model));
    return {std::move(model.graph), base_name(command.model), find_recipe(command.data.preprocess, command.model)};
  }
  const std::optional<PreprocessRecipe> recipe =
      command.data.preprocess.empty() ? fresh_recipe(command.arch) : find_recipe(command.data.preprocess, command.model);
  const auto dataset =
      open_dataset(command.data.data, {.inputs = {}, .recipe = recipe, .max_samples = command.data.samples, .seed = command.data.seed});
  if (dataset->size() == 0) throw Error(ErrorCode::kInvalidData, fmt::format("{}: holds no samples", command.data.data));
  const Sample sample = dataset->sample(0);
  if (sample.inputs.size() != 1 || sample.inputs[0].rank() != 4)
    throw Error(ErrorCode::kInvalidArgument, fmt::format("--arch {}: takes images [1,channels,height,width], not samples of shape {}",
                                                         command.arch, sample.inputs.empty() ? "[]" : to_string(sample.inputs[0].shape())));
  const Shape& shape = sample.inputs[0].shape();
  Graph graph = make_architecture(command.arch, {shape[1], shape[2], shape[3]}, classes_in(*dataset, command.data.data), command.data.seed);
  return {std::move(graph), command.arch, recipe};
}

}  // namespace nibble::cli
