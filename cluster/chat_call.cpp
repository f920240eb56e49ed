#include "cluster/chat_call.hpp"

#include <utility>

#include "cluster/call_state.hpp"

namespace outlast::cluster {

std::string_view name_of(CancelReason reason) {
  switch (reason) {
    case CancelReason::client_cancelled: return "client_cancelled";
    case CancelReason::link_lost: return "link_lost";
    case CancelReason::no_credit: return "no_credit";
    case CancelReason::deadline: return "deadline";
    case CancelReason::shutdown: return "shutdown";
  }
  return "unknown";
}

ChatCall::ChatCall(std::shared_ptr<CallState> state, chat::Request request, std::shared_ptr<const VirtualKey> key,
                   std::string client_name, std::int64_t deadline_ns)
    : state_(std::move(state)),
      request_(std::move(request)),
      key_(std::move(key)),
      client_name_(std::move(client_name)),
      deadline_ns_(deadline_ns) {}

ChatCall::~ChatCall() {
  fail(link::ErrorKind::internal, "the node dropped the request without an answer", true);
}

SendState ChatCall::send(std::span<const chat::Event> events) { return state_->send(events); }
bool ChatCall::has_credit() const { return state_->has_credit(); }
void ChatCall::on_credit(std::function<void()> call) { state_->on_credit(std::move(call)); }
void ChatCall::on_cancel(std::function<void(CancelReason)> call) { state_->on_cancel(std::move(call)); }

void ChatCall::done(std::string deployment, std::uint32_t attempts, RequestId ledger_id) {
  state_->done(link::Done{0, std::move(deployment), attempts, ledger_id});
}

void ChatCall::fail(link::ErrorKind kind, std::string message, bool retryable, std::uint32_t retry_after_ms) {
  state_->fail(link::RequestError{0, kind, std::move(message), retryable, retry_after_ms});
}

}  // namespace outlast::cluster
