#include "actors/spend_reporter.hpp"

#include <caf/send.hpp>

namespace outlast::actors {

void SpendReporter::report(std::vector<gateway::SpendEvent> events) {
  if (under_way_->fetch_add(1) >= batches_max) {
    under_way_->fetch_sub(1);
    counters_.events_dropped.fetch_add(events.size());
    return;
  }
  std::shared_ptr<const void> place(nullptr, [under_way = under_way_](const void*) { under_way->fetch_sub(1); });
  caf::anon_send(node_, SpendReport{std::move(events), std::move(place), origin_});
}

}  // namespace outlast::actors
