#include "cluster/holder_session.hpp"

#include <catch2/catch.hpp>

namespace outlast::cluster::holder_session_test {
namespace {

shard::Operations message_of(std::uint64_t stream, std::uint64_t base, std::uint64_t first, std::size_t count,
                             std::uint64_t confirmed = 0) {
  return {Incarnation{}, stream, base, first, confirmed, false, std::vector<shard::Operation>(count)};
}

}  // namespace

TEST_CASE("an acknowledgement says only of what it has room for that it was decided", "[cluster][owner]") {
  HolderSession session;
  const std::size_t many = shard::refusals_max + 10;
  REQUIRE(session.hear("beta", message_of(3, 1, 1, many)) == HolderSession::Hears::new_stream);
  REQUIRE(session.first_new(message_of(3, 1, 1, many)) == 0);
  for (std::size_t i = 0; i < many; ++i) {
    session.refuse(session.next(), storage::LedgerError::budget_exhausted, "short", std::nullopt);
    session.took();
  }
  session.committed();
  const auto first = session.take_acknowledgement({});
  REQUIRE(first);
  CHECK(first->refusals.size() == shard::refusals_max);
  CHECK(first->up_to == shard::refusals_max);
  CHECK_FALSE(session.take_acknowledgement({}));  // not before the holder has confirmed these
  REQUIRE(session.hear("beta", message_of(3, 1, 1, 0, first->number)) == HolderSession::Hears::yes);
  const auto second = session.take_acknowledgement({});
  REQUIRE(second);
  CHECK(second->refusals.size() == 10);
  CHECK(second->up_to == many);
}

TEST_CASE("a session that was forgotten asks for what the stream began with", "[cluster][owner]") {
  HolderSession session;
  REQUIRE(session.hear("beta", message_of(3, 5, 9, 2)) == HolderSession::Hears::new_stream);
  CHECK(session.first_new(message_of(3, 5, 9, 2)) == 2);
  session.committed();
  CHECK(session.take_acknowledgement({})->resend_from == 5);
  CHECK(session.hear("beta", message_of(2, 1, 1, 1)) == HolderSession::Hears::stale);
  CHECK(session.hear("beta", message_of(4, 0, 1, 1)) == HolderSession::Hears::stale);  // no stream begins before 1
}

}  // namespace outlast::cluster::holder_session_test
