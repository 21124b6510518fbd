// Which kind of data a SPEC is: decided by names alone, so that the same folder is always read the same way.
#include <algorithm>
#include <charconv>
#include <new>

#include "base/fail.h"
#include "data/draw.h"
#include "data/files.h"
#include "data/source.h"

namespace nibble {
namespace {

constexpr std::string_view kForms =
    "a folder of images (.jpg, .jpeg, .png) or .npy files, a folder with labels.csv, one folder a class, a list file (.txt), an .npz or "
    ".npy file, MNIST "
    "IDX, CIFAR-10 .bin, an ONNX test_data_set folder, or random[:SEED]";

std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 4;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kMost); ++i) text += fmt::format("{}{}", i > 0 ? ", " : "", printable(names[i]));
  return names.size() > kMost ? text + ", ..." : text;
}

std::vector<std::string> matching(const std::vector<std::string>& names, bool (*match)(const std::string&)) {
  std::vector<std::string> found;
  std::copy_if(names.begin(), names.end(), std::back_inserter(found), match);
  return found;
}

bool is_training_batch(const std::string& name) { return name.starts_with("data_batch_") && name.ends_with(".bin"); }
bool is_test_batch(const std::string& name) { return name == "test_batch.bin"; }
bool is_onnx_input(const std::string& name) { return name.starts_with("input_") && name.ends_with(".pb"); }

// N of "test_data_set_N".
std::optional<std::int64_t> test_set_number(const std::string& name) {
  constexpr std::string_view kPrefix = "test_data_set_";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t number = 0;
  const char* last = name.data() + name.size();
  const auto [end, error] = std::from_chars(name.data() + kPrefix.size(), last, number);
  if (error != std::errc() || end != last) return std::nullopt;
  return number;
}

std::vector<std::string> test_sets(const std::string& folder, const std::vector<std::string>& folders) {
  std::vector<std::pair<std::int64_t, std::string>> numbered;
  for (const std::string& name : folders) {
    if (const auto number = test_set_number(name)) numbered.emplace_back(*number, join_path(folder, name));
  }
  std::sort(numbered.begin(), numbered.end());
  std::vector<std::string> paths;
  for (auto& [number, path] : numbered) paths.push_back(std::move(path));
  return paths;
}

std::vector<std::string> in_folder(const std::string& folder, const std::vector<std::string>& names) {
  std::vector<std::string> paths;
  for (const std::string& name : names) paths.push_back(join_path(folder, name));
  return paths;
}

std::unique_ptr<Source> open_folder(const std::string& folder, const DatasetOptions& options) {
  const FolderListing listing = list_folder(folder);
  const auto has = [&](bool (*match)(const std::string&)) { return std::any_of(listing.files.begin(), listing.files.end(), match); };
  if (std::find(listing.files.begin(), listing.files.end(), "labels.csv") != listing.files.end())
    return open_labels_csv(join_path(folder, "labels.csv"), options);

  if (has(is_onnx_input)) return open_test_data_sets({folder}, folder, options);
  if (const auto sets = test_sets(folder, listing.folders); !sets.empty()) return open_test_data_sets(sets, folder, options);

  if (const auto idx = matching(listing.files, is_idx_images_name); !idx.empty()) {
    if (idx.size() > 1)
      fail(ErrorCode::kInvalidArgument, "{}: holds {} IDX image files ({}); name the one you mean", folder, idx.size(),
           listed(in_folder(folder, idx)));
    return open_idx(join_path(folder, idx.front()), options);
  }
  const auto training = matching(listing.files, is_training_batch);
  const bool test = has(is_test_batch);
  if (!training.empty() && test)
    fail(ErrorCode::kInvalidArgument, "{}: holds both CIFAR-10's training and test batches; name the one you mean: {} or {}", folder,
         join_path(folder, "data_batch"), join_path(folder, "test_batch.bin"));
  if (!training.empty()) return open_cifar(in_folder(folder, training), folder, options);
  if (test) return open_cifar({join_path(folder, "test_batch.bin")}, folder, options);

  const auto is_sample = [](const std::string& name) { return is_image_name(name) || is_npy_name(name); };
  if (has(is_sample)) return open_flat_folder(folder, options);

  std::vector<std::string> classes;
  for (const std::string& name : listing.folders) {
    const auto files = list_folder(join_path(folder, name)).files;
    if (std::any_of(files.begin(), files.end(), is_sample)) classes.push_back(name);
  }
  // A single folder is hardly a classification; it is what one sees a level too high.
  if (classes.size() == 1 && listing.folders.size() == 1)
    fail(ErrorCode::kInvalidArgument, "{}: holds no samples itself and one folder that does; give {} instead", folder,
         join_path(folder, classes.front()));
  if (!classes.empty()) return open_class_folders(folder, options);

  fail(ErrorCode::kInvalidData, "{}: holds no data that nibble reads (found {}); expected {}", folder,
       listing.files.empty() && listing.folders.empty() ? "nothing" : listed(listing.files.empty() ? listing.folders : listing.files),
       kForms);
}

// "mnist/t10k" for mnist/t10k-images-idx3-ubyte.gz, "cifar/data_batch" for its five files: names that are not files, but begin some.
std::unique_ptr<Source> open_prefix(const std::string& spec, const DatasetOptions& options) {
  const std::string folder = parent_path(spec);
  const std::string prefix = file_name(spec);
  if (!prefix.empty() && path_kind(folder.empty() ? "." : folder) == PathKind::kFolder) {
    std::vector<std::string> names = list_folder(folder.empty() ? "." : folder).files;
    std::erase_if(names, [&](const std::string& name) { return !name.starts_with(prefix); });
    const auto idx = matching(names, is_idx_images_name);
    if (idx.size() == 1) return open_idx(join_path(folder, idx.front()), options);
    const auto training = matching(names, is_training_batch);
    if (prefix == "data_batch" && !training.empty()) return open_cifar(in_folder(folder, training), spec, options);
  }
  fail(ErrorCode::kNotFound, "{}: the data does not exist; expected {}", spec, kForms);
}

std::unique_ptr<Source> open_source(const std::string& spec, const DatasetOptions& options) {
  if (spec.empty()) fail(ErrorCode::kInvalidArgument, "no data was given; expected {}", kForms);
  if (spec == "random") return open_random(options.seed, options);
  if (constexpr std::string_view kRandom = "random:"; spec.starts_with(kRandom)) {
    std::uint64_t seed = 0;
    const char* last = spec.data() + spec.size();
    const auto [end, error] = std::from_chars(spec.data() + kRandom.size(), last, seed);
    if (error != std::errc() || end != last)
      fail(ErrorCode::kInvalidArgument, "{}: the seed must be an integer from 0 to 2^64 - 1, as in random:7", in_quotes(spec));
    return open_random(seed, options);
  }
  switch (path_kind(spec)) {
    case PathKind::kMissing: return open_prefix(spec, options);
    case PathKind::kOther: fail(ErrorCode::kInvalidArgument, "{}: is a device or a pipe; expected {}", spec, kForms);
    case PathKind::kFolder: return open_folder(spec, options);
    case PathKind::kFile: break;
  }
  if (ends_with_no_case(spec, ".npz") || is_npy_name(spec)) return open_arrays(spec, options);
  if (ends_with_no_case(spec, ".txt")) return open_list(spec, options);
  if (ends_with_no_case(spec, ".csv")) return open_labels_csv(spec, options);
  if (ends_with_no_case(spec, ".bin")) return open_cifar({spec}, spec, options);
  const std::string name = file_name(spec);
  if (name.find("idx3") != std::string::npos || is_idx_images_name(name)) return open_idx(spec, options);
  if (name.find("idx1") != std::string::npos)
    fail(ErrorCode::kInvalidArgument, "{}: is a file of labels; give the file of images beside it", spec);
  if (is_image_name(spec))
    fail(ErrorCode::kInvalidArgument, "{}: is a single image; give the folder that holds it, or a list file (.txt) with its name", spec);
  fail(ErrorCode::kInvalidArgument, "{}: is of no kind that nibble reads as data; expected {}", spec, kForms);
}

}  // namespace

std::vector<InputSpec> input_specs(const Graph& graph) {
  std::vector<InputSpec> specs;
  for (const ValueId id : graph.inputs()) specs.push_back({graph.value(id).name, graph.value(id).type});
  return specs;
}

std::unique_ptr<Dataset> open_dataset(const std::string& spec, const DatasetOptions& options) {
  if (options.max_samples < 0) fail(ErrorCode::kInvalidArgument, "the number of samples cannot be {}; 0 takes all", options.max_samples);
  try {
    std::unique_ptr<Source> source = open_source(spec, options);
    const std::int64_t size = source->size();
    if (options.max_samples == 0 || options.max_samples >= size) return source;
    std::vector<std::int64_t> labels;
    if (source->has_labels()) {
      for (std::int64_t i = 0; i < size; ++i) labels.push_back(source->label(i).value_or(0));
    }
    auto drawn = draw_samples(size, options.max_samples, options.seed, labels);
    return subset(std::move(source), std::move(drawn));
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::kIo, "{}: there is not enough memory to read the data", spec);
  }
}

}  // namespace nibble
