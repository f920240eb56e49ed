#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>

#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/processor.hpp"
#include "tests/gpu/decoder_fixture.hpp"
#include "tests/gpu/scratch_folder.hpp"

namespace outlast::gpu::processor_test {
namespace {

void write(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << text << "\n";
}

TEST_CASE("the temperature is that of the processors' hottest sensor", "[gpu]") {
  const ScratchFolder sensors;
  CHECK_FALSE(processor_temperature_c(sensors.path("none")));
  write(sensors.path("hwmon0/name"), "nvme");
  write(sensors.path("hwmon0/temp1_input"), "90000");
  CHECK_FALSE(processor_temperature_c(sensors.path()));
  write(sensors.path("hwmon1/name"), "coretemp");
  write(sensors.path("hwmon1/temp1_input"), "48000");
  write(sensors.path("hwmon1/temp2_input"), "61500");
  write(sensors.path("hwmon1/temp2_max"), "100000");
  write(sensors.path("hwmon1/temp3_input"), "not there");
  write(sensors.path("hwmon2/name"), "k10temp");
  CHECK(processor_temperature_c(sensors.path()) == 61.5F);
}

TEST_CASE("a CPU measures its peak once", "[gpu]") {
  const auto device = need(CpuDevice::make(1));
  const double peak = device->peak_flops();
  CHECK(peak > 1e8);
  CHECK(device->peak_flops() == peak);
}

}  // namespace
}  // namespace outlast::gpu::processor_test
