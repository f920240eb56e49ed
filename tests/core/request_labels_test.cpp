#include <catch2/catch.hpp>

#include "core/request_labels.hpp"

namespace request_labels_test {

using namespace outlast;

TEST_CASE("labels are read from a list with spaces, each tag once", "[labels]") {
  const auto labels = RequestLabels::parse(" nightly, team a ,nightly ", " crawl 7 ");
  REQUIRE(labels);
  CHECK(labels->tags == std::vector<std::string>{"nightly", "team a"});
  CHECK(labels->session == "crawl 7");
  CHECK(*RequestLabels::parse("", "") == RequestLabels{});
}

TEST_CASE("labels out of bounds are refused", "[labels]") {
  CHECK_FALSE(RequestLabels::parse("a,,b", ""));
  CHECK_FALSE(RequestLabels::parse(std::string(65, 't'), ""));
  CHECK_FALSE(RequestLabels::parse("1,2,3,4,5,6,7,8,9", ""));
  CHECK_FALSE(RequestLabels::parse("caf\xc3\xa9", ""));
  CHECK_FALSE(RequestLabels::parse("", std::string(129, 's')));
  CHECK_FALSE(RequestLabels::parse("", "a\nb"));
  CHECK_FALSE(RequestLabels::check({"a,b"}, ""));
  CHECK_FALSE(RequestLabels::check({""}, ""));
  CHECK(RequestLabels::parse("1,2,3,4,5,6,7,8,1", "")->tags.size() == 8);
}

}  // namespace request_labels_test
