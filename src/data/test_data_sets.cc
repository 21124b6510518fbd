// ONNX's own test data: folders test_data_set_0, _1, ... with input_0.pb, input_1.pb, ...; one folder is one sample.
#include <algorithm>

#include "base/fail.h"
#include "data/files.h"
#include "data/fit.h"
#include "data/source.h"
#include "nibble/onnx.h"

namespace nibble {
namespace {

class TestDataSets final : public Source {
 public:
  TestDataSets(std::vector<std::string> sets, std::string spec, const DatasetOptions& options)
      : sets_(std::move(sets)), spec_(std::move(spec)), inputs_(options.inputs) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(sets_.size()); }
  bool has_labels() const override { return false; }
  std::optional<std::int64_t> label(std::int64_t) const override { return std::nullopt; }
  std::string description() const override { return fmt::format("{} ONNX test data set{} in {}", size(), size() == 1 ? "" : "s", spec_); }
  Sample sample(std::int64_t index) const override {
    const std::string& set = folder(index);
    const std::vector<std::string> files = input_files(set);
    std::vector<NamedTensor> tensors;
    for (const std::string& file : files) tensors.push_back(read_onnx_tensor(file));
    Sample sample;
    sample.name = file_name(set);
    if (inputs_.empty()) {
      for (NamedTensor& tensor : tensors) sample.inputs.push_back(std::move(tensor.tensor));
      return sample;
    }
    if (tensors.size() != inputs_.size())
      fail(ErrorCode::kInvalidData, "{}: holds {} input files, but the network has {} inputs", set, tensors.size(), inputs_.size());
    // By name where the files name their tensors after the inputs, else by position.
    const bool by_name = std::all_of(inputs_.begin(), inputs_.end(), [&](const InputSpec& input) {
      return std::count_if(tensors.begin(), tensors.end(), [&](const NamedTensor& tensor) { return tensor.name == input.name; }) == 1;
    });
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      std::size_t from = i;
      if (by_name) {
        from = 0;
        while (tensors[from].name != inputs_[i].name) ++from;
      }
      sample.inputs.push_back(fit_input(tensors[from].tensor, inputs_[i], ValueKind::kArray, files[from]));
    }
    return sample;
  }
  void hash_sample(std::int64_t index, Hasher& hasher) const override {
    hasher.add(file_name(folder(index)));
    for (const std::string& file : input_files(folder(index))) hasher.add(read_regular_file(file, "the tensor"));
  }

 private:
  const std::string& folder(std::int64_t index) const { return sets_.at(static_cast<std::size_t>(index)); }
  // input_0.pb, input_1.pb, ... without a gap.
  static std::vector<std::string> input_files(const std::string& set) {
    std::vector<std::string> files;
    for (;;) {
      std::string path = join_path(set, fmt::format("input_{}.pb", files.size()));
      if (path_kind(path) != PathKind::kFile) break;
      files.push_back(std::move(path));
    }
    const FolderListing listing = list_folder(set);
    const auto there = std::count_if(listing.files.begin(), listing.files.end(),
                                     [](const std::string& name) { return name.starts_with("input_") && name.ends_with(".pb"); });
    if (there != static_cast<std::int64_t>(files.size()))
      fail(ErrorCode::kInvalidData, "{}: input_{}.pb is missing, but {} input files are there", set, files.size(), there);
    return files;
  }
  std::vector<std::string> sets_;
  std::string spec_;
  std::vector<InputSpec> inputs_;
};

}  // namespace

std::unique_ptr<Source> open_test_data_sets(const std::vector<std::string>& sets, const std::string& spec, const DatasetOptions& options) {
  return std::make_unique<TestDataSets>(sets, spec, options);
}

}  // namespace nibble
