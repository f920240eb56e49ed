#include "cluster/shard_id.hpp"

#include <catch2/catch.hpp>

#include <set>
#include <string>

namespace shard_id_test {

using namespace outlast::cluster;

TEST_CASE("A shard's name can be read back, and nothing else can", "[shard]") {
  for (const ShardId shard : {ShardId{0}, ShardId{7}, ShardId{999}, ShardId{1023}, control_shard}) {
    ShardId read = 1;
    REQUIRE(parse_shard(name_of_shard(shard), read));
    CHECK(read == shard);
  }
  ShardId read = 0;
  for (const char* text : {"", "s", "s7", "s1024", "s-01", "s0007", "controls", "S007", "s007 "}) {
    INFO(text);
    CHECK_FALSE(parse_shard(text, read));
  }
}

TEST_CASE("A shard is read as people write it, and as nothing else", "[shard]") {
  CHECK(label_of_shard(7) == "7");
  CHECK(label_of_shard(control_shard) == "control");
  for (const ShardId shard : {ShardId{0}, ShardId{7}, ShardId{999}, ShardId{1023}, control_shard}) {
    ShardId read = 1;
    REQUIRE(parse_shard_label(label_of_shard(shard), read));
    CHECK(read == shard);
  }
  ShardId read = 0;
  for (const char* text : {"", "s007", "07", "-1", "+1", "1024", "65535", "Control", "7 ", " 7", "7x", "99999999999"}) {
    INFO(text);
    CHECK_FALSE(parse_shard_label(text, read));
  }
}

TEST_CASE("An organisation's shard never changes, and organisations spread over all shards", "[shard]") {
  CHECK(shard_of("acme", 16) == shard_of("acme", 16));
  std::set<ShardId> seen;
  for (int i = 0; i < 500; ++i) seen.insert(shard_of("organisation-" + std::to_string(i), 16));
  CHECK(seen.size() == 16);
  // As it stands in ledgers that exist.
  CHECK(shard_of("acme", 16) == 0);
}

}  // namespace shard_id_test
