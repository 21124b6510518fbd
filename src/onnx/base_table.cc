#include "onnx/base_table.h"

#include <algorithm>
#include <cmath>

#include "quantize/weights.h"

namespace nibble {
namespace {

constexpr std::int64_t kMostColumns = 256;

// Element (channel, column) of the reals.
std::size_t place(const BaseTable& table, std::int64_t channels, std::int64_t channel, std::int64_t column) {
  return static_cast<std::size_t>(table.channel_axis == 1 ? column * channels + channel : channel * table.columns + column);
}

}  // namespace

std::optional<BaseTable> table_of(std::span<const WeightBase> bases) {
  if (bases.size() < 2) return std::nullopt;
  BaseTable table;
  const Shape& shape = bases[0].codes.shape();
  if (const auto* channel = std::get_if<PerChannel>(&bases[0].params.granularity)) table.channel_axis = channel->axis;
  if (table.channel_axis && *table.channel_axis != 0 && !(*table.channel_axis == 1 && shape.size() == 2)) return std::nullopt;
  std::vector<std::int64_t> index(static_cast<std::size_t>(bases[0].codes.size()), 0);
  struct Column {
    std::size_t base;
    float sign;
  };
  std::vector<Column> columns;
  for (std::size_t j = 0; j < bases.size(); ++j) {
    if (bases[j].params.granularity != bases[0].params.granularity || !bases[j].params.symmetric() || bases[j].codes.shape() != shape) return std::nullopt;
    const std::vector<std::int32_t> codes = codes_of(bases[j].codes);
    const std::size_t before = columns.size();
    for (const int sign : {1, -1}) {
      if (std::find(codes.begin(), codes.end(), sign) == codes.end()) continue;
      columns.push_back({.base = j, .sign = static_cast<float>(sign)});
      for (std::size_t i = 0; i < codes.size(); ++i) {
        if (codes[i] != sign) continue;
        if (index[i] != 0) return std::nullopt;
        index[i] = static_cast<std::int64_t>(columns.size());
      }
    }
    const bool ternary = std::all_of(codes.begin(), codes.end(), [](std::int32_t q) { return q >= -1 && q <= 1; });
    if (!ternary || columns.size() == before) return std::nullopt;
  }
  table.columns = static_cast<std::int64_t>(columns.size()) + 1;
  if (table.columns > kMostColumns) return std::nullopt;
  const auto channels = static_cast<std::int64_t>(bases[0].params.scale.size());
  Shape reals = {table.columns};
  if (table.channel_axis) reals.insert(table.channel_axis == 0 ? reals.begin() : reals.end(), channels);
  table.reals = Tensor::zeros(DataType::kFloat32, reals);
  auto values = table.reals.mutable_data<float>();
  for (std::size_t k = 0; k < columns.size(); ++k) {
    for (std::int64_t o = 0; o < channels; ++o)
      values[place(table, channels, o, static_cast<std::int64_t>(k) + 1)] = columns[k].sign * bases[columns[k].base].params.scale[static_cast<std::size_t>(o)];
  }
  std::vector<std::uint8_t> narrow;
  for (const std::int64_t i : index) narrow.push_back(static_cast<std::uint8_t>(i));
  table.indices = Tensor::from<std::uint8_t>(shape, narrow);
  return table;
}

std::optional<std::vector<WeightBase>> bases_of(const BaseTable& table) {
  const std::int64_t channels = table.channel_axis ? table.reals.shape()[table.channel_axis == 0 ? 0 : 1] : 1;
  if (table.columns < 2 || channels < 1 || table.reals.size() != table.columns * channels) return std::nullopt;
  const auto reals = table.reals.data<float>();
  const auto column = [&](std::int64_t k) {
    std::vector<float> values;
    for (std::int64_t o = 0; o < channels; ++o) values.push_back(reals[place(table, channels, o, k)]);
    return values;
  };
  const std::vector<float> zeros = column(0);
  if (std::any_of(zeros.begin(), zeros.end(), [](float x) { return x != 0; })) return std::nullopt;
  struct Meaning {
    std::size_t base = 0;
    std::int32_t code = 0;
  };
  std::vector<Meaning> meanings(1);
  std::vector<std::vector<float>> scales;
  for (std::int64_t k = 1; k < table.columns; ++k) {
    std::vector<float> values = column(k);
    const float sign = values[0] > 0 ? 1.0F : -1.0F;
    for (float& x : values) {
      x *= sign;
      if (!(x > 0) || !std::isfinite(x)) return std::nullopt;
    }
    // The negative of the column before: the same base.
    const bool same = k > 1 && sign < 0 && meanings.back().code > 0 && scales.back() == values;
    if (!same) scales.push_back(std::move(values));
    meanings.push_back({.base = scales.size() - 1, .code = sign > 0 ? 1 : -1});
  }
  std::vector<std::vector<std::int8_t>> codes(scales.size(), std::vector<std::int8_t>(static_cast<std::size_t>(table.indices.size()), 0));
  const std::vector<std::int32_t> indices = codes_of(table.indices);
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] < 0 || indices[i] >= table.columns) return std::nullopt;
    const Meaning& m = meanings[static_cast<std::size_t>(indices[i])];
    if (m.code != 0) codes[m.base][i] = static_cast<std::int8_t>(m.code);
  }
  std::vector<WeightBase> bases;
  for (std::size_t j = 0; j < scales.size(); ++j) {
    QuantParams params{.type = {.bit_width = 8, .is_signed = true, .narrow_range = true}, .granularity = PerTensor{}, .scale = scales[j], .zero_point = {}};
    if (table.channel_axis) params.granularity = PerChannel{*table.channel_axis};
    params.zero_point.assign(params.scale.size(), 0);
    bases.push_back({.codes = Tensor::from<std::int8_t>(table.indices.shape(), codes[j]), .params = std::move(params)});
  }
  return bases;
}

}  // namespace nibble
