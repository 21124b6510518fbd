#include "data/hasher.h"

#include <xxhash.h>

#include <cstdint>
#include <new>

#include "base/fail.h"

namespace nibble {

struct Hasher::State {
  XXH3_state_t* xxh = XXH3_createState();
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { XXH3_freeState(xxh); }
};

Hasher::Hasher() : state_(std::make_unique<State>()) {
  if (state_->xxh == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(state_->xxh);
}

Hasher::~Hasher() = default;

void Hasher::add(std::string_view field) {
  unsigned char length[8];
  for (std::size_t i = 0; i < sizeof length; ++i) length[i] = static_cast<unsigned char>(std::uint64_t{field.size()} >> (8 * i));
  XXH3_128bits_update(state_->xxh, length, sizeof length);
  XXH3_128bits_update(state_->xxh, field.data(), field.size());
}

std::string Hasher::hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh);
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace nibble
