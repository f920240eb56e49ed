#include "apps/outlastd/cluster_metrics.hpp"

#include <algorithm>

#include "cluster/shard_id.hpp"

namespace outlast::apps {
namespace {

void shard_metrics(MetricsWriter& text, const cluster::ClusterNodeStatus& status) {
  struct Figure {
    std::string_view name;
    std::string_view type;
    std::string_view help;
    std::uint64_t (*of)(const cluster::HostStatus&);
  };
  constexpr Figure figures[] = {
      {"outlast_shard_owned", "gauge", "1 while this node owns the shard.",
       [](const cluster::HostStatus& host) -> std::uint64_t { return host.leading ? 1 : 0; }},
      {"outlast_shard_entries", "gauge", "Entries that this node's replica has applied.",
       [](const cluster::HostStatus& host) { return host.applied; }},
      {"outlast_shard_lag_entries", "gauge", "Entries in the shared log that the replica has not applied.",
       [](const cluster::HostStatus& host) { return host.tail - std::min(host.tail, host.applied); }},
      {"outlast_shard_batches_total", "counter", "Batches that this node appended as the owner.",
       [](const cluster::HostStatus& host) { return host.batches; }},
      {"outlast_shard_trimmed_entries", "gauge", "Entries that this node, as the owner, has trimmed from the shared log.",
       [](const cluster::HostStatus& host) { return host.trimmed; }},
      {"outlast_shard_stuck", "gauge", "1 while the replica cannot follow the shared log.",
       [](const cluster::HostStatus& host) -> std::uint64_t { return host.problem.empty() ? 0 : 1; }},
      {"outlast_shard_messages_dropped_total", "counter", "Messages to the shard for which there was no room: they come again.",
       [](const cluster::HostStatus& host) { return host.dropped; }},
      {"outlast_shard_foreign_messages_total", "counter", "Messages of a node about another node's holder, not heard.",
       [](const cluster::HostStatus& host) { return host.foreign; }}};
  for (const Figure& figure : figures) {
    text.head(figure.name, figure.type, figure.help);
    for (const cluster::HostStatus& host : status.hosts) {
      text.value(figure.name, metric_label("shard", cluster::name_of_shard(host.shard)), figure.of(host));
    }
  }
}

void commit_metrics(MetricsWriter& text, const cluster::ClusterNodeStatus& status) {
  constexpr std::string_view name = "outlast_shard_commit_microseconds";
  constexpr auto& bounds_us = cluster::CommitTimes::bounds_us;
  text.head(name, "histogram", "Duration of the batches that this node appended as the owner, agreement included.");
  const std::string bucket = std::string(name) + "_bucket";
  for (const cluster::HostStatus& host : status.hosts) {
    const std::string shard = metric_label("shard", cluster::name_of_shard(host.shard));
    std::uint64_t count = 0;
    for (std::size_t i = 0; i <= bounds_us.size(); ++i) {
      count += host.commits.counts[i];
      std::string labels = shard;
      labels.insert(labels.size() - 1, ",le=\"" + (i == bounds_us.size() ? "+Inf" : std::to_string(bounds_us[i])) + "\"");
      text.value(bucket, labels, count);
    }
    text.value(std::string(name) + "_sum", shard, host.commits.sum_us);
    text.value(std::string(name) + "_count", shard, count);
  }
}

void link_metrics(MetricsWriter& text, const cluster::PeerCounters& links) {
  text.one("outlast_peer_links", "gauge", "Nodes that this one is linked to.", links.peers_up);
  text.one("outlast_peer_frames_sent_total", "counter", "Frames to other nodes.", links.frames_sent);
  text.one("outlast_peer_frames_received_total", "counter", "Frames from other nodes.", links.frames_received);
  text.one("outlast_peer_frames_resent_total", "counter", "Frames sent again after a connection broke.", links.frames_resent);
  text.one("outlast_peer_duplicates_total", "counter", "Frames that came again and were dropped.", links.duplicates);
  text.one("outlast_peer_malformed_total", "counter", "Frames that lie; their node is cut off.", links.malformed);
  text.one("outlast_peer_strangers_refused_total", "counter", "Connections with a key that is on no list.",
           links.strangers_refused);
  text.one("outlast_peer_ignored_total", "counter", "Messages of nodes that were removed or revoked, over connections that they keep open.", links.ignored);
  text.one("outlast_peer_hellos_refused_total", "counter", "Hellos of a wrong cluster, version or name, or too many.",
           links.hellos_refused);
  text.one("outlast_peer_reconnects_total", "counter", "Connections to other nodes that were made anew.", links.reconnects);
  text.one("outlast_peer_overloaded_total", "counter", "Frames that a full queue refused.", links.overloaded);
}

void join_metrics(MetricsWriter& text, const cluster::JoinCounters& joins) {
  text.one("outlast_join_requests_total", "counter", "Requests to join.", joins.requests);
  text.one("outlast_join_welcomed_total", "counter", "Nodes that were let in.", joins.welcomed);
  text.one("outlast_join_refused_total", "counter", "Requests to join that were refused.", joins.refused);
  text.one("outlast_join_malformed_total", "counter", "Frames that are no request to join.", joins.malformed);
  text.one("outlast_join_rate_limited_total", "counter", "Requests to join that were not looked at.", joins.rate_limited);
  text.one("outlast_join_handshakes_refused_total", "counter", "Connections that were too many, or without CURVE.",
           joins.handshakes_refused);
  text.one("outlast_join_handshakes_failed_total", "counter", "Connections that broke off, or spoke without this node's key.",
           joins.handshakes_failed);
  text.one("outlast_join_connections", "gauge", "Connections to the door for joiners.", joins.connections);
  text.one("outlast_join_all_dropped_total", "counter", "Times that all of them were ended, since they were too many.",
           joins.all_dropped);
}

}  // namespace

void cluster_metrics(MetricsWriter& text, const ClusterPart& part) {
  const cluster::ClusterNodeStatus status = part.status();
  shard_metrics(text, status);
  commit_metrics(text, status);
  text.one("outlast_shards_not_opened", "gauge", "Shards whose store this node cannot open; it tries again.",
           status.unopened.size());
  link_metrics(text, status.links);
  text.one("outlast_lease_left_milliseconds", "gauge", "Until this node owns nothing, unless etcd answers.",
           static_cast<std::uint64_t>(status.lease_left_ms));
  text.one("outlast_etcd_members_healthy", "gauge", "Members of etcd that answered when last asked.",
           static_cast<std::uint64_t>(std::count_if(status.agreement.begin(), status.agreement.end(),
                                                    [](const auto& member) { return member.healthy; })));
  text.one("outlast_holder_pending", "gauge", "Operations that wait for their shard's owner.", status.holder.pending);
  text.one("outlast_holder_shards_cut_off", "gauge", "Shards whose owner cannot be reached.", status.holder.shards_cut_off);
  text.one("outlast_spool_bytes", "gauge", "What is served on this node's word and not in the ledger yet.",
           status.holder.spool_bytes);
  text.one("outlast_spool_operations_total", "counter", "Operations that went to the spool.", status.holder.spooled);
  text.one("outlast_served_and_refused_total", "counter", "Operations of the spool that the ledger refused: see the log.",
           status.holder.served_and_refused);
  text.one("outlast_holder_messages_dropped_total", "counter", "Messages of owners for which there was no room: they come again.",
           status.holder.dropped);
  if (const auto joins = part.join_counters()) join_metrics(text, *joins);
}

}  // namespace outlast::apps
