// [[rate_limit]]: requests and tokens per minute of a scope.
#include <map>
#include <string>
#include <vector>

#include "apps/config/sections.hpp"
#include "apps/config/words.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t rate_limits_max = 10'000;

void refuse_unknown_deployment(TableReader& reader, const std::string& name,
                               const NodeConfig& config) {
  std::vector<std::string_view> known;
  for (const gateway::Deployment& deployment : config.deployments) {
    if (deployment.name == name) return;
    known.push_back(deployment.name);
  }
  const std::string_view nearest = nearest_word(name, known);
  reader.error("scope", "there is no deployment '" + name + "'; " +
                            (!nearest.empty() ? "did you mean '" + std::string(nearest) + "'?"
                             : known.empty()  ? "add a [[deployment]] of that name"
                                              : "known: " + join_words(known)));
}

// The rate under `rate_key` and what may go at once under `burst_key`, by default one minute's
// worth.
void read_bound(TableReader& reader, std::string_view rate_key, std::string_view burst_key,
                gateway::RateBound& bound) {
  reader.integer(rate_key, bound.per_minute, 1, gateway::Gcra::rate_max);
  bound.burst = bound.per_minute;
  reader.integer(burst_key, bound.burst, 1, gateway::Gcra::rate_max);
  if (reader.has(burst_key) && !reader.has(rate_key)) {
    reader.error(burst_key, "stands without " + std::string(rate_key) + "; give both, or neither");
    bound = {};
  }
}

void read_rate_limit(TableReader& reader, std::map<std::string, std::uint32_t>& lines,
                     NodeConfig& config) {
  gateway::RateLimitRule rule;
  std::string text;
  if (reader.required_text("scope", text,
                           R"(scope = "team:acme/search", or "key:*" for each key by itself)")) {
    if (auto scope = gateway::RateScope::parse(text); !scope) {
      reader.error("scope", scope.error().message);
    } else {
      rule.scope = std::move(*scope);
      if (rule.scope.kind == gateway::RateScopeKind::deployment && !rule.scope.each()) {
        refuse_unknown_deployment(reader, rule.scope.value, config);
      }
      if (const auto [first, added] = lines.emplace(text, reader.line_of("scope")); !added) {
        reader.error("scope",
                     "'" + text + "' has a rate limit on line " + std::to_string(first->second) +
                         " already; write requests_per_minute and tokens_per_minute into one");
      }
    }
  }
  read_bound(reader, "requests_per_minute", "burst", rule.requests);
  read_bound(reader, "tokens_per_minute", "burst_tokens", rule.tokens);
  if (!reader.has("requests_per_minute") && !reader.has("tokens_per_minute") &&
      !reader.has("burst") && !reader.has("burst_tokens")) {
    reader.error("requests_per_minute",
                 "is missing, and tokens_per_minute is too; write at least one of them");
  }
  reader.refuse_unknown_keys();
  config.rate_limits.push_back(std::move(rule));
}

}  // namespace

void read_rate_limits(TableReader& root, NodeConfig& config) {
  std::map<std::string, std::uint32_t> lines;
  for (TableReader& reader : root.tables("rate_limit")) {
    if (config.rate_limits.size() == rate_limits_max) {
      reader.error("scope", "is rate limit number " + std::to_string(rate_limits_max + 1) +
                                "; at most " + std::to_string(rate_limits_max) +
                                " are allowed, so use defaults as key:*");
      return;
    }
    read_rate_limit(reader, lines, config);
  }
}

}  // namespace outlast::apps
