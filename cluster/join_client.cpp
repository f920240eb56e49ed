#include "cluster/join_client.hpp"

#include <algorithm>
#include <optional>
#include <variant>

#include <zmq.hpp>

#include "cluster/socket_options.hpp"

namespace outlast::cluster {
namespace {

constexpr std::int64_t answer_ms_max = 8'000;  // then on another connection
constexpr long busy_pause_ms = 500;
constexpr int handshake_ms_max = 1'000;  // a listener that has too many of them leaves the others waiting

// One request on a connection of its own; nothing when there was no answer in time. Throws zmq::error_t.
std::optional<zmq::message_t> ask(const JoinCall& call, const Frame& request, std::int64_t wait_ms) {
  zmq::context_t context;
  zmq::socket_t socket(context, zmq::socket_type::dealer);
  set_link_options(socket, join::answer_bytes_max, LinkEnd::connects);
  socket.set(zmq::sockopt::curve_serverkey, call.token.public_key);
  socket.set(zmq::sockopt::curve_publickey, call.keys.public_key);
  socket.set(zmq::sockopt::curve_secretkey, call.keys.secret_key);
  socket.set(zmq::sockopt::handshake_ivl, handshake_ms_max);
  // A peer that speaks something else may end the connection before the request is queued.
  socket.set(zmq::sockopt::sndtimeo, static_cast<int>(wait_ms));
  socket.set(zmq::sockopt::rcvtimeo, static_cast<int>(wait_ms));
  socket.connect(call.token.endpoint);
  const auto bytes = request.bytes();
  if (!socket.send(zmq::buffer(bytes.data(), bytes.size()), zmq::send_flags::none)) return std::nullopt;
  zmq::message_t answer;
  if (!socket.recv(answer, zmq::recv_flags::none)) return std::nullopt;
  return answer;
}

Result<join::Welcome> read_welcome(const JoinCall& call, join::Welcome welcome) {
  if (welcome.cluster != call.token.cluster) {
    return fail(JoinError::bad_answer, "the node says that its cluster is '" + welcome.cluster +
                                           "', and the token is of '" + call.token.cluster + "'");
  }
  const bool keys = std::all_of(welcome.nodes.begin(), welcome.nodes.end(),
                                [](const join::Node& node) { return is_curve_key(node.public_key); });
  if (!keys || welcome.secret.empty()) return fail(JoinError::bad_answer, "the node's answer is not whole");
  return welcome;
}

}  // namespace

Result<join::Welcome> join_cluster(const JoinCall& call, const Clock& clock) {
  const auto request = join::encode(join::Request{join::version_min, join::version_max, call.token.id,
                                                  call.token.secret, call.name, call.endpoint, call.roles,
                                                  call.software});
  if (!request) return fail(JoinError::refused, request.error().message);
  const std::int64_t until_ns = clock.monotonic_ns() + std::int64_t{call.timeout_ms} * 1'000'000;
  std::string last = "nobody answered, or somebody with another key than the token's";
  try {
    while (true) {
      const std::int64_t left_ms = (until_ns - clock.monotonic_ns()) / 1'000'000;
      if (left_ms <= 0) {
        return fail(JoinError::unreachable, "no node of cluster '" + call.token.cluster + "' let this one in at " +
                                                call.token.endpoint + " within " +
                                                std::to_string(call.timeout_ms / 1000) + " s: " + last);
      }
      const auto bytes = ask(call, **request, std::min(left_ms, answer_ms_max));
      if (!bytes) continue;
      auto answer = join::decode_answer({bytes->data<std::byte>(), bytes->size()});
      if (!answer) return fail(JoinError::bad_answer, "the node's answer is none: " + answer.error().message);
      if (auto* welcome = std::get_if<join::Welcome>(&*answer)) return read_welcome(call, std::move(*welcome));
      const auto& refused = std::get<join::Refused>(*answer);
      if (refused.kind != join::RefusalKind::busy) return fail(JoinError::refused, refused.message);
      last = refused.message;
      (void)zmq_poll(nullptr, 0, std::min<long>(busy_pause_ms, static_cast<long>(left_ms)));
    }
  } catch (const zmq::error_t& error) {
    return fail(JoinError::unreachable, call.token.endpoint + " cannot be asked: " + error.what());
  }
}

}  // namespace outlast::cluster
