#include "tune/state.h"

#include <cmath>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "tune/tune_json.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int kVersion = 1;

}  // namespace

TuneState::TuneState(std::string folder, std::string fingerprint) : folder_(std::move(folder)), fingerprint_(std::move(fingerprint)) {
  std::error_code code;
  fs::create_directories(folder_, code);
  if (code || !fs::is_directory(folder_))
    fail(ErrorCode::kIo, "the state folder {} cannot be made: {}", folder_, code ? code.message() : "it is no folder");
  const std::string path = (fs::path(folder_) / "state.json").string();
  if (!fs::exists(path)) return;
  const std::string text = read_file(path, "the state of the search");
  try {
    const ordered_json root = ordered_json::parse(text);
    if (root.at("version").get<int>() != kVersion || root.at("fingerprint").get<std::string>() != fingerprint_)
      fail(ErrorCode::kInvalidArgument,
           "{} is the state of a search with another model, data or options; name another --state folder, or remove it", path);
    for (const auto& item : root.at("trials")) {
      TuneTrial trial = trial_from_json(item);
      trials_.insert_or_assign({trial.methods, trial.layers}, std::move(trial));
    }
    if (!root.at("damages").is_null()) damages_ = root.at("damages").get<std::vector<std::vector<double>>>();
  } catch (const ordered_json::exception& error) {
    fail(ErrorCode::kInvalidData, "{} is damaged ({}); remove it to begin anew", path, error.what());
  }
  known_ = trials_.size();
}

const TuneTrial* TuneState::find(const std::string& methods, const std::string& layers) const {
  const auto it = trials_.find({methods, layers});
  return it == trials_.end() ? nullptr : &it->second;
}

void TuneState::add(const TuneTrial& trial) {
  trials_.insert_or_assign({trial.methods, trial.layers}, trial);
  save();
}

void TuneState::set_damages(std::vector<std::vector<double>> damages) {
  damages_ = std::move(damages);
  save();
}

void TuneState::save() const {
  ordered_json trials = ordered_json::array();
  for (const auto& [key, trial] : trials_) trials.push_back(json_of(trial));
  const ordered_json root = {{"version", kVersion},
                             {"fingerprint", fingerprint_},
                             {"damages", damages_ ? ordered_json(*damages_) : ordered_json(nullptr)},
                             {"trials", std::move(trials)}};
  write_file((fs::path(folder_) / "state.json").string(), root.dump(1) + "\n");
}

}  // namespace nibble
