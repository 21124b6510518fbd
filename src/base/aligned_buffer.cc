#include "base/aligned_buffer.h"

#include <cstdlib>

#include "base/fail.h"

namespace nibble {

std::shared_ptr<std::byte> allocate_aligned(std::int64_t size) {
  // Beyond this no model is meant seriously; it also keeps the rounding below from overflowing.
  constexpr std::int64_t kLargest = std::int64_t{1} << 46;
  if (size < 0 || size > kLargest) fail(ErrorCode::kInvalidModel, "a tensor of {} bytes cannot be allocated", size);
  const auto wanted = static_cast<std::size_t>(size < 1 ? 1 : size);
  const std::size_t rounded = (wanted + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment;
  void* memory = std::aligned_alloc(kBufferAlignment, rounded);
  if (memory == nullptr) fail(ErrorCode::kInvalidModel, "out of memory: a tensor needs {} bytes", size);
  return {static_cast<std::byte*>(memory), [](std::byte* p) { std::free(p); }};
}

}  // namespace nibble
