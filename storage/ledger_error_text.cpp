#include "storage/ledger_error_text.hpp"

namespace outlast::storage {

// Without a default, so that the compiler asks for the text of an error that is new.
const char* text_of(LedgerError error) {
  switch (error) {
    case LedgerError::corrupt: return "the ledger is damaged; 'outlast ledger verify' says where";
    case LedgerError::locked: return "another process has the ledger open";
    case LedgerError::io: return "the disk of the ledger failed a read or a write; the node's log says which file";
    case LedgerError::disk_full: return "the disk of the ledger is full; make room";
    case LedgerError::overloaded: return "the ledger takes no more of these now; try again, or end some first";
    case LedgerError::duplicate: return "the id or the idempotency key was used already";
    case LedgerError::unknown_request: return "there is no open reservation of that id";
    case LedgerError::already_ended: return "the reservation has ended with other parameters";
    case LedgerError::too_old: return "the id is older than 35 days; make a new one";
    case LedgerError::unknown_key: return "there is no such key";
    case LedgerError::stopped: return "the node is stopping; ask another, or this one when it runs again";
    case LedgerError::invalid: return "an amount or a text of the operation is outside its limits";
    case LedgerError::budget_exhausted: return "a budget on the path has not enough left";
    case LedgerError::unknown_budget: return "there is no such budget";
    case LedgerError::unknown_commitment: return "there is no such commitment";
    case LedgerError::overlap: return "two commitments would be drawn from at once; end the other one first";
    case LedgerError::in_progress: return "a request with this idempotency key is still open; wait for its answer";
    case LedgerError::mismatch: return "the idempotency key was used with other parameters; make a new one";
    case LedgerError::unknown_breaker: return "no such spend breaker is open, or there is no such rule";
    case LedgerError::fenced: return "another node owns the shard by now; try again";
    case LedgerError::unavailable: return "the shard has no owner that can be reached; try again";
    case LedgerError::unknown_holder: return "this gateway process was ended in the ledger; start it again";
    case LedgerError::unknown_node: return "there is no node of that name";
    case LedgerError::bad_token: return "the join token is not known, was used or has expired";
    case LedgerError::taken: return "the name or the key is another node's";
    case LedgerError::key_revoked: return "the node's key was revoked; make new ones and join again";
    case LedgerError::last_node: return "it is the cluster's last node; let another join first";
    case LedgerError::not_enrolled: return "the node was removed or revoked; it has to join again";
  }
  return "the ledger refused the operation";  // of a version that knows more errors
}

}  // namespace outlast::storage
