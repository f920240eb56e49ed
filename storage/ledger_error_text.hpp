// What a refusal of the ledger says to people, where nobody knows more about it: the one place for these texts.
#pragma once

#include "storage/ledger_error.hpp"

namespace outlast::storage {

// Of static storage. An error that this version does not know gets a general text.
const char* text_of(LedgerError error);

}  // namespace outlast::storage
