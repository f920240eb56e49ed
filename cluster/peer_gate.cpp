#include "cluster/peer_gate.hpp"

#include <array>
#include <string_view>
#include <utility>

#include "cluster/curve.hpp"
#include "cluster/zap.hpp"

namespace outlast::cluster {
namespace {

constexpr int answers_per_turn = 64;  // a flood of strangers must not keep the thread from its peers
constexpr std::size_t key_bytes = 32;

// Parts of a request: version, request id, domain, address, identity, mechanism, credentials.
constexpr std::size_t request_parts = 7;

std::string public_key_of(const zmq::message_t& credentials) {
  std::array<char, curve_key_text_size + 1> text{};
  if (credentials.size() != key_bytes) return {};
  zmq_z85_encode(text.data(), static_cast<const std::uint8_t*>(credentials.data()), key_bytes);
  return text.data();
}

}  // namespace

PeerGate::PeerGate(zmq::context_t& context, std::string domain, Admits admits)
    : domain_(std::move(domain)), admits_(std::move(admits)), socket_(context, zmq::socket_type::rep) {
  socket_.set(zmq::sockopt::linger, 0);
  socket_.bind(zap_endpoint);
}

bool PeerGate::answer() {
  for (int i = 0; i < answers_per_turn; ++i) {
    if (!answer_one()) return true;
  }
  return false;
}

bool PeerGate::answer_one() {
  std::array<zmq::message_t, request_parts> request;
  std::size_t parts = 0;
  zmq::message_t part;
  if (!socket_.recv(part, zmq::recv_flags::dontwait)) return false;
  while (true) {
    const bool more = part.more();
    if (parts < request_parts) request[parts] = std::move(part);
    ++parts;
    if (!more) break;
    part = zmq::message_t();
    if (!socket_.recv(part, zmq::recv_flags::none)) return false;
  }
  std::string key;
  if (parts == request_parts && request[0].to_string_view() == "1.0" && request[2].to_string_view() == domain_ &&
      request[5].to_string_view() == "CURVE") {
    key = public_key_of(request[6]);
  }
  const bool admitted = !key.empty() && admits_(key);
  if (!admitted) ++refused_;
  const std::string request_id = parts > 1 ? request[1].to_string() : std::string();
  // Reply: version, request id, status, text, user id, metadata.
  const std::array<std::string_view, 6> reply{
      "1.0", request_id, admitted ? "200" : "400", admitted ? "OK" : "the key is of no node of this cluster",
      admitted ? std::string_view(key) : std::string_view(), ""};
  for (std::size_t i = 0; i < reply.size(); ++i) {
    socket_.send(zmq::buffer(reply[i]), i + 1 < reply.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
  return true;
}

}  // namespace outlast::cluster
