#include <fmt/format.h>

#include "command.h"
#include "nibble/analyze.h"
#include "nibble/calibrate.h"
#include "nibble/interpreter.h"
#include "nibble/methods.h"
#include "nibble/passes.h"
#include "nibble/quantize.h"
#include "nibble/runtime.h"
#include "train_program.h"

namespace nibble::cli {
namespace {

std::string list_observers() {
  std::string out;
  for (const ObserverInfo& row : observer_table()) {
    out += fmt::format("{:<16} {}\n", row.name, row.summary);
    if (!row.options.empty()) out += fmt::format("{:<16}   options: {}\n", "", row.options);
    if (!row.source.empty()) out += fmt::format("{:<16}   source:  {}\n", "", row.source);
  }
  return out;
}

std::string list_methods() {
  std::string out;
  for (const PassInfo& row : pass_table()) out += fmt::format("{:<22} pass: {}\n", row.name, row.summary);
  for (const MethodInfo& row : method_table()) {
    out += fmt::format("{:<22} method: {} ({})\n", row.name, row.summary, row.source);
    if (!row.options.empty()) out += fmt::format("{:<22}   options: {}\n", "", row.options);
  }
  for (const ObserverInfo& row : observer_table()) out += fmt::format("{:<22} calibration: {}\n", row.name, row.summary);
  out += fmt::format("{:<22} calibration: several methods are tried on the calibration data, the best is taken (the default)\n", "auto");
  return out;
}

std::string list_operators() {
  std::string out;
  for (const OpInfo& row : list_ops()) {
    const std::string name = row.domain.empty() ? row.name : row.domain + ":" + row.name;
    out += fmt::format("{:<34} {:<8}", name, row.integer ? "integer" : "float");
    out += row.note.empty() ? "\n" : " " + row.note + "\n";
  }
  return out;
}

std::string list_kernel_names() {
  std::string out = fmt::format("active ISA: {} (NIBBLE_FORCE_ISA overrides it)\n", active_isa());
  for (const KernelInfo& row : list_kernels())
    out += fmt::format("{:<44} {:<18} {:<12} {}\n", row.name, row.family, row.isa, row.usable ? "usable" : "not on this processor");
  return out;
}

std::string list_causes() {
  std::string out;
  for (const CauseInfo& row : cause_table()) out += fmt::format("{:<26} {}; fix: {}\n", row.id, row.summary, row.fix);
  return out;
}

std::string list_target_names() {
  std::string out;
  for (const TargetInfo& row : list_targets()) out += fmt::format("{:<16} {}\n", row.name, row.summary);
  return out;
}

}  // namespace

void add_list(CLI::App& app, Context&) {
  const auto what = std::make_shared<std::string>();
  CLI::App& command = *app.add_subcommand("list", "List what nibble knows: observers, methods, ops, kernels, targets, causes");
  command.add_option("WHAT", *what, "observers, methods, train-methods, ops, kernels, targets or causes");
  command.callback([what] {
    if (what->empty()) throw UsageError("list what? observers, methods, train-methods, ops, kernels, targets or causes");
    check_choice("list", *what, {"observers", "methods", "train-methods", "ops", "kernels", "targets", "causes"});
    if (*what == "train-methods") {
      std::string option = "--list-methods";
      char* arguments[] = {option.data(), nullptr};
      become_train_program(arguments);
    }
    print(*what == "observers" ? list_observers()
          : *what == "methods" ? list_methods()
          : *what == "ops"     ? list_operators()
          : *what == "causes"  ? list_causes()
          : *what == "kernels" ? list_kernel_names()
                               : list_target_names());
  });
}

}  // namespace nibble::cli
