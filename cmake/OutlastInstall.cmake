# What a service needs to link the client actor: find_package(outlast), target outlast::client.
# Outlast's own libraries are static; Debian's are found by the installed configuration.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/outlast)
set(header_dir ${CMAKE_INSTALL_INCLUDEDIR}/outlast)

target_include_directories(outlast_client INTERFACE $<INSTALL_INTERFACE:${header_dir}>)
target_compile_features(outlast_client PUBLIC cxx_std_20)
set_target_properties(outlast_client PROPERTIES EXPORT_NAME client)

install(TARGETS outlast_client outlast_cluster outlast_proto outlast_core outlast_options caf_core
  EXPORT outlastTargets COMPONENT client
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT outlastTargets NAMESPACE outlast:: DESTINATION ${package_dir} COMPONENT client)

# Only what client_actor.hpp includes, so that nothing else becomes somebody's interface.
foreach(header
    actors/client_actor.hpp actors/client_interface.hpp
    cluster/chat_outcome.hpp cluster/chat_transport.hpp cluster/endpoint.hpp cluster/link_error.hpp
    core/chat.hpp core/clock.hpp core/id.hpp core/random.hpp core/result.hpp core/usage.hpp
    proto/frame.hpp proto/link_codec.hpp)
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES ${PROJECT_SOURCE_DIR}/${header} DESTINATION ${header_dir}/${folder} COMPONENT client)
endforeach()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/outlastConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/outlastConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/outlastConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/outlastConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/outlastConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT client)
