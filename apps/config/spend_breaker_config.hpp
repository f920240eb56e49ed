// Spend breakers in the node's TOML file and in the admin API: one reader for both, since a rule has the same keys in
// either (docs/breakers.md).
#pragma once

#include <string>
#include <string_view>

#include "apps/config/node_config.hpp"
#include "apps/config/toml_reader.hpp"
#include "core/spend_breaker.hpp"

namespace outlast::apps {

// [breakers] and [[breaker]].
void read_spend_breakers(TableReader& root, const std::string& folder, NodeConfig& config);

// A rule as JSON, with every key that counts, in a fixed order.
std::string spend_rule_json(const SpendBreakerRule& rule);
// Takes what spend_rule_json() gives. The error names each wrong key, what is wrong and what would be right.
Result<SpendBreakerRule> parse_spend_rule(std::string_view json);

}  // namespace outlast::apps
