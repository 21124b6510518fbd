// Dataset: labelled or unlabelled samples, ready to be fed to a network.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nibble/graph.h"
#include "nibble/tensor.h"

namespace nibble {

// Image preprocessing, applied in this order: resize, centre crop, channel order, (x / divide - mean) / std, layout.
struct PreprocessRecipe {
  enum class Resize { kNone, kShortSide, kExact, kLetterbox };
  enum class ChannelOrder { kRgb, kBgr, kGray };
  enum class Layout { kNchw, kNhwc };
  Resize resize = Resize::kNone;
  std::int64_t short_side = 0;            // kShortSide: the other side is truncated to an integer
  std::int64_t height = 0, width = 0;     // kExact, kLetterbox
  double pad = 0;                         // kLetterbox: value of the empty area; the image is at the top left
  std::string filter = "bilinear";
  bool antialias = true;                  // as Pillow's Image.resize(..., BILINEAR)
  std::optional<std::pair<std::int64_t, std::int64_t>> center_crop;  // [h, w], offset round((n - crop) / 2)
  ChannelOrder channel_order = ChannelOrder::kRgb;
  double divide = 1;
  std::vector<double> mean;  // empty: 0; one value, or one a channel
  std::vector<double> std;   // empty: 1
  Layout layout = Layout::kNchw;
  std::int64_t label_offset = 0;  // argmax - label_offset is the label
};
// Reads the JSON form (unknown keys are errors). Throws Error{kInvalidData} naming file and key.
PreprocessRecipe parse_recipe(const std::string& json_text, const std::string& origin);
std::string to_json(const PreprocessRecipe& recipe);
// `explicit_path` if not empty, else MODEL.preprocess.json beside the model (MODEL without ".onnx"), else nullopt.
std::optional<PreprocessRecipe> find_recipe(const std::string& explicit_path, const std::string& model_path);
// The path of the recipe that find_recipe would read for a model ("dir/net.onnx" -> "dir/net.preprocess.json").
std::string recipe_path_for(const std::string& model_path);

// One network input that a dataset has to fill.
struct InputSpec {
  std::string name;
  TensorType type;
};
std::vector<InputSpec> input_specs(const Graph& graph);

struct Sample {
  std::vector<Tensor> inputs;             // in the order of the network's inputs, each with its batch axis (size 1, or the file's own batch)
  std::optional<std::int64_t> label;
  std::string name;                       // file or row, for messages
};

// A sequence of samples. sample(i) may be called from several threads at once and always gives the same values.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  virtual Sample sample(std::int64_t index) const = 0;
  virtual bool has_labels() const = 0;
  virtual std::string description() const = 0;  // "400 images with labels in DIR"
  virtual bool is_random() const { return false; }
  // Hash (hex) over the samples' names and raw bytes, in order; equal data gives an equal hash on every machine.
  virtual std::string hash() const = 0;
  // Class count known from the data, 0 if not.
  virtual std::int64_t class_count() const { return 0; }
  virtual std::int64_t label_offset() const { return 0; }
};

struct DatasetOptions {
  std::vector<InputSpec> inputs;
  std::optional<PreprocessRecipe> recipe;  // images without one: Error{kInvalidArgument} that shows a recipe to copy
  std::int64_t max_samples = 0;            // 0: all. Fewer than there are: a seeded draw, spread over the classes, kept in file order
  std::uint64_t seed = 0;
};
// `spec`: a folder of images; a folder with labels.csv; one folder a class; a folder or list file (.txt) of .npy; an .npz; MNIST IDX (plain or
// gzip; the images file, or the folder that holds it and its labels); CIFAR-10 binary (file or folder); an ONNX test_data_set_N folder (or the folder
// above several); "random" / "random:SEED". Throws Error naming file and row.
std::unique_ptr<Dataset> open_dataset(const std::string& spec, const DatasetOptions& options);
// The samples first, first + step, first + 2 step ... (calibration shards; contiguous with `count`).
std::unique_ptr<Dataset> subset(std::shared_ptr<const Dataset> dataset, std::vector<std::int64_t> indices);

// NumPy files. read_npy accepts C and Fortran order, little and big endian, bool/int/uint/float16/32/64.
Tensor read_npy(const std::string& path);
void write_npy(const std::string& path, const Tensor& tensor);  // temporary file + rename
std::vector<std::pair<std::string, Tensor>> read_npz(const std::string& path);

// Decoded 8-bit RGB image [H, W, 3]; JPEG or PNG by content. EXIF orientation is ignored; grey, palette and alpha become RGB.
Tensor read_image(const std::string& path);
// Applies a recipe to [H, W, 3] uint8; gives float32 [1, C, H, W] or [1, H, W, C].
Tensor preprocess(const Tensor& image, const PreprocessRecipe& recipe);

}  // namespace nibble
