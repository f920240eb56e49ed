# One static library per folder; its link list is the list of folders that it may include.
add_library(outlast_options INTERFACE)
target_include_directories(outlast_options INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}> $<BUILD_INTERFACE:${CMAKE_BINARY_DIR}>)
# nvcc knows none of gcc's options; what it is given stands in OutlastCuda.cmake.
set(not_cuda $<NOT:$<COMPILE_LANGUAGE:CUDA>>)
target_compile_options(outlast_options INTERFACE
  $<BUILD_INTERFACE:$<${not_cuda}:-Wall>> $<BUILD_INTERFACE:$<${not_cuda}:-Wextra>> $<BUILD_INTERFACE:$<${not_cuda}:-Werror>>
  # Designated initialisers name what differs from the defaults; that is their point.
  $<BUILD_INTERFACE:$<${not_cuda}:-Wno-missing-field-initializers>>)
if(NOT OUTLAST_WARNINGS_ARE_ERRORS)
  target_compile_options(outlast_options INTERFACE $<BUILD_INTERFACE:$<${not_cuda}:-Wno-error>>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # gcc 12 takes the delete of an inlined coroutine frame for a mismatched one, wherever Asio's coroutines are used.
  target_compile_options(outlast_options INTERFACE
    $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CXX>:-fcoroutines>> $<BUILD_INTERFACE:$<${not_cuda}:-Wno-mismatched-new-delete>>)
endif()
if(OUTLAST_UNITY)
  # A source is included then, and gcc takes its anonymous namespace for that of a header.
  target_compile_options(outlast_options INTERFACE $<BUILD_INTERFACE:$<$<AND:${not_cuda},$<CXX_COMPILER_ID:GNU>>:-Wno-subobject-linkage>>)
endif()
if(OUTLAST_SANITIZE)
  # libcaf's own headers trip UBSan's null check. Instrumented code gives gcc 12 more false alarms (uninitialised
  # std::regex); the ordinary build keeps every warning an error.
  target_compile_options(outlast_options INTERFACE
    -fsanitize=${OUTLAST_SANITIZE} -fno-sanitize=null -fno-omit-frame-pointer -Wno-error)
  # Instrumented code takes three times as long to optimise; it pays where tests compute for long.
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O0 -g1 -DNDEBUG")
  set(outlast_optimised cluster cluster_node core gpu storage)
  target_link_options(outlast_options INTERFACE -fsanitize=${OUTLAST_SANITIZE})
endif()

find_program(OUTLAST_MOLD mold)
if(OUTLAST_MOLD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_link_options(outlast_options INTERFACE $<BUILD_INTERFACE:-fuse-ld=mold>)
endif()

# outlast_library(name SOURCES … LINK …)
function(outlast_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  add_library(outlast_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(outlast_${name} PUBLIC outlast_options ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK})
  if(name IN_LIST outlast_optimised)
    target_compile_options(outlast_${name} PRIVATE -O1)
  endif()
endfunction()

# outlast_test(name SOURCES … LINK …): one Catch2 program per folder of tests.
function(outlast_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(test_${name} ${ARG_SOURCES})
  target_link_libraries(test_${name} PRIVATE outlast_options ${ARG_LINK} Catch2::Catch2WithMain)
  if(name IN_LIST outlast_optimised)
    target_compile_options(test_${name} PRIVATE -O1)
  endif()
  target_compile_definitions(test_${name} PRIVATE
    OUTLAST_SOURCE_DIR="${CMAKE_SOURCE_DIR}" OUTLAST_BINARY_DIR="${CMAKE_BINARY_DIR}")
  add_test(NAME ${name} COMMAND test_${name} ~[.slow])
  set_tests_properties(${name} PROPERTIES TIMEOUT 900)  # under sanitizers, on two busy cores
endfunction()
