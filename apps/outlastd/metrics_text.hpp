// The node's metrics in Prometheus' text exposition format 0.0.4.
#pragma once

#include <string>

#include "actors/messages.hpp"
#include "apps/outlastd/daemon.hpp"

namespace outlast::apps {

std::string metrics_text(const Daemon& daemon, const storage::LedgerStore::Status& ledger,
                         const actors::DeploymentList& deployments);

}  // namespace outlast::apps
