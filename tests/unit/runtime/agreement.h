// The simulation and the runtime, value by value.
#pragma once

#include <gtest/gtest.h>

#include <map>

#include "nibble/runtime.h"

namespace nibble::test {

// Every value that the runtime makes must equal the simulation's, bit for bit. Returns how many integer values were compared.
inline int expect_agreement(const QuantizedGraph& model, std::span<const Tensor> inputs, int threads = 1) {
  std::map<std::string, Tensor> expected;
  const std::vector<Tensor> simulated = simulate(model, inputs, [&](ValueId id, const Tensor& tensor) { expected[model.graph.value(id).name] = tensor; });
  const Program program = lower(QuantizedGraph(model));
  Session session(program, {.threads = threads});
  int integers = 0;
  int wrong = 0;
  const std::vector<Tensor> outputs = session.run(inputs, [&](ValueId id, const Tensor& tensor) {
    const Value& value = model.graph.value(id);
    const auto it = expected.find(value.name);
    ASSERT_NE(it, expected.end()) << value.name;
    if (model.params_of(id) != nullptr) ++integers;
    if (!bit_equal(it->second, tensor) && ++wrong <= 5) {
      const Node* producer = value.producer == kNoNode ? nullptr : &model.graph.node(value.producer);
      std::string detail;
      if (it->second.shape() == tensor.shape() && model.params_of(id) != nullptr) {
        const auto a = to_int64s(it->second);
        const auto b = to_int64s(tensor);
        std::size_t count = 0;
        for (std::size_t i = 0; i < a.size(); ++i) {
          if (a[i] != b[i] && count++ < 4) detail += " [" + std::to_string(i) + "] " + std::to_string(a[i]) + " != " + std::to_string(b[i]);
        }
        detail += " (" + std::to_string(count) + " of " + std::to_string(a.size()) + ")";
      }
      ADD_FAILURE() << value.name << " of " << (producer != nullptr ? producer->op_type + " '" + producer->name + "'" : "input") << ": simulated "
                    << to_string(it->second.shape()) << ", run " << to_string(tensor.shape()) << detail;
    }
  });
  EXPECT_EQ(outputs.size(), simulated.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) EXPECT_TRUE(bit_equal(outputs[i], simulated[i])) << "output " << i;
  // Unobserved, steps may be fused and values may never exist: the same outputs.
  const std::vector<Tensor> unobserved = session.run(inputs);
  EXPECT_EQ(unobserved.size(), simulated.size());
  for (std::size_t i = 0; i < unobserved.size(); ++i) EXPECT_TRUE(bit_equal(unobserved[i], simulated[i])) << "output " << i << ", unobserved";
  return integers;
}

}  // namespace nibble::test
