// DataLoader: the samples of a data set in order, decoded ahead of their use.
#pragma once

#include <cstdint>
#include <memory>

#include "nibble/dataset.h"

namespace nibble {

struct LoaderOptions {
  int threads = 1;         // that decode; 0: next() decodes itself
  std::int64_t ahead = 0;  // most samples held, taken or waiting; 0: 2 * threads
};

// `for (std::int64_t i = 0; i < dataset.size(); ++i) { Sample sample = loader.next(); ... }`
// Memory is bounded by `ahead` samples, whatever the size of the data set. What sample(i) throws, next() throws in i's turn; the following
// call goes on with i + 1. `dataset` must outlive the loader. One thread calls next().
class DataLoader {
 public:
  explicit DataLoader(const Dataset& dataset, LoaderOptions options = {});
  ~DataLoader();  // stops the threads; samples not taken are dropped
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  bool done() const;  // all samples were taken
  // Throws Error{kInvalidArgument} after the last.
  Sample next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nibble
