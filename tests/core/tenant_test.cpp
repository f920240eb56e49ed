#include <catch2/catch.hpp>

#include "core/tenant.hpp"

namespace tenant_test {

using outlast::is;
using outlast::TenantError;
using outlast::TenantPath;

TEST_CASE("a tenant path has three parts and prints as it was read", "[tenant]") {
  const auto path = TenantPath::parse("acme/search.eu-1/ann_b");
  REQUIRE(path);
  CHECK(path->organisation == "acme");
  CHECK(path->team == "search.eu-1");
  CHECK(path->user == "ann_b");
  CHECK(path->to_string() == "acme/search.eu-1/ann_b");
  CHECK(TenantPath::parse("a/b/" + std::string(64, 'c')));
}

TEST_CASE("anything else is refused, and the error says what to write", "[tenant]") {
  for (const std::string& text :
       {std::string(""), std::string("acme"), std::string("acme/search"),
        std::string("acme/search/ann/x"), std::string("acme//ann"), std::string("/search/ann"),
        std::string("acme/search/"), std::string("acme/sea rch/ann"),
        std::string("acme/search/änn"), "a/b/" + std::string(65, 'c'), std::string("a/b/c\n"),
        std::string("a/b/c\0", 6)}) {
    CAPTURE(text);
    const auto path = TenantPath::parse(text);
    REQUIRE_FALSE(path);
    CHECK(is(path.error(), TenantError::malformed));
    CHECK_THAT(path.error().message, Catch::Contains("ORG/TEAM/USER"));
  }
}

TEST_CASE("the message about a path of any length is short", "[tenant]") {
  CHECK(TenantPath::parse(std::string(100'000, 'x')).error().message.size() < 400);
}

}  // namespace tenant_test
