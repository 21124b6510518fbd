#include <array>
#include <string>

#include "base/fail.h"
#include "nibble/train.h"
#include "train/quantizer_list.h"

namespace nibble {
namespace train {
namespace {

// In the order of `nibble list`: from many bits to one.
const QuantizerRow* const kRows[] = {
    &kEma, &kLsq, &kLsqPlus, &kTqt, &kDynamicFixedPoint, &kPact, &kSawb, &kRelu1, &kRelu6, &kReluClip, &kDorefa, &kWrpn,
    &kInq, &kTtq, &kTwn,     &kAbc, &kBinaryConnect,     &kXnor, &kBnn};

}  // namespace

std::span<const QuantizerRow* const> quantizer_table() { return kRows; }

const QuantizerRow& find_quantizer(std::string_view name) {
  std::string known;
  for (const QuantizerRow* row : kRows) {
    if (row->name == name) return *row;
    known += known.empty() ? "" : ", ";
    known += row->name;
  }
  fail(ErrorCode::kInvalidArgument, "no training method is called '{}'; known: none, {}", name, known);
}

}  // namespace train

std::vector<TrainMethodInfo> train_method_table() {
  std::vector<TrainMethodInfo> infos;
  for (const train::QuantizerRow* row : train::quantizer_table()) {
    infos.push_back({row->name, row->summary, row->source, row->options, row->make_weight != nullptr, row->make_activation != nullptr,
                     row->make_gradient != nullptr});
  }
  return infos;
}

}  // namespace nibble
