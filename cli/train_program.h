// nibble train is a program of its own, nibble-train, beside this one: it alone links libtorch.
#pragma once

namespace nibble::cli {

// Replaces this process by nibble-train with the arguments (ended by a null pointer). Throws Error{kUnsupported} where this build has none.
[[noreturn]] void become_train_program(char** arguments);

}  // namespace nibble::cli
