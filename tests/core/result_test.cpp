#include <catch2/catch.hpp>

#include "core/money.hpp"
#include "core/result.hpp"
#include "core/tenant.hpp"

namespace result_test {

using outlast::fail;
using outlast::is;
using outlast::MoneyError;
using outlast::Result;
using outlast::TenantError;

TEST_CASE("an error knows its module, its code and its message, and keeps them on its way up",
          "[result]") {
  const Result<int> low = fail(MoneyError::too_precise, "too precise");
  REQUIRE_FALSE(low);
  const Result<std::string> high = fail(low.error());
  REQUIRE_FALSE(high);
  CHECK(high.error().module == "money");
  CHECK(high.error().code == 2);
  CHECK(high.error().message == "too precise");
}

TEST_CASE("equal codes of different modules are different errors", "[result]") {
  const Result<int> money = fail(MoneyError::malformed, "");
  CHECK(is(money.error(), MoneyError::malformed));
  CHECK_FALSE(is(money.error(), MoneyError::too_precise));
  CHECK_FALSE(is(money.error(), TenantError::malformed));
}

}  // namespace result_test
