# The CUDA device (gpu/cuda/): only where it is asked for, so that an ordinary build needs no toolkit and takes no longer.
# OUTLAST_HAS_CUDA says whether it is built; outlast_cuda is then its library.
set(OUTLAST_HAS_CUDA OFF)
if(OUTLAST_CUDA STREQUAL "OFF")
  return()
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(OUTLAST_CUDA STREQUAL "ON")
    message(FATAL_ERROR "OUTLAST_CUDA is ON and nvcc is not in PATH; install the CUDA toolkit, or leave the option out")
  endif()
  return()
endif()
if(OUTLAST_SANITIZE OR OUTLAST_FUZZ)
  message(FATAL_ERROR "a build with sanitizers or for fuzzing has no CUDA device; build that by itself")
endif()
# A100; H100 and H200; B200. `scripts/gpu_check` compiles for the device at hand alone.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100-real CACHE STRING "what kernels are compiled for")
endif()
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  # CMake 3.25 does not know that nvcc has C++20.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
find_package(CUDAToolkit REQUIRED)
set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O3 -lineinfo -DNDEBUG")
set(OUTLAST_HAS_CUDA ON)

# outlast_cuda_library(name SOURCES … LINK …): sources of kernels, never several as one.
function(outlast_cuda_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  add_library(outlast_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(outlast_${name} PUBLIC outlast_options ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK})
  set_target_properties(outlast_${name} PROPERTIES UNITY_BUILD OFF)
  target_compile_options(outlast_${name} PRIVATE
    "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${OUTLAST_WARNINGS_ARE_ERRORS}>>:--Werror=all-warnings>"
    "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wno-missing-field-initializers>")
endfunction()
