#include "core/signing.hpp"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "core/check.hpp"
#include "core/crypto.hpp"

namespace outlast {
namespace {

constexpr std::size_t keys_max = 64;
constexpr std::size_t pem_bytes_max = 64U << 10;

struct Free {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using Key = std::unique_ptr<EVP_PKEY, Free>;
using Context = std::unique_ptr<EVP_MD_CTX, Free>;
using Memory = std::unique_ptr<BIO, Free>;

Memory readable(std::string_view text) {
  return Memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::string taken(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<std::size_t>(size)};
}

PublicKey raw_public(const EVP_PKEY* key) {
  PublicKey raw{};
  std::size_t size = raw.size();
  check(EVP_PKEY_get_raw_public_key(key, raw.data(), &size) == 1 && size == raw.size(),
        "an Ed25519 key has a public half of 32 bytes");
  return raw;
}

}  // namespace

struct SigningKey::Impl {
  Key key;
};

SigningKey::SigningKey(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SigningKey::SigningKey(SigningKey&&) noexcept = default;
SigningKey::~SigningKey() = default;

SigningKey SigningKey::make() {
  Key key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  check(key != nullptr, "libcrypto makes Ed25519 keys");
  return SigningKey(std::make_unique<Impl>(Impl{std::move(key)}));
}

Result<SigningKey> SigningKey::parse(std::string_view pem) {
  Key key;
  if (pem.size() <= pem_bytes_max) {
    key.reset(PEM_read_bio_PrivateKey(readable(pem).get(), nullptr, nullptr, nullptr));
  }
  if (key == nullptr || EVP_PKEY_get_id(key.get()) != EVP_PKEY_ED25519)
    return fail(SigningError::malformed, "is not an Ed25519 private key as PEM");
  return SigningKey(std::make_unique<Impl>(Impl{std::move(key)}));
}

std::string SigningKey::to_pem() const {
  const Memory bio(BIO_new(BIO_s_secmem()));
  check(PEM_write_bio_PKCS8PrivateKey(bio.get(), impl_->key.get(), nullptr, nullptr, 0, nullptr,
                                      nullptr) == 1,
        "a key can be written");
  return taken(bio.get());
}

PublicKey SigningKey::public_key() const { return raw_public(impl_->key.get()); }

Signature SigningKey::sign(std::string_view message) const {
  const Context context(EVP_MD_CTX_new());
  Signature signature{};
  std::size_t size = signature.size();
  check(EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, impl_->key.get()) == 1 &&
            EVP_DigestSign(context.get(), signature.data(), &size,
                           reinterpret_cast<const unsigned char*>(message.data()),
                           message.size()) == 1 &&
            size == signature.size(),
        "an Ed25519 key signs");
  return signature;
}

bool verify_signature(const PublicKey& key, std::string_view message, const Signature& signature) {
  const Key loaded(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key.data(), key.size()));
  const Context context(EVP_MD_CTX_new());
  return loaded != nullptr &&
         EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, loaded.get()) == 1 &&
         EVP_DigestVerify(context.get(), signature.data(), signature.size(),
                          reinterpret_cast<const unsigned char*>(message.data()),
                          message.size()) == 1;
}

std::string to_pem(const PublicKey& key) {
  const Key loaded(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key.data(), key.size()));
  const Memory bio(BIO_new(BIO_s_mem()));
  check(loaded != nullptr && PEM_write_bio_PUBKEY(bio.get(), loaded.get()) == 1,
        "a public key can be written");
  return taken(bio.get());
}

Result<std::vector<PublicKey>> parse_public_keys(std::string_view pem) {
  std::vector<PublicKey> keys;
  const Failure bad = fail(SigningError::malformed, "does not hold Ed25519 public keys as PEM");
  if (pem.size() > pem_bytes_max) return bad;
  const Memory bio = readable(pem);
  while (const Key key{PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr)}) {
    if (EVP_PKEY_get_id(key.get()) != EVP_PKEY_ED25519 || keys.size() == keys_max) return bad;
    keys.push_back(raw_public(key.get()));
  }
  if (keys.empty()) return bad;
  return keys;
}

}  // namespace outlast
