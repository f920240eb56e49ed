// The ledger's reports as JSON: one rendering for the daemon's admin interface and for the command
// line without it.
#pragma once

#include <string>

#include "storage/usage_report.hpp"

namespace outlast::apps {

// {"rows":[{"start":"2026-11-01T00:00:00Z", DIMENSION: …, "requests":N, "attempts":N,
// "failed_attempts":N, "failure_share":0.01, "cost_usd":"0.000123", "overrun_usd":"0.00",
// "unpriced_requests":N, "estimated":N, "tokens":{BUCKET:N}, "duration_ms":{"mean","p50","p95"},
// "first_event_ms":{…}}], "total":{…}, "rows_left_out":N, "overlapping":true}. Costs are decimal
// strings; `start` is there with time buckets, a latency null where nothing was measured, the last
// two where rows were left out and where rows count a request more than once.
std::string usage_json(const storage::UsageReport& report);

// {"ok":bool, "entries":N, "head":"hex", "first_bad_index":N|null, "message":"…",
// "open_reservations":N, "charged_usd":"…", "overrun_usd":"…"}.
std::string verify_json(const storage::VerifyReport& report);

}  // namespace outlast::apps
