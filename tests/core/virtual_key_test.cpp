#include <catch2/catch.hpp>

#include <set>

#include "core/virtual_key.hpp"

namespace virtual_key_test {

using outlast::HmacSha256;
using outlast::KeyTable;
using outlast::looks_like_virtual_key;
using outlast::make_virtual_key_text;
using outlast::VirtualKey;

namespace {

std::shared_ptr<const HmacSha256> make_hasher(const std::string& secret) {
  return std::make_shared<const HmacSha256>(std::as_bytes(std::span(secret.data(), secret.size())));
}

std::shared_ptr<VirtualKey> make_key(const HmacSha256& hasher, const std::string& text,
                                     const std::string& id) {
  auto key = std::make_shared<VirtualKey>();
  key->id = id;
  key->hash = hasher.of(text);
  return key;
}

}  // namespace

TEST_CASE("a new key has the right form and no two are alike", "[key]") {
  std::set<std::string> seen;
  for (int i = 0; i < 500; ++i) {
    const std::string text = make_virtual_key_text();
    CAPTURE(text);
    REQUIRE(text.size() == 42);
    REQUIRE(text.starts_with("ol_"));
    REQUIRE(looks_like_virtual_key(text));
    REQUIRE(seen.insert(text).second);
  }
}

TEST_CASE("every mistyped character and every swap of neighbours is noticed", "[key]") {
  const std::string text = make_virtual_key_text();
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (const char c : std::string("abcdefghijklmnopqrstuvwxyz234567A_ ")) {
      std::string mistyped = text;
      mistyped[i] = c;
      CAPTURE(text, mistyped);
      REQUIRE(looks_like_virtual_key(mistyped) == (mistyped == text));
    }
    if (i + 1 == text.size()) continue;
    std::string swapped = text;
    std::swap(swapped[i], swapped[i + 1]);
    CAPTURE(text, swapped);
    REQUIRE(looks_like_virtual_key(swapped) == (swapped == text));
  }
  CHECK_FALSE(looks_like_virtual_key(""));
  CHECK_FALSE(looks_like_virtual_key(text.substr(0, 41)));
  CHECK_FALSE(looks_like_virtual_key(text + "a"));
}

TEST_CASE("a key's public id tells nothing of its text", "[key]") {
  const std::string id = outlast::make_virtual_key_id();
  CHECK(id.starts_with("key_"));
  CHECK(id.size() == 15);
  CHECK(id != outlast::make_virtual_key_id());
}

TEST_CASE("the table finds live keys and neither unknown, mistyped nor revoked ones", "[key]") {
  const auto hasher = make_hasher("node secret");
  KeyTable table(hasher);
  const std::string live = make_virtual_key_text();
  const std::string revoked = make_virtual_key_text();
  table.add(make_key(*hasher, live, "key_live"));
  auto gone = make_key(*hasher, revoked, "key_gone");
  gone->revoked_ms = 1;
  table.add(gone);
  CHECK(table.size() == 1);
  const auto found = table.find(live);
  REQUIRE(found);
  CHECK(found->id == "key_live");
  CHECK_FALSE(table.find(revoked));
  CHECK_FALSE(table.find(make_virtual_key_text()));
  CHECK_FALSE(table.find("ol_short"));
  CHECK_FALSE(table.find(""));
}

TEST_CASE("a key of one node's secret means nothing to another node", "[key]") {
  const std::string text = make_virtual_key_text();
  const auto first = make_hasher("first");
  KeyTable table(make_hasher("second"));
  table.add(make_key(*first, text, "key_a"));
  CHECK_FALSE(table.find(text));
}

}  // namespace virtual_key_test
