#include "apps/outlastd/exit_status.hpp"

#include "apps/config/node_config.hpp"
#include "storage/ledger_error.hpp"

namespace outlast::apps {

int exit_status_of(const Error& error) {
  using storage::LedgerError;
  if (error.module == error_module<ConfigError>) return exit_unusable;
  if (is(error, LedgerError::not_enrolled) || is(error, LedgerError::unknown_node)) return exit_not_enrolled;
  return exit_failed;
}

}  // namespace outlast::apps
