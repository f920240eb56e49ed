#include "gateway/idempotency.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "gateway/reservation_refusal.hpp"

namespace outlast::gateway {
namespace {

constexpr std::size_t header_bytes_max = 255;

asio::awaitable<void> send_kept(const KeptAnswer& kept, http::Response& response) {
  const std::string attempts = std::to_string(kept.attempts);
  const std::array<http::HeaderField, 6> headers = {{{"content-type", "application/json"},
                                                     {"x-request-id", kept.request_id},
                                                     {"x-outlast-request-id", kept.request_id},
                                                     {"x-outlast-deployment", kept.deployment},
                                                     {"x-outlast-attempts", attempts},
                                                     {"idempotency-replayed", "true"}}};
  const auto sent = co_await response.send(200, headers, *kept.body);
  static_cast<void>(sent);  // the caller is gone: nobody is left to tell
}

}  // namespace

Result<IdempotencyKey> idempotency_key(std::string_view key_id, std::string_view header, std::string_view body) {
  const bool printable = std::all_of(header.begin(), header.end(), [](char c) { return c >= ' ' && c < 0x7f; });
  if (header.empty() || header.size() > header_bytes_max || !printable) {
    return fail(DialectError::invalid_request,
                "an Idempotency-Key has 1 to 255 bytes of printable ASCII; a random UUID is a good one");
  }
  IdempotencyKey key;
  // The id of a virtual key holds no NUL, so no two pairs run together.
  key.key = Sha256().update(key_id).update(std::string_view("\0", 1)).update(header).finish();
  key.parameters = sha256(body);
  return key;
}

std::size_t AnswerCache::DigestHash::operator()(const Digest& digest) const noexcept {
  std::size_t hash = 0;  // any bytes of a SHA-256 are
  std::memcpy(&hash, digest.data(), sizeof hash);
  return hash;
}

void AnswerCache::keep(const Digest& key, KeptAnswer answer, std::int64_t now_ms) {
  const std::size_t bytes = answer.body->size() + entry_bytes;
  if (answer.body->size() > limits_.answer_bytes_max || bytes > limits_.bytes_max) return;
  const std::lock_guard lock(mutex_);
  if (by_key_.contains(key)) return;  // the first answer stands
  while (!by_age_.empty() &&
         (bytes_ + bytes > limits_.bytes_max || now_ms - by_age_.front().kept_ms > limits_.age_ms_max)) {
    drop_oldest();
  }
  by_age_.push_back({key, std::move(answer), now_ms});
  by_key_.emplace(key, std::prev(by_age_.end()));
  bytes_ += bytes;
}

std::optional<KeptAnswer> AnswerCache::find(const Digest& key, std::int64_t now_ms) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end() || now_ms - found->second->kept_ms > limits_.age_ms_max) return std::nullopt;
  return found->second->answer;
}

std::size_t AnswerCache::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

void AnswerCache::drop_oldest() {
  bytes_ -= by_age_.front().answer.body->size() + entry_bytes;
  by_key_.erase(by_age_.front().key);
  by_age_.pop_front();
}

asio::awaitable<bool> replay(AnswerCache& cache, const IdempotencyKey& key, LaneServices& lane, CallerSink& sink,
                             http::Response& response) {
  const auto kept = cache.find(key.key, lane.clock.monotonic_ns() / 1'000'000);
  if (!kept) co_return false;
  if (kept->parameters == key.parameters) {
    lane.metrics.answers_replayed.add();
    co_await send_kept(*kept, response);
    co_return true;
  }
  lane.metrics.idempotency_refusals.add();
  lane.metrics.refused.add();
  const MeterRefusal why{RefusalKind::key_mismatch, std::nullopt};
  ReservationRefusal refused = reservation_refusal({}, why, 0);
  refused.refusal.body = openai_error_body(refused.refusal.message, refused.type, refused.code);
  refused.refusal.head.request_id = kept->request_id;
  co_await sink.refuse(refused.refusal);
  co_return true;
}

asio::awaitable<Result<void>> IdempotentSink::whole(const AnswerHead& head, std::string_view body) {
  // Before it is sent, so that a caller whose connection breaks finds it when it asks again.
  cache_.keep(key_.key,
              {key_.parameters, std::string(head.request_id), std::string(head.deployment), head.attempts,
               std::make_shared<const std::string>(body)},
              lane_.clock.monotonic_ns() / 1'000'000);
  return inner_.whole(head, body);
}

asio::awaitable<void> IdempotentSink::refuse(const Refusal& refusal) {
  if (refusal.idempotency_conflict) {
    const bool replayed = co_await replay(cache_, key_, lane_, inner_, response_);
    if (replayed) co_return;
  }
  co_await inner_.refuse(refusal);
}

}  // namespace outlast::gateway
