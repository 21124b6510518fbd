#include "train/method_options.h"

#include <algorithm>
#include <set>
#include <string>
#include <string_view>

#include "base/fail.h"

namespace nibble::train {
namespace {

// "decay=0.99,delay=0": the names.
void add_names(std::string_view defaults, std::set<std::string>& names) {
  while (!defaults.empty()) {
    const std::string_view item = defaults.substr(0, defaults.find(','));
    names.emplace(item.substr(0, item.find('=')));
    defaults.remove_prefix(std::min(defaults.size(), item.size() + 1));
  }
}

}  // namespace

void check_method_options(std::span<const QuantizerRow* const> rows, const MethodOptions& options) {
  std::set<std::string> known = {"dsq_alpha_start", "dsq_alpha_end"};
  for (const QuantizerRow* row : rows) {
    if (row != nullptr) add_names(row->options, known);
  }
  for (const auto& [name, value] : options) {
    if (known.contains(name)) continue;
    std::string list;
    for (const std::string& each : known) list += (list.empty() ? "" : ", ") + each;
    fail(ErrorCode::kInvalidArgument, "--method-options: these methods have no option '{}'; they have {}", name, list);
  }
}

}  // namespace nibble::train
