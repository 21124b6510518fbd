// Steps of the search: one layer takes a cheaper form.
#pragma once

#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "tune/space.h"

namespace nibble {

struct Move {
  std::size_t layer = 0;
  char to = '8';
  double bytes = 0;   // saved
  double damage = 0;  // added, alone
  double price() const { return damage / bytes; }
};
using Tabu = std::set<std::pair<std::size_t, char>>;

// The move that saves bytes at the least damage each; nullopt: none is left.
std::optional<Move> cheapest_move(const Space& space, const Assignment& from, const Tabu& tabu);
// Assignments from `start` (first) downwards, one cheapest move each.
std::vector<Assignment> path_down(const Space& space, const Assignment& start);

}  // namespace nibble
