// What the kernel tells of the processors themselves.
#pragma once

#include <optional>
#include <string>

namespace outlast::gpu {

// Of the hottest sensor of the processors' own, of those in `sensors` (/sys/class/hwmon); none where there is none, as in most virtual
// machines.
std::optional<float> processor_temperature_c(const std::string& sensors);

}  // namespace outlast::gpu
