// MNIST's IDX format, plain or gzip: two zero bytes, the element type (8: unsigned byte), the number of axes, the axes (32 bits, big
// endian), the elements. Images are [N, H, W]; the labels lie in a file of the same name with "labels" and "idx1".
#include <algorithm>
#include <array>

#include "base/checked.h"
#include "base/fail.h"
#include "data/bytes.h"
#include "data/files.h"
#include "data/fit.h"
#include "data/image.h"
#include "data/inflate.h"
#include "data/preprocess.h"
#include "data/source.h"

namespace nibble {
namespace {

struct IdxFile {
  std::string bytes;
  Shape shape;
  std::size_t start = 0;  // of the elements
  std::string_view elements() const { return std::string_view(bytes).substr(start); }
};

constexpr std::int64_t kLargestUnpacked = std::int64_t{1} << 32;

IdxFile read_idx(const std::string& path, std::size_t axes, std::string_view what) {
  IdxFile file;
  file.bytes = read_regular_file(path, what);
  if (is_gzip(file.bytes)) file.bytes = gunzip(file.bytes, kLargestUnpacked, path);
  const std::string_view bytes = file.bytes;
  file.start = 4 + 4 * axes;
  if (bytes.size() < 4 || bytes[0] != 0 || bytes[1] != 0)
    fail(ErrorCode::kInvalidData, "{}: is not an IDX file (it must begin with two zero bytes and the element type)", path);
  if (bytes[2] != 8)
    fail(ErrorCode::kUnsupported, "{}: IDX elements of type 0x{:02x}; only unsigned bytes (0x08) are read", path,
         static_cast<unsigned char>(bytes[2]));
  if (static_cast<std::size_t>(static_cast<unsigned char>(bytes[3])) != axes)
    fail(ErrorCode::kInvalidData, "{}: an IDX file with {} axes where {} has {}", path, static_cast<unsigned char>(bytes[3]), what, axes);
  if (bytes.size() < file.start) fail(ErrorCode::kInvalidData, "{}: the file is truncated inside its header", path);
  std::int64_t wanted = 1;
  for (std::size_t i = 0; i < axes; ++i) {
    file.shape.push_back(load_be<std::uint32_t>(bytes, 4 + 4 * i));
    const auto product = checked_mul(wanted, file.shape.back());
    if (!product) fail(ErrorCode::kInvalidData, "{}: shape {} is larger than any file: the file is damaged", path, to_string(file.shape));
    wanted = *product;
  }
  const auto found = static_cast<std::int64_t>(file.elements().size());
  if (found != wanted)
    fail(ErrorCode::kInvalidData, "{}: {}: shape {} takes {} bytes, {} are there", path,
         found < wanted ? "the file is truncated" : "more data than its shape has room for", to_string(file.shape), wanted, found);
  return file;
}

// The last "images" of the file's name, "labels" in its place, and idx1 for idx3.
std::optional<std::string> labels_path_for(const std::string& images_path) {
  const std::string dir = parent_path(images_path);
  std::string name = file_name(images_path);
  const auto at = name.rfind("images");
  if (at == std::string::npos) return std::nullopt;
  name.replace(at, 6, "labels");
  if (const auto idx = name.find("idx3", at); idx != std::string::npos) name.replace(idx, 4, "idx1");
  std::string path = join_path(dir, name);
  if (path_kind(path) == PathKind::kFile) return path;
  // One of the two may be packed and the other not.
  path = path.ends_with(".gz") ? path.substr(0, path.size() - 3) : path + ".gz";
  if (path_kind(path) == PathKind::kFile) return path;
  return std::nullopt;
}

class Idx final : public Source {
 public:
  Idx(const std::string& path, const DatasetOptions& options)
      : path_(path), input_(single_input(options.inputs, "IDX images", path)), images_(read_idx(path, 3, "an images file")) {
    if (images_.shape[0] > 0) check_image_size(images_.shape[1], images_.shape[2], path);
    if (options.recipe)
      recipe_ = *options.recipe;
    else
      recipe_.channel_order = PreprocessRecipe::ChannelOrder::kGray;
    has_recipe_ = options.recipe.has_value();
    const auto labels_path = labels_path_for(path);
    if (!labels_path) return;
    labels_ = read_idx(*labels_path, 1, "a labels file");
    if (labels_->shape[0] != images_.shape[0])
      fail(ErrorCode::kInvalidData, "{}: has {} labels for the {} images of {}", *labels_path, labels_->shape[0], images_.shape[0], path);
  }
  std::int64_t size() const override { return images_.shape[0]; }
  bool has_labels() const override { return labels_.has_value(); }
  std::int64_t label_offset() const override { return recipe_.label_offset; }
  std::optional<std::int64_t> label(std::int64_t index) const override {
    if (!labels_) return std::nullopt;
    return static_cast<unsigned char>(labels_->elements().at(static_cast<std::size_t>(index)));
  }
  std::string description() const override {
    return fmt::format("{} images{} in {}{}", size(), labels_ ? " with labels" : "", path_, has_recipe_ ? "" : " (raw 0..255: no recipe)");
  }
  Sample sample(std::int64_t index) const override {
    Sample sample;
    sample.name = name(index);
    sample.label = label(index);
    const std::string_view pixels = raw(index);
    Tensor image(DataType::kUInt8, {images_.shape[1], images_.shape[2], 3});
    auto* out = image.mutable_data<std::uint8_t>().data();
    for (const char pixel : pixels) {
      out[0] = out[1] = out[2] = static_cast<std::uint8_t>(pixel);
      out += 3;
    }
    const std::string origin = fmt::format("{} image {}", path_, index);
    sample.inputs.push_back(fit_input(preprocess_image(image, recipe_, origin), input_, ValueKind::kImage, origin));
    return sample;
  }
  void hash_sample(std::int64_t index, Hasher& hasher) const override {
    hasher.add(name(index));
    hasher.add(raw(index));
  }

 private:
  // The same for the packed and the plain file.
  std::string name(std::int64_t index) const {
    const std::string file = file_name(path_);
    return fmt::format("{}[{}]", file.ends_with(".gz") ? file.substr(0, file.size() - 3) : file, index);
  }
  std::string_view raw(std::int64_t index) const {
    const auto bytes = static_cast<std::size_t>(images_.shape[1] * images_.shape[2]);
    return images_.elements().substr(static_cast<std::size_t>(index) * bytes, bytes);
  }
  std::string path_;
  InputSpec input_;
  IdxFile images_;
  std::optional<IdxFile> labels_;
  PreprocessRecipe recipe_;
  bool has_recipe_ = false;
};

}  // namespace

bool is_idx_images_name(const std::string& name) {
  std::string stem = name;
  if (ends_with_no_case(stem, ".gz")) stem.resize(stem.size() - 3);
  return stem.find("images") != std::string::npos && (stem.ends_with("idx3-ubyte") || stem.ends_with(".idx") || stem.ends_with("idx3"));
}

std::unique_ptr<Source> open_idx(const std::string& images_path, const DatasetOptions& options) {
  auto source = std::make_unique<Idx>(images_path, options);
  if (source->size() == 0) fail(ErrorCode::kInvalidData, "{}: holds no images", images_path);
  return source;
}

}  // namespace nibble
