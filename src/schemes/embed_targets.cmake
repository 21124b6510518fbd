# cmake -DOUTPUT=FILE.cc -DINPUTS="a.json|b.json" -P embed_targets.cmake
#   Writes the target files as string literals, so that the program needs no data files beside it.
string(REPLACE "|" ";" INPUTS "${INPUTS}")
set(text "// Made from src/schemes/targets/*.json by embed_targets.cmake.\n#include \"schemes/target_files.h\"\n\nnamespace nibble {\n\nnamespace {\n\n")
string(APPEND text "constexpr TargetFile kTargetFiles[] = {\n")
foreach(input IN LISTS INPUTS)
  file(READ "${input}" json)
  get_filename_component(name "${input}" NAME)
  string(APPEND text "    {\"${name}\", R\"nibble_target(${json})nibble_target\"},\n")
endforeach()
string(APPEND text "};\n\n}  // namespace\n\nstd::span<const TargetFile> target_files() { return kTargetFiles; }\n\n}  // namespace nibble\n")
file(WRITE "${OUTPUT}" "${text}")
