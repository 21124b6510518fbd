# What `cmake --install` installs: the program, the headers, the rooms as static libraries, and a CMake package with two components.
#   nibble::runtime   reads a quantized ONNX file and runs it in integers; needs protobuf for reading, neither oneDNN nor anything of the tools
#   nibble::nibble    everything
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(runtime_rooms base numeric tensor graph ops schemes quantize onnx kernels runtime)
get_property(full_rooms GLOBAL PROPERTY NIBBLE_ROOMS)
list(REMOVE_ITEM full_rooms ${runtime_rooms} train)  # who trains uses the program
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/nibble)

add_library(nibble_package_runtime INTERFACE)
# Each of the two uses the other; which of the two kinds nibble_ops uses is decided here alone.
target_link_libraries(nibble_package_runtime INTERFACE nibble_onnx nibble_runtime $<INSTALL_INTERFACE:$<LINK_GROUP:RESCAN,nibble::room_ops,nibble::room_ops_portable>>)
set_target_properties(nibble_package_runtime PROPERTIES EXPORT_NAME runtime)
add_library(nibble_package_full INTERFACE)
set_target_properties(nibble_package_full PROPERTIES EXPORT_NAME nibble)

set(runtime_targets nibble_package_runtime nibble_ops_portable)
foreach(room ${runtime_rooms})
  list(APPEND runtime_targets nibble_${room})
endforeach()
set(full_targets nibble_package_full nibble_ops_onednn)
foreach(room ${full_rooms})
  list(APPEND full_targets nibble_${room})
  target_link_libraries(nibble_package_full INTERFACE nibble_${room})
endforeach()
target_link_libraries(nibble_package_full INTERFACE $<INSTALL_INTERFACE:$<LINK_GROUP:RESCAN,nibble::room_ops,nibble::room_ops_onednn>>)

foreach(component runtime full)
  install(TARGETS ${${component}_targets} EXPORT nibble-${component} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT ${component})
  install(EXPORT nibble-${component} NAMESPACE nibble:: DESTINATION ${package_dir} COMPONENT ${component})
endforeach()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/nibble DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT runtime FILES_MATCHING PATTERN "*.h")
install(TARGETS nibble RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT full)
if(TARGET nibble-train)
  install(TARGETS nibble-train RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT full)
endif()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/nibbleConfig.cmake.in ${PROJECT_BINARY_DIR}/nibbleConfig.cmake INSTALL_DESTINATION ${package_dir})
# Before version 1 a minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/nibbleConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/nibbleConfig.cmake ${PROJECT_BINARY_DIR}/nibbleConfigVersion.cmake DESTINATION ${package_dir} COMPONENT runtime)
