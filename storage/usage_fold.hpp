// Folding: adds roll-ups of hours that no entry can change any more to those of their day and
// month. It follows from the rows alone, so it may happen at any time and in pieces, and a store of
// before there were such rows is caught up with like any other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "storage/log.hpp"
#include "storage/usage_rows.hpp"

namespace outlast::storage {

// Puts what folding up to `rows_max` more rows of hours before `end_hour` changes; returns how many
// rows those were. Fewer than `rows_max`: all before `end_hour` are folded. The changes are in the
// view before the next call. Errors: io, corrupt.
Result<std::size_t> fold_rollups(const LedgerView& view, std::uint32_t end_hour,
                                 std::size_t rows_max, TableChanges& changes);

// Whether the rows of days and months are the sums of the stored rows of hours that they are said
// to hold; what is wrong, or empty.
Result<std::string> check_folded(const LedgerView& view);

}  // namespace outlast::storage
