// What the search may choose: for each layer with weights one of a few forms; and what each choice costs alone.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/analyze.h"
#include "nibble/dataset.h"
#include "nibble/quantize.h"

namespace nibble {

// One row a form that a layer's weights may take, the dearest first.
struct Form {
  char letter;  // in TuneTrial::layers
  std::string_view name;
  void (*apply)(NodeRule& rule, const NodeScheme& base);
};
std::span<const Form> form_table();
const Form& form_of(char letter);
std::size_t index_of_form(char letter);

struct Layer {
  NodeId node = kNoNode;
  std::string name, op_type;
  std::int64_t weights = 0;
  NodeScheme base;  // under the scheme that the search starts from
  std::vector<double>
      damage;              // by form: what it alone costs the output, KL or noise / signal; never falls from a dearer form to a cheaper one
  double full_damage = 0;  // its weights and its output, in the starting form
};

// One letter a layer.
using Assignment = std::string;

class Space {
 public:
  // Layers are the nodes of `graph` (canonical) that are integer under `scheme` and have weights.
  Space(const Graph& graph, const RangeTable& ranges, const QuantScheme& scheme);
  // Fills Layer::damage; `samples` in memory.
  void measure(const Dataset& samples, int threads, ProgressSink* progress);

  const std::vector<Layer>& layers() const { return layers_; }
  std::vector<Layer>& layers() { return layers_; }
  Assignment start() const;  // every layer as the scheme has it
  QuantScheme scheme_for(const Assignment& assignment) const;
  // Bits that one weight of this form takes in an exported file: forms that a file cannot pack save nothing.
  double stored_bits(std::size_t form) const { return stored_bits_[form]; }
  double estimated_bytes(const Assignment& assignment) const;

 private:
  const Graph& graph_;
  const RangeTable& ranges_;
  QuantScheme scheme_;
  std::vector<Layer> layers_;
  std::vector<double> stored_bits_;
};

}  // namespace nibble
