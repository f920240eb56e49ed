#include "cluster/etcd_client.hpp"

#include <algorithm>
#include <chrono>
#include <future>
#include <optional>
#include <thread>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include "cluster/etcd_http.hpp"
#include "cluster/etcd_watch.hpp"
#include "core/check.hpp"

namespace outlast::cluster {

namespace asio = boost::asio;

// One call, from its start to its answer.
struct EtcdJob {
  std::string path;
  std::string body;
  EtcdEffect effect = EtcdEffect::idempotent;
  std::optional<std::size_t> endpoint;  // that one only
  std::promise<Result<std::string>> done;
};

class EtcdClient::Impl {
 public:
  explicit Impl(EtcdOptions options) : options_(std::move(options)) {}
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() { stop(); }

  Result<void> start();
  std::future<Result<std::string>> post(std::string_view path, std::string body, EtcdEffect effect,
                                        std::optional<std::size_t> endpoint = {});
  Result<std::string> call(std::string_view path, std::string body, EtcdEffect effect) {
    return post(path, std::move(body), effect).get();
  }
  void watch(std::string key, std::string end, EtcdWatcher watcher);
  [[nodiscard]] const std::vector<std::string>& endpoints() const { return options_.endpoints; }

 private:
  static asio::awaitable<void> perform(Impl* self, std::shared_ptr<EtcdJob> job);
  void stop();
  void end_job();

  const EtcdOptions options_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  std::unique_ptr<EtcdHttp> http_;
  std::unique_ptr<EtcdWatch> watch_;
  std::size_t jobs_ = 0;  // of the thread, as the next one
  bool stopping_ = false;
  std::thread thread_;
};

Result<void> EtcdClient::Impl::start() {
  http_ = std::make_unique<EtcdHttp>(io_, options_);
  Result<void> usable = http_->parse_endpoints();
  if (!usable) return usable;
  thread_ = std::thread([this] { io_.run(); });
  return {};
}

// Waits for the calls that are under way: their answers must not outlive the HTTP client.
void EtcdClient::Impl::stop() {
  if (!thread_.joinable()) return;
  asio::post(io_, [this] {
    stopping_ = true;
    if (watch_) watch_->stop();
    end_job();
  });
  thread_.join();
}

void EtcdClient::Impl::end_job() {
  if (stopping_ && jobs_ == 0 && (!watch_ || watch_->stopped())) io_.stop();
}

std::future<Result<std::string>> EtcdClient::Impl::post(std::string_view path, std::string body, EtcdEffect effect,
                                                        std::optional<std::size_t> endpoint) {
  auto job = std::make_shared<EtcdJob>();
  job->path = path;
  job->body = std::move(body);
  job->effect = effect;
  job->endpoint = endpoint;
  std::future<Result<std::string>> done = job->done.get_future();
  if (job->body.size() > request_bytes_max) {
    job->done.set_value(fail(AgreementError::too_large, "a request to etcd is larger than it takes"));
    return done;
  }
  asio::post(io_, [this, job = std::move(job)]() mutable {
    ++jobs_;
    asio::co_spawn(io_, perform(this, std::move(job)), asio::detached);
  });
  return done;
}

asio::awaitable<void> EtcdClient::Impl::perform(Impl* self, std::shared_ptr<EtcdJob> job) {
  const bool once = job->effect == EtcdEffect::once;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(self->options_.call_timeout_ms);
  // A single endpoint gets a second chance, since its connection may just have ended.
  const std::size_t tries = job->endpoint ? 1 : std::max<std::size_t>(2, self->options_.endpoints.size());
  EtcdAnswer answer;
  for (std::size_t i = 0; i < tries; ++i) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) break;
    // A member that hangs leaves time for another.
    const bool last = i + 1 == tries || self->options_.endpoints.size() == 1;
    const auto limit_ms = static_cast<std::uint32_t>(std::max<std::int64_t>(last ? left.count() : left.count() / 2, 1));
    const std::size_t endpoint = job->endpoint.value_or(self->http_->preferred());
    answer = co_await self->http_->ask(endpoint, job->path, job->body, once, limit_ms);
    if (answer.result || !answer.try_another) break;
    if (!job->endpoint) self->http_->avoid(endpoint);
    if (once && answer.sent) break;
  }
  job->done.set_value(std::move(answer.result));
  --self->jobs_;
  self->end_job();
}

void EtcdClient::Impl::watch(std::string key, std::string end, EtcdWatcher watcher) {
  asio::post(io_, [this, key = std::move(key), end = std::move(end), watcher = std::move(watcher)]() mutable {
    check(watch_ == nullptr, "an etcd client watches once");
    if (stopping_) return;
    watch_ = std::make_unique<EtcdWatch>(io_, *http_, encode_watch(key, end), std::move(watcher),
                                         [this] { end_job(); });
    watch_->start();
  });
}

EtcdClient::EtcdClient(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
EtcdClient::~EtcdClient() = default;

Result<std::unique_ptr<EtcdClient>> EtcdClient::start(EtcdOptions options) {
  check(options.call_timeout_ms > 0, "calls to etcd end");
  auto impl = std::make_shared<Impl>(std::move(options));
  Result<void> started = impl->start();
  if (!started) return fail(std::move(started.error()));
  return std::unique_ptr<EtcdClient>(new EtcdClient(std::move(impl)));
}

const std::vector<std::string>& EtcdClient::endpoints() const { return impl_->endpoints(); }

Result<EtcdTxnAnswer> EtcdClient::txn(const EtcdTxn& txn, EtcdEffect effect) {
  const Result<std::string> body = impl_->call("/v3/kv/txn", encode_txn(txn), effect);
  if (!body) return fail(body.error());
  Result<EtcdTxnAnswer> answer = parse_txn_answer(*body);
  // It happened, but how is not known.
  if (!answer && effect == EtcdEffect::once) return fail(AgreementError::unknown, answer.error().message);
  return answer;
}

Result<EtcdTxnAnswer> EtcdClient::read(std::vector<EtcdOperation> ranges) {
  EtcdTxn reading;
  reading.success = std::move(ranges);
  return txn(reading, EtcdEffect::idempotent);
}

Result<std::uint64_t> EtcdClient::grant_lease(std::uint32_t ttl_s) {
  const Result<std::string> body = impl_->call("/v3/lease/grant", encode_lease_grant(ttl_s), EtcdEffect::once);
  if (!body) return fail(body.error());
  return parse_lease_grant(*body);
}

Result<void> EtcdClient::keep_alive(std::uint64_t lease) {
  const Result<std::string> body = impl_->call("/v3/lease/keepalive", encode_lease(lease), EtcdEffect::idempotent);
  if (!body) return fail(body.error());
  const Result<std::uint64_t> ttl_s = parse_keep_alive(*body);
  if (!ttl_s) return fail(ttl_s.error());
  if (*ttl_s == 0) return fail(AgreementError::lease_lost, "etcd has no lease " + std::to_string(lease) + " any more");
  return {};
}

Result<void> EtcdClient::revoke_lease(std::uint64_t lease) {
  const Result<std::string> body = impl_->call("/v3/lease/revoke", encode_lease(lease), EtcdEffect::idempotent);
  if (!body && !is(body.error(), AgreementError::lease_lost)) return fail(body.error());
  return {};
}

Result<void> EtcdClient::compact(std::uint64_t revision) {
  const Result<std::string> body =
      impl_->call("/v3/kv/compaction", encode_compaction(revision), EtcdEffect::idempotent);
  if (body || body.error().message.find("has been compacted") != std::string::npos) return {};
  return fail(body.error());
}

std::vector<Result<EtcdStatus>> EtcdClient::statuses() {
  std::vector<std::future<Result<std::string>>> asked;
  for (std::size_t i = 0; i < endpoints().size(); ++i)
    asked.push_back(impl_->post("/v3/maintenance/status", "{}", EtcdEffect::idempotent, i));
  std::vector<Result<EtcdStatus>> statuses;
  for (std::future<Result<std::string>>& one : asked) {
    const Result<std::string> body = one.get();
    statuses.push_back(body ? parse_status(*body) : fail(body.error()));
  }
  return statuses;
}

void EtcdClient::watch(std::string key, std::string end, EtcdWatcher watcher) {
  impl_->watch(std::move(key), std::move(end), std::move(watcher));
}

}  // namespace outlast::cluster
