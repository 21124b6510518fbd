// What a search has found out, on disk after every trial: a second run with the same arguments asks here first, and so repeats the first
// one's steps without its work.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "nibble/tune.h"

namespace nibble {

class TuneState {
 public:
  // Reads `folder`/state.json where it is; makes the folder. Throws Error{kInvalidArgument} where the file is of other arguments,
  // Error{kInvalidData} where it is damaged.
  TuneState(std::string folder, std::string fingerprint);

  const TuneTrial* find(const std::string& methods, const std::string& layers) const;
  void add(const TuneTrial& trial);
  // Layer by layer, damage of each form and, last, full_damage.
  const std::optional<std::vector<std::vector<double>>>& damages() const { return damages_; }
  void set_damages(std::vector<std::vector<double>> damages);
  const std::string& folder() const { return folder_; }
  std::size_t known() const { return known_; }  // trials that were there at the start

 private:
  void save() const;

  std::string folder_, fingerprint_;
  std::map<std::pair<std::string, std::string>, TuneTrial> trials_;
  std::optional<std::vector<std::vector<double>>> damages_;
  std::size_t known_ = 0;
};

}  // namespace nibble
