#include "actors/control_channel.hpp"

#include <utility>
#include <variant>

namespace outlast::actors {

void ControlChannel::on_up(const cluster::Peer& peer) {
  remote_.on_up(peer);
  workers_.on_up(peer);
  if (spend_ != nullptr) spend_->on_up(peer);
}

void ControlChannel::on_down(const cluster::Peer& peer, const std::string& why) {
  // The list first: whoever hears of a failed request and looks for another worker finds none of that node.
  workers_.on_down(peer);
  remote_.on_down(peer, why);
  if (spend_ != nullptr) spend_->on_down(peer);
}

Result<void> ControlChannel::on_frame(const cluster::Peer& peer, const FramePtr& frame) {
  auto message = ask::decode(frame->bytes());
  if (!message) {
    if (is(message.error(), FrameError::unknown_kind)) return {};
    return fail(std::move(message.error()));
  }
  if (auto* workers = std::get_if<ask::Workers>(&*message)) {
    workers_.on_workers(peer, std::move(*workers));
  } else if (auto* spend = std::get_if<ask::SpendBatch>(&*message)) {
    if (spend_ != nullptr) spend_->on_spend(peer, std::move(*spend));
  } else if (auto* told = std::get_if<ask::Told>(&*message)) {
    if (spend_ != nullptr) spend_->on_told(std::move(*told));
  } else {
    remote_.on_message(peer, std::move(*message));
  }
  return {};
}

void ControlChannel::tick() {
  remote_.tick();
  workers_.tick();
  if (spend_ != nullptr) spend_->tick();
}

}  // namespace outlast::actors
