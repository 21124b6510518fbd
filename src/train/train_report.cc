#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "nibble/train.h"

namespace nibble {

std::string to_json(const TrainReport& report, const std::optional<RuntimeCheck>& runtime) {
  using Json = nlohmann::ordered_json;
  Json epochs = Json::array();
  for (const EpochReport& epoch : report.epochs) {
    epochs.push_back({{"epoch", epoch.epoch},
                      {"loss", epoch.loss},
                      {"train_top1", epoch.train_top1},
                      {"eval_top1", epoch.eval_top1},
                      {"learning_rate", epoch.learning_rate},
                      {"seconds", epoch.seconds},
                      {"images_per_second", epoch.images_per_second}});
  }
  Json object = {{"images", report.images},       {"eval_images", report.eval_images},
                 {"steps", report.steps},         {"parameters", report.parameters},
                 {"processes", report.processes}, {"initial_top1", report.initial_top1},
                 {"eval_top1", report.eval_top1}, {"runtime_top1", nullptr},
                 {"runtime_agreement", nullptr},  {"epochs", epochs},
                 {"notes", report.notes}};
  if (runtime) {
    object["runtime_top1"] = runtime->top1;
    object["runtime_agreement"] = runtime->agreement;
  }
  return object.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string to_text(const TrainReport& report, const std::optional<RuntimeCheck>& runtime) {
  std::string text = fmt::format("top-1 before training        {:.2f} % (on the grids that training starts with)\n", report.initial_top1);
  text += fmt::format("top-1 after the last epoch   {:.2f} % of {} samples (the trainer's own)\n", report.eval_top1, report.eval_images);
  if (runtime) {
    text += fmt::format("top-1 of the written model   {:.2f} % (in the runtime)\n", runtime->top1);
    text += fmt::format("same class in both           {:.2f} %\n", runtime->agreement);
  }
  return text;
}

}  // namespace nibble
