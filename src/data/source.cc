#include "data/source.h"

#include "base/fail.h"
#include "data/recipe.h"

namespace nibble {
namespace {

void hash_any(const Dataset& dataset, std::int64_t index, Hasher& hasher) {
  if (const auto* source = dynamic_cast<const Source*>(&dataset)) {
    source->hash_sample(index, hasher);
    return;
  }
  const Sample sample = dataset.sample(index);
  hasher.add(sample.name);
  for (const Tensor& input : sample.inputs) hasher.add({reinterpret_cast<const char*>(input.bytes()), input.size_bytes()});
}

class Subset final : public Source {
 public:
  Subset(std::shared_ptr<const Dataset> base, std::vector<std::int64_t> indices) : base_(std::move(base)), indices_(std::move(indices)) {
    for (const std::int64_t index : indices_) {
      if (index < 0 || index >= base_->size())
        fail(ErrorCode::kInvalidArgument, "sample {} was asked for, but {} has {}", index, base_->description(), base_->size());
    }
  }
  std::int64_t size() const override { return static_cast<std::int64_t>(indices_.size()); }
  Sample sample(std::int64_t index) const override { return base_->sample(at(index)); }
  bool has_labels() const override { return base_->has_labels(); }
  std::string description() const override { return fmt::format("{} of {}", indices_.size(), base_->description()); }
  bool is_random() const override { return base_->is_random(); }
  std::int64_t class_count() const override { return base_->class_count(); }
  std::int64_t label_offset() const override { return base_->label_offset(); }
  std::optional<std::int64_t> label(std::int64_t index) const override {
    if (const auto* source = dynamic_cast<const Source*>(base_.get())) return source->label(at(index));
    return base_->sample(at(index)).label;
  }
  void hash_sample(std::int64_t index, Hasher& hasher) const override { hash_any(*base_, at(index), hasher); }

 private:
  std::int64_t at(std::int64_t index) const { return indices_.at(static_cast<std::size_t>(index)); }
  std::shared_ptr<const Dataset> base_;
  std::vector<std::int64_t> indices_;
};

}  // namespace

std::string Source::hash() const {
  Hasher hasher;
  for (std::int64_t i = 0; i < size(); ++i) hash_sample(i, hasher);
  return hasher.hex();
}

std::unique_ptr<Dataset> subset(std::shared_ptr<const Dataset> dataset, std::vector<std::int64_t> indices) {
  return std::make_unique<Subset>(std::move(dataset), std::move(indices));
}

PreprocessRecipe need_recipe(const DatasetOptions& options, const std::string& spec) {
  if (options.recipe) return *options.recipe;
  fail(ErrorCode::kInvalidArgument,
       "{}: images need a preprocessing recipe, and none was found: write MODEL.preprocess.json beside the model (or give --preprocess "
       "FILE), for "
       "example {}",
       spec, kExampleRecipe);
}

}  // namespace nibble
