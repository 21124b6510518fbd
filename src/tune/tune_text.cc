#include <fmt/format.h>

#include <algorithm>

#include "nibble/tune.h"

namespace nibble {

std::string to_text(const TuneResult& result) {
  const auto at = [&](std::int64_t number) -> const TuneTrial& { return result.trials[static_cast<std::size_t>(number - 1)]; };
  std::string text = fmt::format("{} of float: {:.5g}; at most {:g} may be lost; {} samples calibrated, {} decided\n",
                                 to_string(result.metric), result.float_value, result.max_drop, result.calibrating, result.deciding);
  text += fmt::format("{} trials; those that no other beats (95 % intervals):\n{:>6} {:>9} {:>20} {:>12} {:>9} {:>9}  {}\n",
                      result.trials.size(), "trial", to_string(result.metric), "interval", "bytes", "ms", "", "methods");
  for (const std::int64_t number : result.pareto) {
    const TuneTrial& t = at(number);
    const std::string interval = t.low == t.high ? "-" : fmt::format("{:.5g} .. {:.5g}", t.low, t.high);
    text += fmt::format("{:>6} {:>9.5g} {:>20} {:>12} {:>9.2f} {:>9}  {}\n", t.number, t.value, interval, t.size_bytes, t.milliseconds,
                        t.number == result.best ? "the best"
                        : t.passes              ? "passes"
                                                : "",
                        t.methods);
  }
  if (result.best > 0) {
    const TuneTrial& best = at(result.best);
    const TuneTrial& uniform = at(1);
    text += fmt::format("\nbest: trial {}, {} bytes, {:.3f} of uniform quantization; {}\n", best.number, best.size_bytes,
                        static_cast<double>(best.size_bytes) / static_cast<double>(std::max<std::int64_t>(uniform.size_bytes, 1)),
                        to_string(best.figures));
    for (const TuneLayer& layer : result.layers)
      text += fmt::format("  {:<28} {:<8} {:<7} {}\n", layer.name, layer.op_type, layer.form, layer.reason);
  }
  for (const std::string& note : result.notes) text += "note: " + note + "\n";
  return text;
}

}  // namespace nibble
