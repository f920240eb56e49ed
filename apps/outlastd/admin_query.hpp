// The parameters of admin calls, read without trust.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/report/reconcile.hpp"
#include "apps/report/reprice.hpp"
#include "core/result.hpp"
#include "storage/usage_report.hpp"

namespace outlast::apps {

// The values of a query parameter, percent-decoded, in their order.
std::vector<std::string> parameters(std::string_view query, std::string_view name);
// The first of them; nothing when it is absent.
std::optional<std::string> parameter(std::string_view query, std::string_view name);
// Absent is nothing; anything but a whole number is an error.
Result<std::optional<std::int64_t>> number_parameter(std::string_view query, std::string_view name);

// by=a,b every=day where=DIMENSION=VALUE… top=N sort=cost since=MS until=MS
Result<storage::UsageQuery> read_usage_query(std::string_view query);
// provider=P map=COLUMN=TITLE… model=THEIRS=OURS… key_is=DIMENSION tolerance=1% file=NAME
Result<ReconcileQuery> read_reconcile_query(std::string_view query);
// version=V, or the price book as the body; since=MS until=MS file=NAME
Result<RepriceQuery> read_reprice_query(std::string_view query, std::string_view body);

}  // namespace outlast::apps
