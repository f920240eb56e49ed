// Usage as FOCUS 1.2, the FinOps Open Cost and Usage Specification: one row per time bucket,
// tenant, key, route and deployment, with every mandatory column. docs/reports.md says what stands
// in each.
#pragma once

#include <string>

#include "storage/usage_report.hpp"

namespace outlast::apps {

// What a report must be grouped by to be written so; time buckets are of a day where the query has
// none. Errors: the query groups or sorts in another way.
Result<storage::UsageQuery> focus_query(storage::UsageQuery query);

// CSV with a line of titles. `report` is the answer to such a query.
std::string focus_csv(const storage::UsageReport& report);

}  // namespace outlast::apps
