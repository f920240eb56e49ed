#pragma once

#include "apps/outlastd/cluster_part.hpp"
#include "apps/outlastd/metrics_writer.hpp"

namespace outlast::apps {

// What a node counts as one of several (docs/cluster.md).
void cluster_metrics(MetricsWriter& text, const ClusterPart& part);

}  // namespace outlast::apps
