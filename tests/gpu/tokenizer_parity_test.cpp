// Token ids against the `tokenizers` library: texts and ids by make_tokenizer_fixture.py, in tests/gpu/fixtures/tokenizer or in
// $OUTLAST_TOKENIZER_FIXTURE.
#include <cstdlib>
#include <cstring>

#include <catch2/catch.hpp>

#include "gpu/files/whole_file.hpp"
#include "gpu/tokenizer/tokenizer.hpp"

namespace outlast::gpu::tokenizer_parity_test {
namespace {

constexpr std::size_t texts_min = 10'000;
constexpr std::size_t fixture_bytes_max = 256U << 20;

std::string fixture(const std::string& name) {
  const char* const chosen = std::getenv("OUTLAST_TOKENIZER_FIXTURE");
  return (chosen != nullptr ? std::string(chosen) : std::string(OUTLAST_SOURCE_DIR "/tests/gpu/fixtures/tokenizer")) + "/" + name;
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  [[nodiscard]] bool ended() const { return bytes_.empty(); }
  std::string_view take(std::size_t size) {
    REQUIRE(size <= bytes_.size());
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  template <class Number>
  Number number() {
    Number value = 0;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

 private:
  std::string_view bytes_;
};

std::uint64_t hash_of(const std::vector<TokenId>& ids) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const TokenId id : ids) {
    for (int shift = 0; shift < 32; shift += 8) hash = (hash ^ ((id >> shift) & 0xff)) * 0x100000001b3;
  }
  return hash;
}

// As an escaped literal: what differs may be invisible, or no text at all.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    char byte[8];
    (void)std::snprintf(byte, sizeof byte, "\\x%02x", static_cast<unsigned char>(c));
    out += byte;
  }
  return out;
}

}  // namespace

TEST_CASE("ten thousand texts have the ids that the tokenizers library gives them", "[gpu]") {
  auto read = load_tokenizer(fixture("tokenizer.json"));
  REQUIRE(read);
  const auto encoder = TokenEncoder::make(std::make_shared<const Tokenizer>(std::move(*read)));
  REQUIRE(encoder);
  const auto strings = read_whole_file(fixture("strings.bin"), fixture_bytes_max);
  REQUIRE(strings);
  std::size_t texts = 0;
  for (Reader reader(*strings); !reader.ended(); ++texts) {
    const std::string_view text = reader.take(reader.number<std::uint32_t>());
    const auto count = reader.number<std::uint32_t>();
    const auto hash = reader.number<std::uint64_t>();
    std::vector<TokenId> ids;
    REQUIRE((*encoder)->encode(text, TokenEncoder::Added::tokens, ids));
    if (ids.size() == count && hash_of(ids) == hash) continue;
    FAIL_CHECK("text " << texts << " has " << ids.size() << " tokens, of " << count << ": " << escaped(text));
  }
  CHECK(texts >= texts_min);
}

}  // namespace outlast::gpu::tokenizer_parity_test
