// The configuration of spend breakers: rules of the file, and whom to tell. Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/spend_breaker.hpp"
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

struct SpendFileRule {
  SpendBreakerRule rule;
  std::optional<SpendNotify> notify;  // instead of SpendConfig::notify
  bool operator==(const SpendFileRule&) const = default;
};

struct SpendConfig {
  std::string node;       // its name, for notices
  std::string link_base;  // LINK_BASE/breakers/ID is what refusals and notices point at
  SpendNotify notify;
  std::vector<SpendFileRule> rules;
};

}  // namespace outlast::gateway
