// Idempotency: a caller that does not know whether its request arrived sends it again under the same `Idempotency-Key`,
// and it is charged once. The ledger remembers the key for 35 days; the node keeps whole answers for a while, so that
// a repetition gets the first one's.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/metering.hpp"
#include "gateway/exchange.hpp"
#include "http/server.hpp"

namespace outlast::gateway {

// What of the header and the body makes two requests the same. Refuses a header that is not 1 to 255 bytes of
// printable ASCII; the error is in words for the caller.
Result<IdempotencyKey> idempotency_key(std::string_view key_id, std::string_view header, std::string_view body);

struct KeptAnswer {
  Digest parameters{};
  std::string request_id;
  std::string deployment;
  std::uint32_t attempts = 0;
  std::shared_ptr<const std::string> body;
};

// The whole answers of a node, by key. The oldest go when the bytes or the age are over the limit. Any thread: one
// mutex, taken only for requests that bring a key.
class AnswerCache {
 public:
  struct Limits {
    std::size_t bytes_max = 64U << 20;
    std::size_t answer_bytes_max = 4U << 20;
    std::int64_t age_ms_max = 24LL * 3600 * 1000;
  };
  AnswerCache() = default;
  explicit AnswerCache(Limits limits) : limits_(limits) {}

  void keep(const Digest& key, KeptAnswer answer, std::int64_t now_ms);
  [[nodiscard]] std::optional<KeptAnswer> find(const Digest& key, std::int64_t now_ms) const;
  [[nodiscard]] std::size_t bytes() const;

 private:
  static constexpr std::size_t entry_bytes = 512;  // about what an entry takes beside its body
  struct Kept {
    Digest key;
    KeptAnswer answer;
    std::int64_t kept_ms;
  };
  struct DigestHash {
    std::size_t operator()(const Digest& digest) const noexcept;
  };
  void drop_oldest();

  const Limits limits_;
  mutable std::mutex mutex_;
  std::list<Kept> by_age_;  // the oldest first
  std::unordered_map<Digest, std::list<Kept>::iterator, DigestHash> by_key_;
  std::size_t bytes_ = 0;
};

// Answers a repetition from the cache; false when it has no answer for the key.
asio::awaitable<bool> replay(AnswerCache& cache, const IdempotencyKey& key, LaneServices& lane, CallerSink& sink,
                             http::Response& response);

// The sink of a request with a key: keeps its whole answer; and when the ledger says that another request had the key,
// looks once more for that one's, which may have come meanwhile.
class IdempotentSink final : public CallerSink {
 public:
  IdempotentSink(CallerSink& inner, http::Response& response, LaneServices& lane, AnswerCache& cache,
                 const IdempotencyKey& key)
      : inner_(inner), response_(response), lane_(lane), cache_(cache), key_(key) {}

  asio::awaitable<Result<void>> begin(const AnswerHead& head) override { return inner_.begin(head); }
  asio::awaitable<Result<void>> pass(std::string_view bytes, std::span<const chat::Event> events) override {
    return inner_.pass(bytes, events);
  }
  asio::awaitable<Result<void>> end(std::string_view bytes, std::span<const chat::Event> events) override {
    return inner_.end(bytes, events);
  }
  asio::awaitable<Result<void>> whole(const AnswerHead& head, std::string_view body) override;
  asio::awaitable<void> refuse(const Refusal& refusal) override;
  asio::awaitable<void> break_off(const UpstreamFailure& failure) override { return inner_.break_off(failure); }
  void on_gone(std::function<void()> callback) override { inner_.on_gone(std::move(callback)); }

 private:
  CallerSink& inner_;
  http::Response& response_;
  LaneServices& lane_;
  AnswerCache& cache_;
  const IdempotencyKey key_;
};

}  // namespace outlast::gateway
