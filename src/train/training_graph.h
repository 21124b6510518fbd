// The graph that is trained: as imported, simplified as far as parameters and BatchNormalizations stay what they are.
#pragma once

#include <string>
#include <vector>

#include "nibble/graph.h"
#include "train/module.h"

namespace nibble::train {

struct TrainingGraph {
  Graph graph;
  ValueId input = kNoValue;
  ValueId logits = kNoValue;  // the first output; what a final Softmax reads
  std::vector<bool> needed;   // by NodeId: the logits depend on it

  // Initializers that learn, in the order in which nodes read them.
  struct Role {
    ValueId value = kNoValue;
    Parameter::Kind kind = Parameter::Kind::kWeight;
  };
  std::vector<Role> parameters;
  std::vector<ValueId> statistics;  // running means and variances
};
// Error{kUnsupported} for networks that are no classifier of one input and one output.
// What had to be rewritten (signs, narrow copies of wide values) is said in `notes`.
TrainingGraph make_training_graph(const Graph& imported, const TrainQuantization& quantization, std::vector<std::string>& notes);

// True for Conv, Gemm and MatMul with constant weights.
bool is_layer(const Graph& graph, const Node& node);

// `simplified` with the values of the initializers of `values` put into the graph that it came from, where every one of them is an
// initializer there, untouched by the simplification; else into `simplified` itself.
class InitializerHome {
 public:
  InitializerHome(const Graph& imported, const Graph& simplified, const std::vector<ValueId>& initializers);
  bool in_imported() const { return in_imported_; }
  // `tensors` in the order of `initializers`.
  Graph put_back(const Graph& imported, const Graph& simplified, std::vector<Tensor> tensors) const;

 private:
  std::vector<ValueId> initializers_;
  std::vector<std::string> names_;
  bool in_imported_ = true;
};

}  // namespace nibble::train
