#include "gpu/decode/stop_strings.hpp"

#include <algorithm>

#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

// Bytes at the end of `text` that begin `string`.
std::size_t begun(std::string_view text, std::string_view string) {
  for (std::size_t size = std::min(text.size(), string.size() - 1); size > 0; --size) {
    if (text.ends_with(string.substr(0, size))) return size;
  }
  return 0;
}

}  // namespace

Result<void> check_stop_strings(const std::vector<std::string>& strings) {
  if (strings.size() > stop_strings_max) return fail(GpuError::invalid, "at most " + std::to_string(stop_strings_max) + " stop strings are looked for");
  const auto good = [](const std::string& string) { return !string.empty() && string.size() <= stop_string_bytes_max; };
  if (!std::all_of(strings.begin(), strings.end(), good)) return fail(GpuError::invalid, "a stop string has 1 to " + std::to_string(stop_string_bytes_max) + " bytes");
  return {};
}

bool StopStrings::push(std::string_view text, std::string& out) {
  if (strings_.empty()) {
    out += text;
    return false;
  }
  held_ += text;
  std::size_t first = std::string::npos;
  std::size_t keep = 0;
  for (const std::string& string : strings_) {
    first = std::min(first, held_.find(string));
    keep = std::max(keep, begun(held_, string));
  }
  const std::size_t certain = first != std::string::npos ? first : held_.size() - keep;
  out.append(held_, 0, certain);
  if (first != std::string::npos) held_.clear();
  else held_.erase(0, certain);
  return first != std::string::npos;
}

void StopStrings::finish(std::string& out) {
  out += held_;
  held_.clear();
}

}  // namespace outlast::gpu
