// The hash of a data set: XXH3, 128 bits.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace nibble {

// Fields are hashed with their lengths, so that ("ab", "c") and ("a", "bc") differ. Equal on every machine.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;
  void add(std::string_view field);
  std::string hex() const;  // 32 digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nibble
