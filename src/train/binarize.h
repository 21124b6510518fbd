// Networks whose activations are signs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "nibble/graph.h"
#include "nibble/quantize.h"
#include "train/quantizer.h"

namespace nibble::train {

// The operator that stands for a sign in the graph that is trained: y = Sign(x), whose meaning its quantizer knows.
inline constexpr const char* kSignDomain = "nibble.train";
bool is_sign(const Node& node);

// Puts a Sign before every layer with weights but the first (and the last, where `first_last` keeps it apart) and removes the Relu or Clip
// that the layer's input went through: behind it a sign is constant. Conv, BatchNormalization, Relu, MaxPool, Conv becomes Conv,
// BatchNormalization, MaxPool, Sign, Conv; pooling and normalizing commute (gamma > 0), so that is the papers' order: BN, sign,
// convolution, pool. One note a change. Error{kUnsupported} that names layer and reason where the input has no BatchNormalization behind
// it, or cannot fall below 0 for another reason.
void binarize_graph(Graph& graph, FirstLastPolicy first_last, std::vector<std::string>& notes);

// Sign nodes as ONNX has them, Where(GreaterOrEqual(x, threshold), scale, -scale), sums of them where there are several; by the name of the
// Sign's output. One that is not listed: threshold 0, scale 1. The parts of a sum are called NAME_sign0, NAME_sign1 ...
Graph expand_signs(const Graph& graph, const std::map<std::string, std::vector<SignBase>>& signs);

}  // namespace nibble::train
