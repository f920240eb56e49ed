// Entries as JSON, one object each: what `outlast ledger export --format jsonl` and `ledger tail`
// print.
#pragma once

#include <string>

#include "storage/entry.hpp"

namespace outlast::storage {

// Appends one object without a line end. Every object has index, time_ms, kind, request_id,
// attempt, cost_pico_usd, estimated, prev_hash and hash (null where the kind has none); others as
// fit the kind. Amounts are decimal strings.
void append_entry_json(std::string& out, const StoredEntry& entry);

}  // namespace outlast::storage
