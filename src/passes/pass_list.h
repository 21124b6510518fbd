// The passes, one function a file; pass_table.cc puts them in order.
#pragma once

#include "nibble/passes.h"

namespace nibble {

void fold_constants(Graph& graph, PassReport& report);
void eliminate_identity(Graph& graph, PassReport& report);
void cancel_transposes(Graph& graph, PassReport& report);
void normalize_clip(Graph& graph, PassReport& report);
void normalize_gemm(Graph& graph, PassReport& report);
void reduce_mean_to_pool(Graph& graph, PassReport& report);
void fold_pad(Graph& graph, PassReport& report);
void fold_batch_norm(Graph& graph, PassReport& report);
void fuse_activation(Graph& graph, PassReport& report);

}  // namespace nibble
