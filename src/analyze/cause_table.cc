#include <array>
#include <vector>

#include "analyze/cause.h"

namespace nibble {
namespace {

constexpr std::array kRows = {
    CauseRow{{"channel_order", "the channels are the wrong way round (RGB, BGR)", "channel_order in the preprocessing recipe"},
             CauseTier::kFloat,
             find_preprocessing},
    CauseRow{{"input_scale", "the samples' scale is not what the network was trained on (0..255 against 0..1)",
              "divide, mean and std in the recipe"},
             CauseTier::kFloat,
             nullptr},
    CauseRow{{"input_mean", "the samples' mean is not what the network was trained on", "mean in the recipe"}, CauseTier::kFloat, nullptr},
    CauseRow{{"clipped_activation", "a Clip (ReLU6) cuts off what the next layers need", "ReLU in its place"},
             CauseTier::kFloat,
             find_saturation},
    CauseRow{{"one_class_calibration", "the calibration data shows one class", "--data with samples of all classes"},
             CauseTier::kQuantization,
             find_calibration},
    CauseRow{{"bias_overflow", "a bias does not fit into 32 bits at its layer's scale, which was widened", "--nodes-to-exclude"},
             CauseTier::kQuantization,
             find_overflow},
    CauseRow{{"weight_channel_ranges", "one scale serves weight channels of very different ranges", "--per-channel"},
             CauseTier::kQuantization,
             find_weight_channels},
    CauseRow{{"activation_channel_ranges", "one channel's range is many times the others' of the same tensor",
              "--methods equalization, or the layer in float"},
             CauseTier::kQuantization,
             find_activation_channels},
    CauseRow{{"outlier_activation", "a few extreme values set the scale of all others", "--calibrate-method"},
             CauseTier::kQuantization,
             find_outlier_activations},
    CauseRow{{"clipped_range", "a range is narrower than what flows", "--calibrate-method min_max on representative data"},
             CauseTier::kQuantization,
             find_clipped_ranges},
    CauseRow{{"dead_layer", "a layer's outputs, or most of its channels, never change",
              "a look at the model: it was damaged, or the data does not reach it"},
             CauseTier::kQuantization,
             find_dead},
};

constexpr auto kInfos = [] {
  std::array<CauseInfo, kRows.size()> infos{};
  for (std::size_t i = 0; i < infos.size(); ++i) infos[i] = kRows[i].info;
  return infos;
}();

}  // namespace

std::span<const CauseInfo> cause_table() { return kInfos; }
std::span<const CauseRow> cause_rows() {
  // Not constexpr: under -fsanitize=undefined the address of a function is no constant to compare with null.
  static const std::vector<CauseRow> finders = [] {
    std::vector<CauseRow> rows(kRows.begin(), kRows.end());
    std::erase_if(rows, [](const CauseRow& row) { return row.find == nullptr; });  // found by another row's detector
    return rows;
  }();
  return finders;
}

}  // namespace nibble
