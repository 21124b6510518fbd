// Errors that a user can cause. A bug in nibble itself is an assert, never an Error.
#pragma once

#include <stdexcept>
#include <string>

namespace nibble {

enum class ErrorCode {
  kInvalidArgument,  // an option or a call's argument is wrong
  kNotFound,         // a file, node, input or name does not exist
  kInvalidModel,     // the model file is damaged or breaks ONNX's rules
  kUnsupported,      // valid, but nibble does not do it (the message names it)
  kInvalidData,      // a sample, label, range file or recipe is damaged or does not fit
  kIo,               // the operating system refused to read or write
  kInterrupted,      // the user asked to stop
};

// Thrown by every public function. `what()` is one line: what happened, where (file, node name), what was found, what was
// expected, and what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace nibble
