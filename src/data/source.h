// Source: a Dataset that nibble itself reads; what subsets and hashes need beyond the public interface.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "data/hasher.h"
#include "nibble/dataset.h"

namespace nibble {

class Source : public Dataset {
 public:
  // The label of a sample without reading it; the same in every sample() of it.
  virtual std::optional<std::int64_t> label(std::int64_t index) const = 0;
  // Adds the sample's name and its raw bytes, before any preprocessing.
  virtual void hash_sample(std::int64_t index, Hasher& hasher) const = 0;
  std::string hash() const final;
};

// One constructor a kind of data; open_dataset() chooses. All throw Error naming file and row.
// A folder's own images and arrays; with labels.csv; with one folder a class; a list file.
std::unique_ptr<Source> open_flat_folder(const std::string& folder, const DatasetOptions& options);
std::unique_ptr<Source> open_labels_csv(const std::string& csv_path, const DatasetOptions& options);
std::unique_ptr<Source> open_class_folders(const std::string& folder, const DatasetOptions& options);
std::unique_ptr<Source> open_list(const std::string& list_path, const DatasetOptions& options);
// .npz, or .npy with samples along its first axis.
std::unique_ptr<Source> open_arrays(const std::string& path, const DatasetOptions& options);
std::unique_ptr<Source> open_idx(const std::string& images_path, const DatasetOptions& options);
std::unique_ptr<Source> open_cifar(const std::vector<std::string>& paths, const std::string& spec, const DatasetOptions& options);
// `sets`: the test_data_set_N folders, in order.
std::unique_ptr<Source> open_test_data_sets(const std::vector<std::string>& sets, const std::string& spec, const DatasetOptions& options);
std::unique_ptr<Source> open_random(std::uint64_t seed, const DatasetOptions& options);

// True for "train-images-idx3-ubyte", "t10k-images.idx3-ubyte.gz" and such.
bool is_idx_images_name(const std::string& name);

// The recipe of a data set of images; without one Error{kInvalidArgument} that shows one to copy.
PreprocessRecipe need_recipe(const DatasetOptions& options, const std::string& spec);

}  // namespace nibble
