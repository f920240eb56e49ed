#include <catch2/catch.hpp>

#include <set>
#include <string>

#include "storage/ledger_error_text.hpp"

namespace outlast::storage::ledger_error_text_test {

TEST_CASE("every error of the ledger has a text of its own, and one of a later version a general one", "[ledger]") {
  constexpr int last = static_cast<int>(LedgerError::not_enrolled);
  const std::string general = text_of(static_cast<LedgerError>(last + 1));
  CHECK(general == "the ledger refused the operation");
  std::set<std::string> texts{general};
  for (int error = 1; error <= last; ++error) {
    INFO(error);
    CHECK(texts.insert(text_of(static_cast<LedgerError>(error))).second);
  }
}

}  // namespace outlast::storage::ledger_error_text_test
