// Enrolment: what a join listener's requests go to: it checks the token's secret, has the ledger enrol the node, and
// says what the node needs to begin.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cluster/join_listener.hpp"
#include "storage/ledger_store.hpp"

namespace outlast::cluster {

// Any thread.
class Enrolment {
 public:
  // `ledger` is the cluster's control shard, as LedgerStore, and outlives this; the secret is what all nodes share.
  Enrolment(storage::LedgerStore& ledger, const Clock& clock, std::string cluster, std::string secret)
      : ledger_(ledger), clock_(clock), cluster_(std::move(cluster)), secret_(std::move(secret)) {}

  // Answers once: at once when it refuses, else when the enrolment is durable, on the ledger's thread. A node that takes
  // part already and whose answer was lost is answered again: it has the key that the token let in.
  void join(JoinRequest request, JoinListener::Answer answer);

 private:
  storage::LedgerStore& ledger_;
  const Clock& clock_;
  const std::string cluster_;
  const std::string secret_;
};

}  // namespace outlast::cluster
