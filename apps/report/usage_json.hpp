// The ledger's reports as JSON: one rendering for the daemon's admin interface and for the command
// line without it.
#pragma once

#include <string>

#include "storage/usage_report.hpp"

namespace outlast::apps {

// {"rows":[{DIMENSION: …, "requests":N, "attempts":N, "failed_attempts":N, "cost_usd":"0.000123",
// "overrun_usd":"0.00", "unpriced_requests":N, "estimated":N, "tokens":{BUCKET:N}}], "total":{…}}.
// Costs are decimal strings.
std::string usage_json(const storage::UsageReport& report);

// {"ok":bool, "entries":N, "head":"hex", "first_bad_index":N|null, "message":"…",
// "open_reservations":N, "charged_usd":"…", "overrun_usd":"…"}.
std::string verify_json(const storage::VerifyReport& report);

}  // namespace outlast::apps
