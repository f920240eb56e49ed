// What a ledger's upkeep tells as JSON: the same from a node and from its folder.
#pragma once

#include <string>
#include <string_view>

#include "storage/backup.hpp"
#include "storage/signed_heads.hpp"

namespace outlast::apps {

// What is said where heads of a cluster's ledger are asked for.
inline constexpr std::string_view no_heads_in_cluster =
    "the shards of a cluster have no signed heads: the end of each one's log stands in etcd, and its replicas on several "
    "nodes; compare what 'outlast ledger verify' says at each of them";

// {"heads": [{node, index, hash, time_ms, signature}], "problem": "…" or null}
std::string heads_json(const storage::SignedHeads& heads);
// {id, entries, head, segments, bytes, kept}
std::string backup_json(const storage::BackupReport& report);

}  // namespace outlast::apps
