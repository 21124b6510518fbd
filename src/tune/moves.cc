#include "tune/moves.h"

namespace nibble {

std::optional<Move> cheapest_move(const Space& space, const Assignment& from, const Tabu& tabu) {
  const auto forms = form_table();
  std::optional<Move> best;
  for (std::size_t l = 0; l < space.layers().size(); ++l) {
    if (from[l] == 'f') continue;  // it was taken out of the integers because they cost too much
    const Layer& layer = space.layers()[l];
    std::size_t now = 0;
    while (forms[now].letter != from[l]) ++now;
    for (std::size_t f = now + 1; f < forms.size(); ++f) {
      if (tabu.contains({l, forms[f].letter})) continue;
      const Move move{.layer = l,
                      .to = forms[f].letter,
                      .bytes = static_cast<double>(layer.weights) * (forms[now].bits - forms[f].bits) / 8,
                      .damage = layer.damage[f] - layer.damage[now]};
      if (move.bytes > 0 && (!best || move.price() < best->price())) best = move;
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
