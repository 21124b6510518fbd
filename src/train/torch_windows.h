// Convolutions and pools in torch.
#pragma once

#include "train/torch_ops.h"

namespace nibble::train {

TorchOp make_conv(const OpSite& site);
TorchOp make_max_pool(const OpSite& site);
TorchOp make_average_pool(const OpSite& site);

}  // namespace nibble::train
