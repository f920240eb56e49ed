// What the driver's management library (NVML) tells of a GPU. It comes with the driver and is loaded when it is first asked for: a build
// needs nothing of it.
#pragma once

#include <optional>
#include <string>

namespace outlast::gpu {

// `bus`: its place, as cudaDeviceGetPCIBusId() writes it. None where the library or the GPU does not tell. Any thread.
std::optional<float> cuda_temperature_c(const std::string& bus);

}  // namespace outlast::gpu
