// What the programs share: errors as one line and an exit code, and the command line as it goes into files.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace nibble::cli {

// The words of the command line after `program`, folders taken off paths: equal runs in different places write equal files.
std::string command_line(const std::string& program, int argc, char** argv);

// Signals that a program of ours never wants to die of, and Ctrl-C as something to be polled.
void prepare_signals();

// Calls `body`; what it throws becomes one line on stderr and an exit code. `prefix` stands before the line ("rank 1: ").
int run_program(CLI::App& app, const std::function<void()>& body, const std::string& prefix = "");

}  // namespace nibble::cli
