// Random data for smoke tests: nothing that is measured with it says anything about accuracy.
#include "base/fail.h"
#include "data/draw.h"
#include "data/source.h"
#include "tensor/dispatch.h"

namespace nibble {
namespace {

constexpr std::int64_t kDefaultSamples = 32;

// Normal values for floats, the whole range for 8-bit integers, 0 and 1 for wider ones (they are mostly indices and masks).
Tensor random_tensor(DataType type, const Shape& shape, SplitMix64& random) {
  Tensor tensor(type, shape);
  if (is_float(type)) {
    Tensor values(DataType::kFloat32, shape);
    for (float& value : values.mutable_data<float>()) value = random.normal();
    return cast(values, type);
  }
  dispatch(type, [&]<typename T>() {
    for (T& value : tensor.mutable_data<T>()) {
      if constexpr (sizeof(T) == 1 && !std::is_same_v<T, bool>) {
        value = static_cast<T>(random.below(256));
      } else {
        value = static_cast<T>(random.below(2));
      }
    }
  });
  if (type == DataType::kInt4 || type == DataType::kUInt4) return cast(cast(tensor, DataType::kInt32), type);
  return tensor;
}

class Random final : public Source {
 public:
  Random(std::uint64_t seed, const DatasetOptions& options) : seed_(seed) {
    for (const InputSpec& input : options.inputs) {
      if (!input.type.has_rank || input.type.dtype == DataType::kUndefined)
        fail(ErrorCode::kInvalidArgument, "random data: the network's input '{}' has no known shape ({}); give real data", input.name,
             to_string(input.type));
      Shape shape;
      for (const Dim& dim : input.type.dims) shape.push_back(dim.known() ? dim.size : 1);
      inputs_.emplace_back(input.type.dtype, std::move(shape));
    }
    size_ = options.max_samples > 0 ? options.max_samples : kDefaultSamples;
  }
  std::int64_t size() const override { return size_; }
  bool has_labels() const override { return false; }
  bool is_random() const override { return true; }
  std::optional<std::int64_t> label(std::int64_t) const override { return std::nullopt; }
  std::string description() const override {
    return fmt::format("{} samples of RANDOM data (seed {}): for smoke tests only", size_, seed_);
  }
  Sample sample(std::int64_t index) const override {
    // Two rounds of mixing keep the streams of neighbouring seeds and samples apart.
    SplitMix64 mixer(seed_);
    SplitMix64 random(mixer.next() ^ SplitMix64(static_cast<std::uint64_t>(index)).next());
    Sample sample;
    sample.name = fmt::format("random[{}]", index);
    for (const auto& [type, shape] : inputs_) sample.inputs.push_back(random_tensor(type, shape, random));
    return sample;
  }
  void hash_sample(std::int64_t index, Hasher& hasher) const override {
    hasher.add(fmt::format("random[{}] of seed {}", index, seed_));
    for (const auto& [type, shape] : inputs_) hasher.add(fmt::format("{}{}", to_string(type), to_string(shape)));
  }

 private:
  std::uint64_t seed_;
  std::vector<std::pair<DataType, Shape>> inputs_;
  std::int64_t size_ = 0;
};

}  // namespace

std::unique_ptr<Source> open_random(std::uint64_t seed, const DatasetOptions& options) { return std::make_unique<Random>(seed, options); }

}  // namespace nibble
