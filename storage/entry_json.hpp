// Entries as JSON, one object each: what `outlast ledger export --format jsonl` and `ledger tail`
// print.
#pragma once

#include <string>
#include <string_view>

#include "storage/entry.hpp"

namespace outlast::storage {

// Appends one object without a line end. Every object has index, time_ms, kind, request_id,
// attempt, cost_pico_usd, estimated, prev_hash and hash (null where the kind has none); others as
// fit the kind. Amounts are decimal strings. `ledger_shard`: of a cluster, the shard in whose ledger
// the entry stands, which the object then begins with; empty for none. It is another than the
// `shard` of an allotment, which is the one on the other side.
void append_entry_json(std::string& out, const StoredEntry& entry,
                       std::string_view ledger_shard = {});

}  // namespace outlast::storage
