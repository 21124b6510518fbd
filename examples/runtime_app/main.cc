// Classifies one input with a quantized ONNX model, in integers, and prints the five best classes.
//
//   runtime_app MODEL.int8.onnx INPUT.npy [THREADS]
//
// INPUT.npy holds float32 in the model's own layout and range; the batch axis may be left out. It uses nibble::runtime alone: nibble/onnx.h
// to read the file, nibble/runtime.h to run it.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "nibble/error.h"
#include "nibble/onnx.h"
#include "nibble/runtime.h"

namespace {

// NumPy's format, version 1: magic, two bytes of version, two of header length, a Python dictionary, the values.
nibble::Tensor read_npy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be opened");
  const std::string all{std::istreambuf_iterator<char>(file), {}};
  if (all.size() < 10 || all.compare(0, 6, "\x93NUMPY") != 0) throw std::runtime_error(path + ": no .npy file");
  const std::size_t begin = 10, length = static_cast<unsigned char>(all[8]) + 256U * static_cast<unsigned char>(all[9]);
  if (all[6] != 1 || all.size() < begin + length) throw std::runtime_error(path + ": not version 1 of the .npy format, or cut short");
  const std::string header = all.substr(begin, length);
  if (header.find("'<f4'") == std::string::npos || header.find("'fortran_order': False") == std::string::npos)
    throw std::runtime_error(path + ": float32 in C order is expected");
  nibble::Shape shape;
  for (std::size_t at = header.find("'shape'"); at < header.size() && header[at] != ')'; ++at) {
    if (header[at] < '0' || header[at] > '9') continue;
    char* end = nullptr;
    shape.push_back(std::strtoll(header.c_str() + at, &end, 10));
    at = static_cast<std::size_t>(end - header.c_str()) - 1;
  }
  nibble::Tensor tensor(nibble::DataType::kFloat32, shape);
  if (all.size() - begin - length < tensor.size_bytes()) throw std::runtime_error(path + ": fewer values than its header says");
  std::memcpy(tensor.mutable_bytes(), all.data() + begin + length, tensor.size_bytes());
  return tensor;
}

void classify(const std::string& model, const std::string& input, int threads) {
  nibble::Graph graph = nibble::import_onnx(model);
  if (!nibble::has_quantization(graph)) throw std::runtime_error(model + ": this model is not quantized; make it with `nibble quantize`");
  // The program is immutable and may serve many sessions; a session belongs to one thread at a time.
  const nibble::Program program = nibble::lower(nibble::quantized_from_onnx_graph(std::move(graph)));
  nibble::Session session(program, {.threads = threads});
  if (program.input_names().size() != 1) throw std::runtime_error(model + ": this example runs models with one input");

  nibble::Tensor x = read_npy(input);
  if (x.rank() + 1 == static_cast<std::int64_t>(program.input_types()[0].dims.size())) {
    nibble::Shape shape = x.shape();
    shape.insert(shape.begin(), 1);
    x = x.reshaped(std::move(shape));
  }
  const std::vector<nibble::Tensor> outputs = session.run(std::vector<nibble::Tensor>{x});
  const std::vector<double> scores = nibble::to_doubles(outputs[0]);

  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const std::size_t shown = std::min<std::size_t>(5, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                    [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  std::printf("%s on %s\n", model.c_str(), nibble::active_isa().c_str());
  for (std::size_t i = 0; i < shown; ++i) std::printf("  class %4zu  %g\n", order[i], scores[order[i]]);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::fprintf(stderr, "usage: runtime_app MODEL.int8.onnx INPUT.npy [THREADS]\n");
    return 2;
  }
  try {
    classify(argv[1], argv[2], argc > 3 ? std::max(1, std::atoi(argv[3])) : 1);
    return 0;
  } catch (const std::exception& error) {  // nibble::Error is one: a line that says what, where and what to do
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
