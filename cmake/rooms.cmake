# add_room(NAME SOURCES ... DEPS room ... LIBS library ...)
#   One static library a room of src/. DEPS are rooms that it may include (scripts/check_layers proves it); LIBS are private libraries.
#   HEADER_LIBS are private libraries of headers alone: who links an installed room needs none of them.
function(add_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DEPS;LIBS;HEADER_LIBS" ${ARGN})
  add_library(nibble_${name} STATIC ${ROOM_SOURCES})
  set_target_properties(nibble_${name} PROPERTIES EXPORT_NAME room_${name})
  set_property(GLOBAL APPEND PROPERTY NIBBLE_ROOMS ${name})
  target_include_directories(nibble_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>
                             PRIVATE ${PROJECT_SOURCE_DIR}/src)
  list(TRANSFORM ROOM_DEPS PREPEND nibble_)
  list(TRANSFORM ROOM_HEADER_LIBS REPLACE "(.+)" "$<BUILD_INTERFACE:\\1>")
  target_link_libraries(nibble_${name} PUBLIC ${ROOM_DEPS} PRIVATE $<BUILD_INTERFACE:nibble_warnings> ${ROOM_LIBS} ${ROOM_HEADER_LIBS})
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
