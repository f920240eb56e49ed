#include "cluster/peer_links.hpp"

#include <system_error>
#include <utility>

#include "cluster/curve.hpp"
#include "cluster/peer_network.hpp"

namespace outlast::cluster {
namespace {

class ZmqPeerLinks final : public PeerLinks {
 public:
  explicit ZmqPeerLinks(std::unique_ptr<PeerNetwork> network) : network_(std::move(network)) {}

  void set_peers(std::vector<PeerAddress> peers) override { network_->outbox().set_peers(std::move(peers)); }
  Result<void> send(const std::string& node, Channel channel, FramePtr frame) override {
    return network_->send(node, channel, std::move(frame));
  }
  [[nodiscard]] std::vector<Peer> up() const override { return network_->outbox().up(); }
  [[nodiscard]] PeerCounters counters() const override { return network_->outbox().counters(); }
  [[nodiscard]] const std::string& endpoint() const override { return network_->endpoint(); }

 private:
  const std::unique_ptr<PeerNetwork> network_;
};

Failure bad(const char* what) { return fail(LinkError::bad_options, what); }

Result<void> validate(const PeerLinkOptions& options) {
  const PeerLimits& limits = options.limits;
  if (!options.listen.starts_with("tcp://")) {
    return fail(LinkError::bad_address, "\"" + options.listen + "\" is not an address; write tcp://HOST:PORT");
  }
  if (options.cluster.empty() || options.cluster.size() > peer::name_bytes_max) return bad("the cluster needs a name");
  if (options.node.empty() || options.node.size() > peer::name_bytes_max) return bad("the node needs a name");
  if (options.version_min > options.version_max) return bad("the range of versions is empty");
  if (limits.frame_bytes_max == 0 || limits.frame_bytes_max > frame_bytes_max - peer::overhead_bytes_max) {
    return bad("frame_bytes_max is over what a message holds");
  }
  if (limits.queue_frames_max == 0 || limits.queue_frames_max > window_frames_max) {
    return bad("queue_frames_max is 0 or over 1,048,576");
  }
  if (limits.queue_bytes_max < limits.frame_bytes_max) return bad("queue_bytes_max is below one frame");
  if (limits.heartbeat_ms == 0 || limits.silence_ms_max < 2 * limits.heartbeat_ms) {
    return bad("silence_ms_max is below two heartbeats");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<PeerLinks>> PeerLinks::start(PeerLinkOptions options, const Clock& clock,
                                                    PeerHandlers handlers) {
  auto public_key = curve_public_key(options.secret_key);
  if (!public_key) return fail(std::move(public_key.error()));
  if (auto valid = validate(options); !valid) return fail(std::move(valid.error()));
  if (!handlers.on_up || !handlers.on_down || !handlers.on_frame) return bad("every handler is needed");
  const std::string listen = options.listen;
  try {
    auto network =
        std::make_unique<PeerNetwork>(std::move(options), std::move(*public_key), clock, std::move(handlers));
    network->bind();
    network->start();
    return std::unique_ptr<PeerLinks>(std::make_unique<ZmqPeerLinks>(std::move(network)));
  } catch (const zmq::error_t& error) {
    return fail(LinkError::bad_address, "cannot listen on " + listen + ": " + error.what());
  } catch (const std::system_error& error) {
    return fail(LinkError::system, std::string("cannot start the network thread: ") + error.what());
  }
}

}  // namespace outlast::cluster
