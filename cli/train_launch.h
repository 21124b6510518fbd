// --nproc N: one machine's processes, started and watched here.
#pragma once

#include <string>
#include <vector>

namespace nibble::cli {

// Starts this program `count` times with `words`, as ranks 0 to count - 1. Rank 0 has this program's stdout and stderr. When one fails the
// others get some seconds to save and say why, and are then ended. Ctrl-C goes to all of them. Returns the exit code; what the other ranks
// said last goes to stderr if rank 0 said nothing.
int launch_processes(int count, const std::vector<std::string>& words);

// In a process that launch_processes() started: true, and the way to stop (saving) should its parent be killed.
bool was_launched();
void end_with_parent();

}  // namespace nibble::cli
