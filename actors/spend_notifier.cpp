#include "actors/spend_notifier.hpp"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "actors/local_command.hpp"
#include "core/clock.hpp"
#include "core/crypto.hpp"
#include "core/log.hpp"
#include "http/client.hpp"

namespace outlast::actors {
namespace {

namespace asio = boost::asio;

constexpr std::uint32_t backoff_first_ms = 500;
constexpr std::uint32_t backoff_most_ms = 60'000;
constexpr std::size_t answer_bytes_max = 64 * 1024;
constexpr auto command_limit = std::chrono::seconds(10);

// Coroutines refer to the client, so they go before it.
class NotifierContext : public asio::io_context {
 public:
  NotifierContext() : asio::io_context(1) {}
  void drop_pending() { shutdown(); }
};

struct Attempt {
  bool delivered = false;
  bool worth_another = true;
  std::string what;
};

}  // namespace

std::string spend_signature(std::string_view secret, std::string_view timestamp, std::string_view body) {
  std::string signed_text(timestamp);
  signed_text.append(".").append(body);
  return "v1=" + to_hex(HmacSha256(std::as_bytes(std::span(secret.data(), secret.size()))).of(signed_text));
}

std::uint32_t spend_backoff_ms(std::uint32_t attempts, Random& random) {
  const std::uint32_t doublings = std::min(std::max(attempts, 1U) - 1, 10U);
  const std::uint32_t whole = std::min(backoff_first_ms << doublings, backoff_most_ms);
  return whole / 2 + static_cast<std::uint32_t>(random.below(whole / 2 + 1));
}

class SpendNotifier::Impl {
 public:
  Impl(http::ClientOptions options, SpendNotifierCounters& counters)
      : work_(context_.get_executor()),
        client_(context_, std::move(options)),
        random_(secure_seed()),
        counters_(counters),
        thread_([this] { context_.run(); }) {
    pthread_setname_np(thread_.native_handle(), "notifier");
  }
  ~Impl() {
    context_.stop();
    thread_.join();
    context_.drop_pending();
  }

  void take(SpendNotice notice) {
    if (queued_.fetch_add(1) >= waiting_max) {
      queued_.fetch_sub(1);
      counters_.dropped.fetch_add(1);
      log::error("spend_notice_dropped", {{"delivery", notice.id}, {"why", "too many wait for delivery"}});
      return;
    }
    asio::post(context_, [this, notice = std::move(notice)]() mutable {
      waiting_.push_back(std::move(notice));
      start();
    });
  }

 private:
  void start() {
    while (under_way_ < under_way_max && !waiting_.empty()) {
      ++under_way_;
      auto notice = std::make_shared<const SpendNotice>(std::move(waiting_.front()));
      waiting_.pop_front();
      asio::co_spawn(context_, deliver(std::move(notice)), [this](const std::exception_ptr& error) {
        if (error) log::error("spend_notice_failed", {{"why", "an exception"}});
        --under_way_;
        queued_.fetch_sub(1);
        start();
      });
    }
  }

  asio::awaitable<void> deliver(std::shared_ptr<const SpendNotice> notice) {
    bool delivered = true;
    if (!notice->notify.command.empty()) delivered = co_await run_command(*notice);
    if (notice->notify.webhook) {
      const bool taken = co_await post_until_taken(*notice, *notice->notify.webhook);
      delivered = delivered && taken;
    }
    if (delivered && notice->delivered) notice->delivered(notice->id);
  }

  asio::awaitable<bool> run_command(const SpendNotice& notice) {
    std::vector<std::string> argv = notice.notify.command;  // named: gcc 12 frees a temporary of co_await twice
    std::string input = notice.body + "\n";
    auto done = co_await run_local_command(std::move(argv), std::move(input), command_limit);
    (done ? counters_.commands_done : counters_.commands_failed).fetch_add(1);
    if (done) log::info("spend_command_done", {{"delivery", notice.id}});
    else log::error("spend_command_failed", {{"delivery", notice.id}, {"error", done.error().message}});
    co_return done.has_value();
  }

  asio::awaitable<bool> post_until_taken(const SpendNotice& notice, const gateway::SpendWebhook& webhook) {
    for (std::uint32_t attempt = 1;; ++attempt) {
      const Attempt outcome = co_await post(notice, webhook);
      if (outcome.delivered) {
        counters_.webhooks_delivered.fetch_add(1);
        log::info("spend_webhook_delivered", {{"delivery", notice.id}, {"attempts", attempt}});
        co_return true;
      }
      const bool again = outcome.worth_another && attempt < webhook.attempts_max;
      log::write(again ? log::Level::warning : log::Level::error, again ? "spend_webhook_retried" : "spend_webhook_failed",
                 {{"delivery", notice.id}, {"attempts", attempt}, {"error", outcome.what}});
      if (!again) break;
      counters_.webhook_retries.fetch_add(1);
      asio::steady_timer timer(context_, std::chrono::milliseconds(spend_backoff_ms(attempt, random_)));
      const auto [waited] = co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
      static_cast<void>(waited);
    }
    counters_.webhooks_failed.fetch_add(1);
    co_return false;
  }

  asio::awaitable<Attempt> post(const SpendNotice& notice, const gateway::SpendWebhook& webhook) {
    const std::string timestamp = std::to_string(clock_.wall_ms() / 1000);
    const std::string signature = spend_signature(webhook.secret, timestamp, notice.body);
    const std::array<http::HeaderField, 5> headers = {{{"content-type", "application/json"},
                                                       {"user-agent", "outlast"},
                                                       {"x-outlast-delivery", notice.id},
                                                       {"x-outlast-timestamp", timestamp},
                                                       {"x-outlast-signature", signature}}};
    const http::ClientTimeouts timeouts{webhook.timeout_ms, webhook.timeout_ms, webhook.timeout_ms};
    Attempt outcome;
    auto response = co_await client_.request(webhook.origin, "POST", webhook.path, headers, notice.body, timeouts);
    if (!response) {
      outcome.what = response.error().message;
      co_return outcome;
    }
    const unsigned status = (*response)->status();
    outcome.delivered = status >= 200 && status < 300;
    // What the receiver refuses it will refuse again; what it could not do it may be able to do later.
    outcome.worth_another = status >= 500 || status == 408 || status == 425 || status == 429;
    if (!outcome.delivered) outcome.what = "the receiver answered " + std::to_string(status);
    for (std::size_t bytes = 0; bytes < answer_bytes_max;) {  // to its end, so that the connection can be kept
      const auto piece = co_await (*response)->read();
      if (!piece || piece->empty()) break;
      bytes += piece->size();
    }
    co_return outcome;
  }

  NotifierContext context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  http::Client client_;
  Random random_;
  SystemClock clock_;
  SpendNotifierCounters& counters_;
  std::atomic<std::size_t> queued_{0};  // waiting and under way
  std::deque<SpendNotice> waiting_;
  std::size_t under_way_ = 0;
  std::thread thread_;  // last: it uses all of the above
};

SpendNotifier::SpendNotifier(http::ClientOptions client) : impl_(std::make_unique<Impl>(std::move(client), counters_)) {}
SpendNotifier::~SpendNotifier() = default;

void SpendNotifier::notify(SpendNotice notice) {
  if (notice.notify.command.empty() && !notice.notify.webhook) return;
  impl_->take(std::move(notice));
}

}  // namespace outlast::actors
