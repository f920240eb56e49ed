// Whom spend breakers tell, and what. Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "http/client.hpp"

namespace outlast::gateway {

struct SpendWebhook {
  http::Origin origin;
  std::string path;    // with its query; begins with '/' or is empty
  std::string secret;  // signs each delivery; never logged
  std::uint32_t timeout_ms = 5'000;  // of one attempt
  std::uint32_t attempts_max = 8;
  bool operator==(const SpendWebhook&) const = default;
};

struct SpendNotify {
  std::optional<SpendWebhook> webhook;
  std::vector<std::string> command;  // a program and its arguments, without a shell; empty for none
  bool operator==(const SpendNotify&) const = default;
};

}  // namespace outlast::gateway
