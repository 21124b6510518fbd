// The processes of one run, joined by torch's c10d: a store to find each other (TCP), collectives by Gloo.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "train/reducer.h"

namespace nibble::train {

struct Rendezvous {
  int rank = 0, world_size = 1;
  std::string address;  // of the store
  std::uint16_t port = 0;
  bool agent_store = false;  // whoever started the processes hosts the store, else rank 0 does
  std::string attempt;       // torchrun starts all anew after a failure
};
// RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT; TORCHELASTIC_USE_AGENT_STORE, TORCHELASTIC_RESTART_COUNT. One process where there is no RANK.
// Throws Error{kInvalidArgument} naming the variable that makes no sense.
Rendezvous rendezvous_from_environment();

// Waits for all processes (a minute at most). Throws Error{kIo}: the port is busy, nobody answers; Error{kUnsupported}: built without Gloo.
std::unique_ptr<Reducer> join_processes(const Rendezvous& rendezvous);

}  // namespace nibble::train
