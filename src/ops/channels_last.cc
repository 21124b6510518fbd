#include "ops/channels_last.h"

#include <algorithm>
#include <cstdint>

namespace nibble {
namespace {

// [batch, rows, cols] -> [batch, cols, rows], in blocks that keep both sides in the first-level cache.
template <typename T>
void transpose_blocks(ThreadPool* pool, const T* in, T* out, std::int64_t batch, std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t kBlock = 16;
  const std::int64_t strips = (cols + kBlock - 1) / kBlock;
  const std::int64_t grain = std::max<std::int64_t>(16384 / std::max<std::int64_t>(rows * kBlock, 1), 1);
  parallel_for(pool, batch * strips, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = begin; s < end; ++s) {
      const T* src = in + s / strips * rows * cols;
      T* dst = out + s / strips * rows * cols;
      const std::int64_t first = s % strips * kBlock, last = std::min(first + kBlock, cols);
      for (std::int64_t block = 0; block < rows; block += kBlock) {
        const std::int64_t block_end = std::min(block + kBlock, rows);
        for (std::int64_t c = first; c < last; ++c) {
          for (std::int64_t r = block; r < block_end; ++r) dst[c * rows + r] = src[r * cols + c];
        }
      }
    }
  });
}

Tensor transpose(ThreadPool* pool, const Tensor& tensor, Shape shape, std::int64_t batch, std::int64_t rows, std::int64_t cols) {
  if (rows == 1 || cols == 1 || tensor.size() == 0) return tensor.reshaped(std::move(shape));
  Tensor result(tensor.type(), std::move(shape));
  const auto run = [&]<typename T>() {
    transpose_blocks(pool, reinterpret_cast<const T*>(tensor.bytes()), reinterpret_cast<T*>(result.mutable_bytes()), batch, rows, cols);
  };
  switch (element_size(tensor.type())) {
    case 1: run.template operator()<std::uint8_t>(); break;
    case 2: run.template operator()<std::uint16_t>(); break;
    case 4: run.template operator()<std::uint32_t>(); break;
    default: run.template operator()<std::uint64_t>(); break;
  }
  return result;
}

}  // namespace

Tensor to_channels_last(ThreadPool* pool, const Tensor& tensor) {
  Shape s(4 - std::min<std::size_t>(tensor.shape().size(), 4), 1);
  s.insert(s.end(), tensor.shape().begin(), tensor.shape().end());
  return transpose(pool, tensor, {s[0], s[2], s[3], s[1]}, s[0], s[1], s[2] * s[3]);
}

Tensor from_channels_last(ThreadPool* pool, const Tensor& tensor) {
  const Shape& s = tensor.shape();
  return transpose(pool, tensor, {s[0], s[3], s[1], s[2]}, s[0], s[1] * s[2], s[3]);
}

}  // namespace nibble
