# One interface target carries the warnings of every room.
add_library(nibble_warnings INTERFACE)
target_compile_options(
  nibble_warnings
  INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast -Wdouble-promotion -Wnon-virtual-dtor
            -Woverloaded-virtual $<$<BOOL:${NIBBLE_WERROR}>:-Werror>)
if(NIBBLE_SANITIZE)
  # gcc takes the sanitizers' own checks for uses of values nobody set: the real builds have the warning on.
  target_compile_options(nibble_warnings INTERFACE -Wno-maybe-uninitialized)
  target_compile_options(nibble_warnings INTERFACE -fsanitize=${NIBBLE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(nibble_warnings INTERFACE -fsanitize=${NIBBLE_SANITIZE})
endif()
