#include "core/signing.hpp"

#include <catch2/catch.hpp>

namespace outlast::signing_test {

TEST_CASE("a signature is good for its key and message only") {
  const SigningKey key = SigningKey::make();
  const Signature signature = key.sign("a head");
  CHECK(verify_signature(key.public_key(), "a head", signature));
  CHECK_FALSE(verify_signature(key.public_key(), "a heaD", signature));
  CHECK_FALSE(verify_signature(SigningKey::make().public_key(), "a head", signature));
  Signature other = signature;
  other[3] ^= 1;
  CHECK_FALSE(verify_signature(key.public_key(), "a head", other));
}

TEST_CASE("keys survive their way through PEM") {
  const SigningKey key = SigningKey::make();
  const Result<SigningKey> again = SigningKey::parse(key.to_pem());
  REQUIRE(again);
  CHECK(again->public_key() == key.public_key());
  CHECK(again->sign("x") == key.sign("x"));
  const SigningKey second = SigningKey::make();
  const auto both = parse_public_keys(to_pem(key.public_key()) + to_pem(second.public_key()));
  REQUIRE(both);
  CHECK(*both == std::vector<PublicKey>{key.public_key(), second.public_key()});
}

TEST_CASE("what is no key is refused") {
  CHECK_FALSE(SigningKey::parse(""));
  CHECK_FALSE(SigningKey::parse(to_pem(SigningKey::make().public_key())));
  CHECK_FALSE(SigningKey::parse(std::string(100'000, 'x')));
  CHECK_FALSE(parse_public_keys("nothing"));
  // RFC 8032, test 1 of section 7.1: the signature of the empty message.
  const auto bytes = [](std::string_view hex, auto& out) {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<std::uint8_t>(std::stoi(std::string(hex.substr(2 * i, 2)), nullptr, 16));
  };
  PublicKey known;
  Signature signature;
  bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", known);
  bytes(
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9"
      "b46bd25bf5f0595bbe24655141438e7a100b",
      signature);
  CHECK(verify_signature(known, "", signature));
}

}  // namespace outlast::signing_test
