// 64-byte aligned storage, shared and uninitialised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace nibble {

inline constexpr std::size_t kBufferAlignment = 64;

// At least `size` bytes (and at least one, so that the pointer is never null). Throws Error{kInvalidModel} if there is not that much memory.
std::shared_ptr<std::byte> allocate_aligned(std::int64_t size);

}  // namespace nibble
