#include <catch2/catch.hpp>

#include <span>

#include "core/crypto.hpp"
#include "core/random.hpp"

namespace crypto_test {

using outlast::HmacSha256;
using outlast::Sha256;
using outlast::to_hex;

namespace {

std::string hmac_hex(const std::string& key, std::string_view message) {
  return to_hex(HmacSha256(std::as_bytes(std::span(key.data(), key.size()))).of(message));
}

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace

TEST_CASE("SHA-256 gives the digests of FIPS 180-4", "[crypto]") {
  CHECK(to_hex(outlast::sha256("")) ==
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(to_hex(outlast::sha256("abc")) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(to_hex(outlast::sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(to_hex(outlast::sha256(std::string(1'000'000, 'a'))) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("SHA-256 does not depend on where its input is cut", "[crypto]") {
  const auto seed = GENERATE(range(0, 10));
  outlast::Random random(static_cast<std::uint64_t>(seed));
  std::string text;
  for (std::uint64_t i = random.below(500); i > 0; --i)
    text += static_cast<char>(random.below(256));
  Sha256 pieces;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = 1 + random.below(80);
    pieces.update(std::string_view(text).substr(at, length));
    at += length;
  }
  CHECK(pieces.finish() == outlast::sha256(text));
}

TEST_CASE("HMAC-SHA-256 gives the digests of RFC 4231", "[crypto]") {
  CHECK(hmac_hex(std::string(20, '\x0b'), "Hi There") ==
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  CHECK(hmac_hex("Jefe", "what do ya want for nothing?") ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK(hmac_hex(std::string(20, '\xaa'), std::string(50, '\xdd')) ==
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
  std::string counting;
  for (char c = 1; c <= 25; ++c) counting += c;
  CHECK(hmac_hex(counting, std::string(50, '\xcd')) ==
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
  CHECK(hmac_hex(std::string(131, '\xaa'),
                 "Test Using Larger Than Block-Size Key - Hash Key First") ==
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
  CHECK(hmac_hex(std::string(131, '\xaa'),
                 "This is a test using a larger than block-size key and a larger than block-size "
                 "data. The key needs to "
                 "be hashed before being used by the HMAC algorithm.") ==
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

TEST_CASE("one HMAC object answers many messages independently", "[crypto]") {
  const std::string key = "Jefe";
  const HmacSha256 hmac(std::as_bytes(std::span(key.data(), key.size())));
  const auto first = hmac.of("one");
  CHECK(hmac.of("two") != first);
  CHECK(hmac.of("one") == first);
}

TEST_CASE("CRC-32 and base32 give the values of their standards", "[crypto]") {
  CHECK(outlast::crc32("123456789") == 0xcbf43926U);
  CHECK(outlast::crc32("") == 0);
  // RFC 4648, section 10, in lower case and without padding.
  CHECK(outlast::to_base32(bytes_of("")).empty());
  CHECK(outlast::to_base32(bytes_of("f")) == "my");
  CHECK(outlast::to_base32(bytes_of("fo")) == "mzxq");
  CHECK(outlast::to_base32(bytes_of("foo")) == "mzxw6");
  CHECK(outlast::to_base32(bytes_of("foob")) == "mzxw6yq");
  CHECK(outlast::to_base32(bytes_of("fooba")) == "mzxw6ytb");
  CHECK(outlast::to_base32(bytes_of("foobar")) == "mzxw6ytboi");
}

TEST_CASE("secrets are compared whole and wiped", "[crypto]") {
  CHECK(outlast::constant_time_equal("token", "token"));
  CHECK_FALSE(outlast::constant_time_equal("token", "tokeN"));
  CHECK_FALSE(outlast::constant_time_equal("token", "token1"));
  CHECK(outlast::constant_time_equal("", ""));
  std::string secret = "hunter2";
  outlast::wipe(secret);
  CHECK(secret.empty());
}

}  // namespace crypto_test
