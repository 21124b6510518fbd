// The shapes that kernels are measured on, and memory for them: those of the networks that quantized runtimes are compared on.
#pragma once

#include <cstdint>
#include <memory>
#include <random>

#include "base/aligned_buffer.h"
#include "kernels/qconv/qconv.h"

namespace nibble::kernels {

struct GemmCase {
  std::int64_t m, n, k;
};

inline constexpr GemmCase kGemmCases[] = {{128, 128, 128},  {512, 512, 512}, {2048, 2048, 2048}, {12544, 64, 32},
                                          {3136, 128, 128}, {196, 512, 512}, {49, 1024, 1024},   {1, 4096, 4096},
                                          {16, 4096, 4096}, {3136, 24, 144}, {784, 192, 32}};

// Square images, kernels and strides; padded to out = in / stride.
struct ConvCase {
  const char* name;
  std::int64_t image, in, out, kernel, stride = 1, groups = 1;

  ConvShape shape() const {
    return {.in_channels = in,
            .out_channels = out,
            .groups = groups,
            .kernel_h = kernel,
            .kernel_w = kernel,
            .stride_h = stride,
            .stride_w = stride,
            .pad_top = kernel / 2,
            .pad_left = kernel / 2};
  }
  std::int64_t out_image() const { return (image + 2 * (kernel / 2) - kernel) / stride + 1; }
  std::int64_t macs() const { return out_image() * out_image() * out * in / groups * kernel * kernel; }
};

inline constexpr ConvCase kConvCases[] = {
    {"first 3x3s2 224x224x3-32", 224, 3, 32, 3, 2},
    {"first 7x7s2 224x224x3-64", 224, 3, 64, 7, 2},
    {"3x3 56x56x64", 56, 64, 64, 3},
    {"3x3s2 56x56x64-128", 56, 64, 128, 3, 2},
    {"3x3 28x28x128", 28, 128, 128, 3},
    {"3x3 14x14x256", 14, 256, 256, 3},
    {"3x3 7x7x512", 7, 512, 512, 3},
    {"3x3 55x55x16-64", 55, 16, 64, 3},
    {"3x3 32x32x16", 32, 16, 16, 3},
};

inline constexpr ConvCase kDepthwiseCases[] = {
    {"dw 3x3 112x112x32", 112, 32, 32, 3, 1, 32},  {"dw 3x3s2 112x112x96", 112, 96, 96, 3, 2, 96},
    {"dw 3x3 56x56x128", 56, 128, 128, 3, 1, 128}, {"dw 3x3 56x56x144", 56, 144, 144, 3, 1, 144},
    {"dw 3x3 28x28x192", 28, 192, 192, 3, 1, 192}, {"dw 3x3 28x28x256", 28, 256, 256, 3, 1, 256},
    {"dw 3x3 14x14x512", 14, 512, 512, 3, 1, 512}, {"dw 3x3 7x7x960", 7, 960, 960, 3, 1, 960},
    {"dw 5x5 28x28x128", 28, 128, 128, 5, 1, 128},
};

// Random elements, aligned as the runtime's memory is.
template <typename T>
class Values {
 public:
  explicit Values(std::int64_t n) : memory_(allocate_aligned(n * static_cast<std::int64_t>(sizeof(T)))) {
    std::mt19937 engine(1);
    for (std::int64_t i = 0; i < n; ++i) data()[i] = static_cast<T>(engine());
  }
  T* data() const { return reinterpret_cast<T*>(memory_.get()); }

 private:
  std::shared_ptr<std::byte> memory_;
};

}  // namespace nibble::kernels
