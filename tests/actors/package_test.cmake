# Installs the client's package into a folder of the build and builds the example against nothing but that.
# cmake -DBUILD=… -DSOURCE=… -DLAUNCHER=… -P package_test.cmake
set(prefix ${BUILD}/package_test/prefix)
file(REMOVE_RECURSE ${BUILD}/package_test)
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN}:\n${output}")
  endif()
endfunction()
run(${CMAKE_COMMAND} --install ${BUILD} --component client --prefix ${prefix})
run(${CMAKE_COMMAND} -G Ninja -S ${SOURCE}/examples/ask_service -B ${BUILD}/package_test/ask
  -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER})
run(${CMAKE_COMMAND} --build ${BUILD}/package_test/ask)
# Without its environment the service must start, say what is missing and end with 2.
execute_process(COMMAND ${CMAKE_COMMAND} -E env --unset=OUTLAST_ENDPOINT ${BUILD}/package_test/ask/outlast-ask
  RESULT_VARIABLE status ERROR_VARIABLE output)
if(NOT status EQUAL 2 OR NOT output MATCHES "tcp://HOST:PORT")
  message(FATAL_ERROR "outlast-ask ended with ${status}: ${output}")
endif()
