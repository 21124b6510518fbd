// What the rest of the room needs of recipes beyond the public header.
#pragma once

#include <string>

namespace nibble {

// A complete recipe on one line, for messages: the user copies and adapts it.
extern const char* const kExampleRecipe;

}  // namespace nibble
