#include <catch2/catch.hpp>

#include <unordered_set>

#include "core/clock.hpp"
#include "core/id.hpp"

namespace id_test {

using outlast::ManualClock;
using outlast::Random;
using outlast::Uuid;
using outlast::UuidGenerator;

TEST_CASE("ids of one generator strictly increase, though the clock stands or goes back", "[id]") {
  const auto seed = GENERATE(range(1, 9));
  ManualClock clock;
  UuidGenerator generator(clock, static_cast<std::uint64_t>(seed));
  Random random(static_cast<std::uint64_t>(seed) * 77);
  std::unordered_set<Uuid> seen;
  Uuid last;
  for (int i = 0; i < 20'000; ++i) {
    const auto turn = random.below(1'000);
    if (turn == 0)
      clock.set_wall_ms(clock.wall_ms() - static_cast<std::int64_t>(random.below(5'000)));
    if (turn > 900) clock.advance_ms(static_cast<std::int64_t>(random.below(3)));
    const Uuid id = generator.next();
    CAPTURE(seed, i, id.to_string(), last.to_string());
    REQUIRE(last < id);
    REQUIRE(seen.insert(id).second);
    last = id;
  }
}

TEST_CASE("the text of ids sorts as the ids do", "[id]") {
  ManualClock clock;
  UuidGenerator generator(clock, 3);
  Uuid last = generator.next();
  for (int i = 0; i < 5'000; ++i) {
    if (i % 7 == 0) clock.advance_ms(1);
    const Uuid id = generator.next();
    REQUIRE(last.to_string() < id.to_string());
    last = id;
  }
}

TEST_CASE("an id is of version 7, of the RFC's variant, and knows its time", "[id]") {
  ManualClock clock;
  clock.set_wall_ms(1'799'999'999'123);
  UuidGenerator generator(clock, 1);
  const Uuid id = generator.next();
  CHECK(id.unix_ms() == 1'799'999'999'123);
  CHECK(id.bytes[6] >> 4 == 7);
  CHECK(id.bytes[8] >> 6 == 2);
  CHECK(id.to_string().size() == 36);
  CHECK(id.to_string()[14] == '7');
}

TEST_CASE("the example of RFC 9562 reads and prints the same", "[id]") {
  const auto id = Uuid::parse("017F22E2-79B0-7CC3-98C4-DC0C0C07398F");
  REQUIRE(id);
  CHECK(id->to_string() == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
  CHECK(id->unix_ms() == 0x017F22E279B0);
  CHECK_FALSE(id->is_nil());
  CHECK(Uuid{}.is_nil());
}

TEST_CASE("text that is not an id is refused", "[id]") {
  for (const char* text :
       {"", "017f22e2", "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398fa", "017f22e2x79b0-7cc3-98c4-dc0c0c07398f",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398g", "{17f22e2-79b0-7cc3-98c4-dc0c0c07398}",
        "017f22e-279b0-7cc3-98c4-dc0c0c07398f"}) {
    CAPTURE(text);
    CHECK_FALSE(Uuid::parse(text));
  }
}

TEST_CASE("two generators of one seed and clock give the same ids, so that a run replays", "[id]") {
  ManualClock clock;
  UuidGenerator first(clock, 42);
  UuidGenerator second(clock, 42);
  UuidGenerator other(clock, 43);
  const Uuid id = first.next();
  CHECK(id == second.next());
  CHECK(id != other.next());
}

}  // namespace id_test
