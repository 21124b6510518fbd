#include "tune/moves.h"

namespace nibble {
namespace {

constexpr double kFewestBytes = 8;  // less than this is noise of a file's headers

}  // namespace

std::optional<Move> cheapest_move(const Space& space, const Assignment& from, const Tabu& tabu) {
  const auto forms = form_table();
  std::optional<Move> best;
  for (std::size_t l = 0; l < space.layers().size(); ++l) {
    if (from[l] == 'f') continue;  // it was taken out of the integers because they cost too much
    const Layer& layer = space.layers()[l];
    const std::size_t now = index_of_form(from[l]);
    for (std::size_t f = now + 1; f < forms.size(); ++f) {
      if (tabu.contains({l, forms[f].letter})) continue;
      const Move move{.layer = l,
                      .to = forms[f].letter,
                      .bytes = static_cast<double>(layer.weights) * (space.stored_bits(now) - space.stored_bits(f)) / 8,
                      .damage = layer.damage[f] - layer.damage[now]};
      if (move.bytes > kFewestBytes && (!best || move.price() < best->price())) best = move;
    }
  }
  return best;
}

std::vector<Assignment> path_down(const Space& space, const Assignment& start) {
  std::vector<Assignment> path = {start};
  while (const auto move = cheapest_move(space, path.back(), {})) {
    path.push_back(path.back());
    path.back()[move->layer] = move->to;
  }
  return path;
}

}  // namespace nibble
