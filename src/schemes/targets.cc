#include "base/fail.h"
#include "nibble/quantize.h"
#include "schemes/scheme_json.h"
#include "schemes/target_files.h"

namespace nibble {

namespace {

struct Target {
  TargetInfo info;
  QuantScheme scheme;
  TargetLimits limits;
};

Target read_target(const TargetFile& file) {
  SchemeExtras extras;
  Target target;
  target.scheme = apply_scheme_json(QuantScheme{}, file.text, std::string(file.name), &extras);
  target.scheme.target = extras.name;
  target.info = {extras.name, extras.summary};
  target.limits = extras.takes;
  target.limits.unsupported_ops = target.scheme.unsupported_ops;
  return target;
}

}  // namespace

std::vector<TargetInfo> list_targets() {
  std::vector<TargetInfo> result;
  for (const TargetFile& file : target_files()) result.push_back(read_target(file).info);
  return result;
}

namespace {

Target find_target(const std::string& name) {
  std::string known;
  for (const TargetFile& file : target_files()) {
    Target candidate = read_target(file);
    if (candidate.info.name == name) return candidate;
    known += (known.empty() ? "" : ", ") + candidate.info.name;
  }
  fail(ErrorCode::kInvalidArgument, "unknown target \"{}\"; known: {}", name, known);
}

}  // namespace

QuantScheme scheme_for_target(const std::string& target) { return find_target(target).scheme; }

TargetLimits limits_of_target(const std::string& target) { return find_target(target).limits; }

}  // namespace nibble
