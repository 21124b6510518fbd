// fail(): throw a nibble::Error with a formatted message.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "nibble/error.h"

namespace nibble {

template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace nibble
