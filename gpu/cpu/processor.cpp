#include "gpu/cpu/processor.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace outlast::gpu {
namespace {

namespace fs = std::filesystem;

// Of Intel, of AMD, and of Arm's boards.
constexpr std::string_view drivers[] = {"coretemp", "k10temp", "zenpower", "cpu_thermal"};

}  // namespace

std::optional<float> processor_temperature_c(const std::string& sensors) {
  std::optional<float> hottest;
  std::error_code error;
  for (fs::directory_iterator chip(sensors, error); !error && chip != fs::directory_iterator(); chip.increment(error)) {
    std::string name;
    if (!(std::ifstream(chip->path() / "name") >> name) || std::find(std::begin(drivers), std::end(drivers), name) == std::end(drivers)) continue;
    std::error_code none;
    for (fs::directory_iterator at(chip->path(), none); !none && at != fs::directory_iterator(); at.increment(none)) {
      const std::string file = at->path().filename().string();
      long thousandths = 0;
      if (file.starts_with("temp") && file.ends_with("_input") && std::ifstream(at->path()) >> thousandths)
        hottest = std::max(hottest.value_or(-273.15F), static_cast<float>(thousandths) / 1'000);
    }
  }
  return hottest;
}

}  // namespace outlast::gpu
