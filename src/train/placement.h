// Where quantize() puts its grids, said in the names of the training graph.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "nibble/quantize.h"
#include "nibble/train.h"

namespace nibble::train {

struct Placement {
  // Values that share one grid. Every name is a value of the canonical graph and of the training graph.
  struct Edge {
    std::string name;               // of the first value
    std::vector<std::string> made;  // values that need rounding: made by arithmetic, or by the float world
    bool feeds_layer = false;       // a layer with weights reads one of them
    bool eight_bits = false;        // the first or the last layer does, whose inputs keep 8 bits
    bool nonnegative = false;
    bool feeds_sign = false;  // a sign is taken of it: its grid is so fine that none is lost
  };
  std::vector<Edge> edges;
  std::map<std::string, std::size_t> edge_of;  // every value with a grid
  std::set<std::string> made_in_float;         // those that the float world makes: integer nodes read a rounded copy, others what it made
  std::vector<std::string> float_nodes;        // by name

  struct Layer {
    std::string node;
    bool integer = true;  // else weights alone
    bool eight_bits = false;
  };
  std::vector<Layer> layers;             // with weights that are quantized
  std::vector<std::string> unquantized;  // "NODE: why" of layers left in float
};

// The scheme of a trained network: quantize(canonical, pinned ranges, scheme).
QuantScheme scheme_of(const TrainQuantization& quantization);
// `graph` as imported or simplified. Nothing is quantized: an empty placement.
Placement place_quantizers(const Graph& graph, const TrainQuantization& quantization);

}  // namespace nibble::train
