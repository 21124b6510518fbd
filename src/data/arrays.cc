// Arrays whose first axis counts samples: .npz (one array an input, by name) and single .npy files. Held in memory; a sample is a copied
// slice.
#include <algorithm>
#include <cstring>

#include "base/fail.h"
#include "data/files.h"
#include "data/fit.h"
#include "data/source.h"

namespace nibble {
namespace {

using NamedArrays = std::vector<std::pair<std::string, Tensor>>;

struct Column {
  Tensor values;
  InputSpec spec;
  std::string origin;
  std::int64_t rows_per_sample = 0;  // 0: the array is one sample without its batch axis
};

// How an array feeds an input: sample after sample along its first axis, or as one sample.
Column make_column(const Tensor& values, const InputSpec& spec, const std::string& origin) {
  Column column{values, spec, origin, 1};
  const auto& dims = spec.type.dims;
  if (!spec.type.has_rank) {
    if (values.rank() == 0) column.rows_per_sample = 0;
    return column;
  }
  const auto rank = static_cast<std::int64_t>(dims.size());
  const bool whole = values.rank() + 1 == rank || rank == 0;
  if (!whole && values.rank() == rank && dims[0].known()) column.rows_per_sample = dims[0].size;
  if (whole) column.rows_per_sample = 0;
  // One sample's fit, tried here so that a wrong shape is an error before anything is run.
  const bool wrong_rank = !whole && values.rank() != rank;
  const bool wrong_rows = !whole && !wrong_rank && (column.rows_per_sample < 1 || values.shape()[0] % column.rows_per_sample != 0);
  bool wrong_axis = false;
  if (!wrong_rank) {
    const std::size_t offset = whole && rank > 0 ? 1 : 0;
    for (std::size_t i = whole ? 0 : 1; i < values.shape().size(); ++i) {
      if (i + offset < dims.size() && dims[i + offset].known() && dims[i + offset].size != values.shape()[i]) wrong_axis = true;
    }
    if (whole && rank > 0 && dims[0].known() && dims[0].size != 1) wrong_axis = true;
    if (rank == 0 && values.rank() != 0) wrong_axis = true;
  }
  if (wrong_rank || wrong_rows || wrong_axis)
    fail(ErrorCode::kInvalidData, "{}: the array is {}, but the network's input '{}' takes {} (the first axis counts samples)", origin,
         to_string(values.shape()), spec.name, to_string(spec.type));
  return column;
}

std::int64_t sample_count(const Column& column) {
  return column.rows_per_sample == 0 ? 1 : column.values.shape()[0] / column.rows_per_sample;
}

Tensor slice(const Column& column, std::int64_t index) {
  if (column.rows_per_sample == 0) return column.values;
  Shape shape = column.values.shape();
  shape[0] = column.rows_per_sample;
  Tensor part(column.values.type(), std::move(shape));
  if (part.size_bytes() > 0)
    std::memcpy(part.mutable_bytes(), column.values.bytes() + static_cast<std::size_t>(index) * part.size_bytes(), part.size_bytes());
  return part;
}

class Arrays final : public Source {
 public:
  Arrays(std::vector<Column> columns, std::vector<std::int64_t> labels, std::string spec, std::string unused)
      : columns_(std::move(columns)), labels_(std::move(labels)), spec_(std::move(spec)), unused_(std::move(unused)) {
    size_ = sample_count(columns_.front());
    for (const Column& column : columns_) {
      if (sample_count(column) != size_)
        fail(ErrorCode::kInvalidData, "{} has {} samples, but {} has {}; every input needs as many", column.origin, sample_count(column),
             columns_.front().origin, size_);
    }
  }
  std::int64_t size() const override { return size_; }
  bool has_labels() const override { return !labels_.empty(); }
  std::optional<std::int64_t> label(std::int64_t index) const override {
    if (labels_.empty()) return std::nullopt;
    return labels_.at(static_cast<std::size_t>(index));
  }
  std::string description() const override {
    return fmt::format("{} samples{} in {}{}", size_, labels_.empty() ? "" : " with labels", spec_,
                       unused_.empty() ? "" : fmt::format(" (not used: {})", unused_));
  }
  Sample sample(std::int64_t index) const override {
    Sample sample;
    sample.name = name(index);
    sample.label = label(index);
    for (const Column& column : columns_)
      sample.inputs.push_back(
          fit_input(slice(column, index), column.spec, ValueKind::kArray, fmt::format("{} row {}", column.origin, index)));
    return sample;
  }
  void hash_sample(std::int64_t index, Hasher& hasher) const override {
    hasher.add(name(index));
    for (const Column& column : columns_) {
      const Tensor part = slice(column, index);
      hasher.add({reinterpret_cast<const char*>(part.bytes()), part.size_bytes()});
    }
  }

 private:
  std::string name(std::int64_t index) const { return fmt::format("{}[{}]", file_name(spec_), index); }
  std::vector<Column> columns_;
  std::vector<std::int64_t> labels_;
  std::string spec_;
  std::string unused_;
  std::int64_t size_ = 0;
};

std::string names_of(const NamedArrays& arrays) {
  std::string names;
  for (const auto& [name, values] : arrays) names += fmt::format("{}{}", names.empty() ? "" : ", ", in_quotes(name));
  return names;
}

bool is_labels_name(const std::string& name) { return name == "label" || name == "labels"; }

// One label a sample, if the archive has an array called label or labels that no input takes.
std::vector<std::int64_t> read_labels(const Tensor& values, std::int64_t samples, const std::string& origin) {
  if (!is_integer(values.type()) || values.size() != samples)
    fail(ErrorCode::kInvalidData, "{}: labels must be {} integers, one a sample, not {} {}", origin, samples, to_string(values.type()),
         to_string(values.shape()));
  const Tensor wide = convert_elements(values, DataType::kInt64, ValueKind::kArray, origin);
  const auto data = wide.data<std::int64_t>();
  const auto negative = std::find_if(data.begin(), data.end(), [](std::int64_t label) { return label < 0; });
  if (negative != data.end()) fail(ErrorCode::kInvalidData, "{}: the label {} is negative; classes are counted from 0", origin, *negative);
  return {data.begin(), data.end()};
}

std::unique_ptr<Source> make_arrays(NamedArrays arrays, const std::string& path, const DatasetOptions& options) {
  std::vector<InputSpec> inputs = options.inputs;
  const auto is_input = [&](const std::string& name) {
    return std::any_of(inputs.begin(), inputs.end(), [&](const InputSpec& input) { return input.name == name; });
  };
  NamedArrays labels;
  for (auto it = arrays.begin(); it != arrays.end();) {
    if (is_labels_name(it->first) && !is_input(it->first) && arrays.size() > 1 && labels.empty()) {
      labels.push_back(*it);
      it = arrays.erase(it);
    } else {
      ++it;
    }
  }
  if (inputs.empty()) {
    for (const auto& [name, values] : arrays) inputs.push_back({name, {}});
  }
  std::vector<Column> columns;
  std::vector<bool> used(arrays.size(), false);
  for (const InputSpec& input : inputs) {
    std::size_t found = 0;
    while (found < arrays.size() && arrays[found].first != input.name) ++found;
    // One array for one input needs no name: NumPy calls it arr_0.
    if (found == arrays.size() && arrays.size() == 1 && inputs.size() == 1) found = 0;
    if (found == arrays.size())
      fail(ErrorCode::kInvalidData, "{}: has no array for the network's input '{}'; found {}; name each array after its input", path,
           input.name, names_of(arrays));
    used[found] = true;
    const std::string& name = arrays[found].first;
    columns.push_back(make_column(arrays[found].second, input, name.empty() ? path : fmt::format("{}: array {}", path, in_quotes(name))));
  }
  NamedArrays unused;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    if (!used[i]) unused.push_back(arrays[i]);
  }
  std::vector<std::int64_t> label_values;
  if (!labels.empty()) {
    for (const Column& column : columns) {
      if (column.rows_per_sample > 1)
        fail(ErrorCode::kUnsupported, "{}: labels cannot be given to a network with a fixed batch of {}", path, column.rows_per_sample);
    }
    label_values = read_labels(labels.front().second, sample_count(columns.front()),
                               fmt::format("{}: array {}", path, in_quotes(labels.front().first)));
  }
  return std::make_unique<Arrays>(std::move(columns), std::move(label_values), path, names_of(unused));
}

}  // namespace

std::unique_ptr<Source> open_arrays(const std::string& path, const DatasetOptions& options) {
  if (!is_npy_name(path)) return make_arrays(read_npz(path), path, options);
  const InputSpec input = single_input(options.inputs, "an .npy file", path);
  NamedArrays arrays{{"", read_npy(path)}};
  DatasetOptions named = options;
  if (!named.inputs.empty()) named.inputs = {input};
  return make_arrays(std::move(arrays), path, named);
}

}  // namespace nibble
