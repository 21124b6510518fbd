// One operator on constants: what it gives, or how it refuses.
#pragma once

#include <ostream>
#include <string>

namespace nibble {

struct OpCase {
  std::string name;
  int opset;
  std::string graph;  // lines of the graph text: constants, then the node
  std::string want;   // outputs as constants ("const y float32[2] = {1, 2}"), or a part of the error's message
};

void PrintTo(const OpCase& c, std::ostream* out);

// Evaluates the node and compares. Also infers its outputs four times - everything known; types and values but those of data unknown;
// symbolic sizes; unknown ranks - and expects that no inference contradicts the actual outputs, and that with everything known it says
// their types.
void expect_outputs(const OpCase& c);

// Evaluation throws Error{kInvalidModel} or {kUnsupported} whose message names the node and contains `want`; inference with all constants
// known throws it too, or at least does not crash.
void expect_refusal(const OpCase& c);

}  // namespace nibble
