# add_room(NAME SOURCES ... DEPS room ... LIBS library ...)
#   One static library a room of src/. DEPS are rooms that it may include (scripts/check_layers proves it); LIBS are private libraries.
function(add_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_library(nibble_${name} STATIC ${ROOM_SOURCES})
  target_include_directories(nibble_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include PRIVATE ${PROJECT_SOURCE_DIR}/src)
  list(TRANSFORM ROOM_DEPS PREPEND nibble_)
  target_link_libraries(nibble_${name} PUBLIC ${ROOM_DEPS} PRIVATE nibble_warnings ${ROOM_LIBS})
endfunction()

# add_isa_sources(NAME ISA FLAGS ... SOURCES ...)
#   Files of a room that are compiled for one instruction set. They include intrinsics and their family header only.
function(add_isa_sources name)
  cmake_parse_arguments(ISA "" "" "FLAGS;SOURCES" ${ARGN})
  target_sources(nibble_${name} PRIVATE ${ISA_SOURCES})
  set_source_files_properties(${ISA_SOURCES} PROPERTIES COMPILE_OPTIONS "${ISA_FLAGS}")
endfunction()

# add_room_test(NAME SOURCES ... DEPS room ... LIBS library ...)
#   One GoogleTest binary a room; every test case becomes a ctest case.
function(add_room_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_executable(nibble_${name}_test ${TEST_SOURCES})
  target_include_directories(nibble_${name}_test PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  list(TRANSFORM TEST_DEPS PREPEND nibble_)
  target_link_libraries(nibble_${name}_test PRIVATE ${TEST_DEPS} ${TEST_LIBS} fmt::fmt nibble_warnings GTest::gtest GTest::gtest_main GTest::gmock)
  gtest_discover_tests(nibble_${name}_test TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600)
endfunction()
