#include "gpu/cuda/management.hpp"

#include <dlfcn.h>

namespace outlast::gpu {
namespace {

// By nvml.h: 0 is success of each function, and sensor 0 is the GPU's own.
class ManagementLibrary {
 public:
  static const ManagementLibrary& get() {
    static const ManagementLibrary library;
    return library;
  }

  [[nodiscard]] std::optional<float> temperature_c(const std::string& bus) const {
    void* device = nullptr;
    unsigned celsius = 0;
    if (!usable_ || find_(bus.c_str(), &device) != 0 || read_(device, 0, &celsius) != 0) return std::nullopt;
    return static_cast<float>(celsius);
  }

 private:
  // Never closed: it lives as long as the process.
  ManagementLibrary() {
    void* const library = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return;
    const auto begin = reinterpret_cast<int (*)()>(::dlsym(library, "nvmlInit_v2"));
    find_ = reinterpret_cast<Find>(::dlsym(library, "nvmlDeviceGetHandleByPciBusId_v2"));
    read_ = reinterpret_cast<Read>(::dlsym(library, "nvmlDeviceGetTemperature"));
    usable_ = begin != nullptr && find_ != nullptr && read_ != nullptr && begin() == 0;
  }

  using Find = int (*)(const char*, void**);
  using Read = int (*)(void*, int, unsigned*);
  Find find_ = nullptr;
  Read read_ = nullptr;
  bool usable_ = false;
};

}  // namespace

std::optional<float> cuda_temperature_c(const std::string& bus) { return ManagementLibrary::get().temperature_c(bus); }

}  // namespace outlast::gpu
