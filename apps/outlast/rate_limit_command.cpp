// outlast rate-limits
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {
namespace {

// Per minute, at once, left and until full; empty where the scope has no such limit or each has its
// own.
void add_bound(std::vector<std::string>& cells, const Json& bound) {
  for (const char* const name : {"per_minute", "burst", "remaining", "reset_ms"}) {
    const Json& value = member_of(bound, name);
    cells.push_back(value.is_null() ? "" : plain_text(value));
  }
}

Result<void> show_rate_limits(const GlobalOptions& global) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call("GET", "rate-limits");
  if (!answer) return fail(answer.error());
  const auto list = parse_object(answer->body, "the node's answer");
  if (!list) return fail(list.error());
  if (global.json) {
    print(list->dump() + "\n");
    return {};
  }
  const Json& limits = member_of(*list, "rate_limits");
  if (limits.empty()) {
    print("no rate limits; add [[rate_limit]] to the node's configuration\n");
    return {};
  }
  constexpr auto right = Table::Align::right;
  Table table({{"SCOPE"},
               {"REQUESTS/MIN", right},
               {"BURST", right},
               {"LEFT", right},
               {"FULL IN MS", right},
               {"TOKENS/MIN", right},
               {"BURST", right},
               {"LEFT", right},
               {"FULL IN MS", right},
               {"LIVE", right}});
  for (const Json& limit : limits) {
    std::vector<std::string> cells{printable(text_of(limit, "scope"))};
    add_bound(cells, member_of(limit, "requests"));
    add_bound(cells, member_of(limit, "tokens"));
    const Json& live = member_of(limit, "live");
    cells.push_back(live.is_null() ? "" : plain_text(live));
    table.add(std::move(cells));
  }
  print(table.text());
  return {};
}

}  // namespace

void add_rate_limit_command(CommandLine& line) {
  line.add_command(line.app, "rate-limits", "what every rate limit has left",
                   [&line] { return show_rate_limits(line.options); });
}

}  // namespace outlast::apps
