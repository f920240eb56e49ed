#include "cluster/checkpoint_service.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "cluster/agreement_error.hpp"
#include "core/log.hpp"
#include "core/random.hpp"

namespace outlast::cluster {
namespace {

constexpr auto tick_interval = std::chrono::seconds(1);
constexpr std::size_t tasks_max = 1'024;  // more are dropped: who waits for one notices the silence
constexpr double disk_share_max = 0.8;    // of what is free, for a copy

std::uint64_t room_at(const std::string& folder) {
  std::error_code error;
  const auto parent = std::filesystem::path(folder).parent_path();
  std::filesystem::create_directories(parent, error);
  const auto space = std::filesystem::space(parent, error);
  return error ? 0 : static_cast<std::uint64_t>(static_cast<double>(space.available) * disk_share_max);
}

}  // namespace

CheckpointService::CheckpointService(std::string scratch, CheckpointPorts ports, const Clock& clock)
    : scratch_(std::move(scratch)),
      ports_(std::move(ports)),
      clock_(clock),
      giver_(scratch_, ports_.make_copy, clock),
      transfers_(secure_seed()),
      thread_([this] { run(); }) {}

CheckpointService::~CheckpointService() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  arrived_.notify_one();
  thread_.join();
}

void CheckpointService::post(std::function<void()> task, bool may_be_lost) {
  {
    const std::lock_guard lock(mutex_);
    if (may_be_lost && tasks_.size() >= tasks_max) return;
    tasks_.push_back(std::move(task));
  }
  arrived_.notify_one();
}

void CheckpointService::take(ShardId shard, std::string node, std::string folder,
                             std::function<void(Result<std::uint64_t>)> done) {
  post([this, shard, node = std::move(node), folder = std::move(folder), done = std::move(done)] {
    const std::uint64_t transfer = ++transfers_;
    takings_.push_back({node, transfer,
                        std::make_unique<CheckpointTaker>(shard, folder, transfer, room_at(folder), clock_), done});
    log::info("checkpoint_wanted", {{"shard", name_of_shard(shard)}, {"from", node}});
    send(node, takings_.back().taker->first());
  });
}

void CheckpointService::receive(std::string node, FramePtr frame) {
  post([this, node = std::move(node), frame = std::move(frame)] { handle(node, frame); }, true);
}

void CheckpointService::peer_down(std::string node) {
  post([this, node = std::move(node)] {
    giver_.peer_down(node);
    for (Taking& taking : takings_) {
      if (taking.node == node) end(taking, fail(AgreementError::unavailable, "the peer is gone"));
    }
    std::erase_if(takings_, [](const Taking& taking) { return taking.taker == nullptr; });
  });
}

void CheckpointService::run() {
  std::vector<std::function<void()>> tasks;
  auto tick_due = std::chrono::steady_clock::now() + tick_interval;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      arrived_.wait_until(lock, tick_due, [this] { return stop_ || !tasks_.empty(); });
      if (stop_) break;
      tasks.swap(tasks_);
    }
    for (const auto& task : tasks) task();
    tasks.clear();
    if (std::chrono::steady_clock::now() < tick_due) continue;
    tick_due = std::chrono::steady_clock::now() + tick_interval;
    tick();
  }
  for (Taking& taking : takings_) end(taking, fail(AgreementError::unavailable, "the node is stopping"));
}

void CheckpointService::tick() {
  giver_.tick();
  for (Taking& taking : takings_) {
    if (taking.taker->stalled()) end(taking, fail(AgreementError::unavailable, "the peer does not answer"));
  }
  std::erase_if(takings_, [](const Taking& taking) { return taking.taker == nullptr; });
}

void CheckpointService::handle(const std::string& node, const FramePtr& frame) {
  const auto message = checkpoint::decode(frame->bytes());
  if (!message) {
    log::warning("checkpoint_malformed", {{"node", node}, {"error", message.error().message}});
    return;
  }
  const auto taking = std::find_if(takings_.begin(), takings_.end(), [&](const Taking& one) {
    return one.transfer == message->transfer && one.node == node;
  });
  const bool asks = std::holds_alternative<checkpoint::Wanted>(message->body) ||
                    std::holds_alternative<checkpoint::Place>(message->body) ||
                    std::holds_alternative<checkpoint::Ended>(message->body);
  if (asks || taking == takings_.end()) {
    if (const auto answer = giver_.receive(node, *message)) send(node, *answer);
    return;
  }
  const auto next = taking->taker->receive(*message);
  if (!next) {
    end(*taking, fail(next.error()));
  } else {
    for (const checkpoint::Message& more : *next) send(node, more);
    if (taking->taker->done()) end(*taking, taking->taker->next_index());
  }
  std::erase_if(takings_, [](const Taking& one) { return one.taker == nullptr; });
}

void CheckpointService::send(const std::string& node, const checkpoint::Message& message) {
  const Result<void> sent = ports_.send(node, checkpoint::encode(message));  // a silence is noticed at the other end
  if (!sent) log::warning("checkpoint_not_sent", {{"node", node}, {"error", sent.error().message}});
}

void CheckpointService::end(Taking& taking, Result<std::uint64_t> result) {
  if (!result) log::warning("checkpoint_not_taken", {{"from", taking.node}, {"error", result.error().message}});
  taking.taker.reset();
  const auto done = std::move(taking.done);
  done(std::move(result));
}

}  // namespace outlast::cluster
