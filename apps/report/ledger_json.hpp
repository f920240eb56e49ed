// What a ledger's upkeep tells as JSON: the same from a node and from its folder.
#pragma once

#include <string>

#include "storage/backup.hpp"
#include "storage/signed_heads.hpp"

namespace outlast::apps {

// {"heads": [{node, index, hash, time_ms, signature}], "problem": "…" or null}
std::string heads_json(const storage::SignedHeads& heads);
// {id, entries, head, segments, bytes, kept}
std::string backup_json(const storage::BackupReport& report);

}  // namespace outlast::apps
