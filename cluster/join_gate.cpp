#include "cluster/join_gate.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "cluster/curve.hpp"
#include "cluster/zap.hpp"

namespace outlast::cluster {
namespace {

constexpr std::size_t key_bytes = 32;

}  // namespace

double RateBucket::left_at(std::int64_t now_ns) const {
  const double passed_s = static_cast<double>(std::max<std::int64_t>(now_ns - last_ns_, 0)) / 1e9;
  return std::min(per_s_, left_ + passed_s * per_s_);
}

bool RateBucket::take(std::int64_t now_ns) {
  left_ = left_at(now_ns);
  last_ns_ = now_ns;
  if (left_ < 1) return false;
  left_ -= 1;
  return true;
}

bool RateBucket::full(std::int64_t now_ns) const { return left_at(now_ns) >= per_s_; }

JoinGate::JoinGate(zmq::context_t& context, std::string domain, std::uint32_t handshakes_per_s)
    : domain_(std::move(domain)), socket_(context, zmq::socket_type::rep), handshakes_(handshakes_per_s) {
  socket_.set(zmq::sockopt::linger, 0);
  socket_.bind(zap_endpoint);
}

void JoinGate::answer(std::int64_t now_ns) {
  // Request (RFC 27): version, request id, domain, address, identity, mechanism, the client's key of 32 bytes.
  constexpr std::size_t parts_count = 7;
  while (true) {
    std::vector<zmq::message_t> request;
    zmq::message_t part;
    if (!socket_.recv(part, zmq::recv_flags::dontwait)) return;
    bool more = part.more();
    request.push_back(std::move(part));
    while (more) {
      zmq::message_t next;
      if (!socket_.recv(next, zmq::recv_flags::none)) return;
      more = next.more();
      if (request.size() <= parts_count) request.push_back(std::move(next));
    }
    const bool proper = request.size() == parts_count && request[0].to_string_view() == "1.0" &&
                        request[2].to_string_view() == domain_ && request[5].to_string_view() == "CURVE" &&
                        request[6].size() == key_bytes;
    const bool admitted = proper && handshakes_.take(now_ns);
    std::array<char, curve_key_text_size + 1> key{};
    if (admitted) zmq_z85_encode(key.data(), request[6].data<std::uint8_t>(), key_bytes);
    if (!admitted) ++refused_;
    const std::string request_id = request.size() > 1 ? request[1].to_string() : std::string();
    // Reply: version, request id, status, text, user id, metadata. 300 has the peer try again by itself.
    const std::array<std::string_view, 6> reply{"1.0",      request_id, admitted ? "200" : proper ? "300" : "400",
                                                admitted ? "OK" : "not now", key.data(), ""};
    for (std::size_t i = 0; i < reply.size(); ++i) {
      socket_.send(zmq::buffer(reply[i]), i + 1 < reply.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  }
}

}  // namespace outlast::cluster
