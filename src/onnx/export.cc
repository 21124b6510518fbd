// Files out: the export is built and serialized whole before the target is touched.
#include <sys/stat.h>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "nibble/onnx.h"

namespace nibble {

std::int64_t export_onnx(const QuantizedGraph& model, const std::string& path, const ExportOptions& options,
                         const std::string& input_path) {
  struct stat out {};
  struct stat in {};
  // Links are followed: the same file under another name is the same file.
  if (!input_path.empty() && ::stat(path.c_str(), &out) == 0 && ::stat(input_path.c_str(), &in) == 0 && out.st_dev == in.st_dev &&
      out.st_ino == in.st_ino)
    fail(ErrorCode::kInvalidArgument, "{}: is the input model; choose another output path", path);
  const std::string bytes = serialize_onnx(export_graph(model, options));
  write_file(path, bytes);
  return static_cast<std::int64_t>(bytes.size());
}

}  // namespace nibble
