// TensorProto <-> Tensor. Includes protobuf: for the room's own .cc files only.
#pragma once

#include <onnx/onnx_pb.h>

#include <string>

#include "nibble/tensor.h"
#include "onnx/external_data.h"

namespace nibble {

// Takes the data out of `proto` (which is left without it), so that no weight is held twice for longer than its own copy takes.
// `external` may be null: external data is then refused. Throws Error{kInvalidModel, kUnsupported, kNotFound, kIo} that names `what`.
Tensor take_tensor(onnx::TensorProto& proto, const std::string& what, ExternalData* external);

// Writes everything as raw_data; 4-bit elements two a byte.
void write_tensor(const Tensor& tensor, onnx::TensorProto& proto);

}  // namespace nibble
