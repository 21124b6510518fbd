// Samples that are files of their own: images and .npy arrays, listed by a folder, by class folders, by labels.csv or by a list file.
#include <algorithm>
#include <map>
#include <set>

#include "base/fail.h"
#include "data/csv.h"
#include "data/files.h"
#include "data/fit.h"
#include "data/image.h"
#include "data/npy.h"
#include "data/preprocess.h"
#include "data/source.h"

namespace nibble {
namespace {

struct Entry {
  std::string path;
  std::string name;  // as the list or folder has it: the same wherever the data lies
  std::optional<std::int64_t> label;
};

class FileList final : public Source {
 public:
  FileList(std::vector<Entry> entries, std::string spec, const DatasetOptions& options, std::int64_t class_count)
      : entries_(std::move(entries)), spec_(std::move(spec)), class_count_(class_count) {
    arrays_ = std::count_if(entries_.begin(), entries_.end(), [](const Entry& entry) { return is_npy_name(entry.name); });
    input_ = single_input(options.inputs, arrays_ == size() ? "a list of .npy files" : "images", spec_);
    if (arrays_ < size()) recipe_ = need_recipe(options, spec_);
  }
  std::int64_t size() const override { return static_cast<std::int64_t>(entries_.size()); }
  bool has_labels() const override { return !entries_.empty() && entries_.front().label.has_value(); }
  std::int64_t class_count() const override { return class_count_; }
  std::int64_t label_offset() const override { return recipe_.label_offset; }
  std::optional<std::int64_t> label(std::int64_t index) const override { return entry(index).label; }
  std::string description() const override {
    return fmt::format("{} {}{} in {}", size(),
                       arrays_ == 0        ? "images"
                       : arrays_ == size() ? "arrays"
                                           : "images and arrays",
                       has_labels() ? " with labels" : "", spec_);
  }
  Sample sample(std::int64_t index) const override {
    const Entry& file = entry(index);
    Sample sample;
    sample.name = file.name;
    sample.label = file.label;
    const bool array = is_npy_name(file.name);
    const std::string origin = printable(file.path);
    const std::string bytes = read_regular_file(file.path, array ? "the .npy file" : "the image");
    if (array) {
      sample.inputs.push_back(fit_input(parse_npy(bytes, origin), input_, ValueKind::kArray, origin));
      const Tensor& input = sample.inputs.front();
      if (file.label && input_.type.has_rank && input.rank() > 0 && input.shape()[0] != 1)
        fail(ErrorCode::kInvalidData, "{}: holds a batch of {} ({}), but one label; save one sample a file", origin, input.shape()[0],
             to_string(input.shape()));
    } else {
      const Tensor image = preprocess_image(decode_image(bytes, origin), recipe_, origin);
      sample.inputs.push_back(fit_input(image, input_, ValueKind::kImage, origin));
    }
    return sample;
  }
  void hash_sample(std::int64_t index, Hasher& hasher) const override {
    hasher.add(entry(index).name);
    hasher.add(read_regular_file(entry(index).path, "the sample"));
  }

 private:
  const Entry& entry(std::int64_t index) const { return entries_.at(static_cast<std::size_t>(index)); }
  std::vector<Entry> entries_;
  std::string spec_;
  std::int64_t class_count_ = 0;
  std::int64_t arrays_ = 0;
  InputSpec input_;
  PreprocessRecipe recipe_;
};

bool is_sample_name(const std::string& name) { return is_image_name(name) || is_npy_name(name); }

// Throws if the file that `where` names is not there.
void need_file(const std::string& path, const std::string& name, const std::string& where) {
  switch (path_kind(path)) {
    case PathKind::kFile: return;
    case PathKind::kMissing: fail(ErrorCode::kNotFound, "{}: the file {} does not exist ({})", where, in_quotes(name), printable(path));
    case PathKind::kFolder: fail(ErrorCode::kInvalidData, "{}: {} is a folder, not a file", where, in_quotes(name));
    case PathKind::kOther: fail(ErrorCode::kInvalidData, "{}: {} is not a regular file", where, in_quotes(name));
  }
}

std::size_t need_column(const CsvRow& header, std::string_view column, const std::string& csv_path) {
  std::optional<std::size_t> found;
  for (std::size_t i = 0; i < header.fields.size(); ++i) {
    if (header.fields[i] != column) continue;
    if (found) fail(ErrorCode::kInvalidData, "{}:{}: two columns are called '{}'", csv_path, header.line, column);
    found = i;
  }
  if (found) return *found;
  std::string names;
  for (const std::string& field : header.fields) names += (names.empty() ? "" : ",") + field;
  fail(ErrorCode::kInvalidData, "{}:{}: the header has no column '{}': found {}, expected file,label", csv_path, header.line, column,
       in_quotes(names));
}

}  // namespace

std::unique_ptr<Source> open_flat_folder(const std::string& folder, const DatasetOptions& options) {
  std::vector<Entry> images;
  std::vector<Entry> arrays;
  for (const std::string& name : list_folder(folder).files) {
    if (is_image_name(name)) images.push_back({join_path(folder, name), name, std::nullopt});
    if (is_npy_name(name)) arrays.push_back({join_path(folder, name), name, std::nullopt});
  }
  if (!images.empty() && !arrays.empty())
    fail(ErrorCode::kInvalidArgument,
         "{}: holds both images ({}) and .npy files ({}); put them into folders of their own, or list them in labels.csv", folder,
         images.size(), arrays.size());
  return std::make_unique<FileList>(std::move(images.empty() ? arrays : images), folder, options, 0);
}

std::unique_ptr<Source> open_labels_csv(const std::string& csv_path, const DatasetOptions& options) {
  const std::vector<CsvRow> rows = parse_csv(read_regular_file(csv_path, "the table of labels"), csv_path);
  if (rows.empty()) fail(ErrorCode::kInvalidData, "{}: is empty; its first row must be file,label", csv_path);
  const std::size_t file_column = need_column(rows.front(), "file", csv_path);
  const std::size_t label_column = need_column(rows.front(), "label", csv_path);
  if (rows.size() == 1) fail(ErrorCode::kInvalidData, "{}: holds a header but no samples", csv_path);
  const std::string base = parent_path(csv_path);
  std::vector<Entry> entries;
  for (std::size_t i = 1; i < rows.size(); ++i) {
    const std::string where = fmt::format("{}:{}", csv_path, rows[i].line);
    const std::string& name = rows[i].fields[file_column];
    if (name.empty()) fail(ErrorCode::kInvalidData, "{}: the file name is empty", where);
    Entry entry{join_path(base, name), name, parse_label(rows[i].fields[label_column], where)};
    need_file(entry.path, name, where);
    entries.push_back(std::move(entry));
  }
  return std::make_unique<FileList>(std::move(entries), base.empty() ? csv_path : base, options, 0);
}

std::unique_ptr<Source> open_class_folders(const std::string& folder, const DatasetOptions& options) {
  std::vector<Entry> entries;
  const std::vector<std::string> classes = list_folder(folder).folders;
  for (std::size_t label = 0; label < classes.size(); ++label) {
    const std::string path = join_path(folder, classes[label]);
    for (const std::string& name : list_folder(path).files) {
      if (is_sample_name(name)) entries.push_back({join_path(path, name), classes[label] + "/" + name, static_cast<std::int64_t>(label)});
    }
  }
  return std::make_unique<FileList>(std::move(entries), folder, options, static_cast<std::int64_t>(classes.size()));
}

std::unique_ptr<Source> open_list(const std::string& list_path, const DatasetOptions& options) {
  const std::string bytes = read_regular_file(list_path, "the list of files");
  std::string_view text = plain_text(bytes, list_path);
  const std::string base = parent_path(list_path);
  std::vector<Entry> entries;
  for (std::int64_t line = 1; !text.empty(); ++line) {
    const auto end = text.find('\n');
    std::string_view row = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (row.ends_with('\r')) row.remove_suffix(1);
    if (row.find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string name(row);
    const std::string where = fmt::format("{}:{}", list_path, line);
    if (!is_sample_name(name))
      fail(ErrorCode::kInvalidData, "{}: {} is neither .npy nor an image (.jpg, .jpeg, .png)", where, in_quotes(name));
    Entry entry{join_path(base, name), name, std::nullopt};
    need_file(entry.path, name, where);
    entries.push_back(std::move(entry));
  }
  if (entries.empty()) fail(ErrorCode::kInvalidData, "{}: lists no files", list_path);
  return std::make_unique<FileList>(std::move(entries), list_path, options, 0);
}

}  // namespace nibble
