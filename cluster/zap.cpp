#include "cluster/zap.hpp"

#include <array>
#include <string_view>
#include <vector>

namespace outlast::cluster {

ZapHandler::ZapHandler(zmq::context_t& context, std::string domain)
    : domain_(std::move(domain)), socket_(context, zmq::socket_type::rep) {
  socket_.set(zmq::sockopt::linger, 0);
  socket_.bind(zap_endpoint);
}

void ZapHandler::answer() {
  // Request: version, request id, domain, address, identity, mechanism, credentials…
  constexpr std::size_t parts_min = 6;
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
      if (request.size() < parts_min) request.push_back(std::move(next));
    }
    const bool admitted = request.size() == parts_min && request[0].to_string_view() == "1.0" &&
                          request[2].to_string_view() == domain_ && request[5].to_string_view() == "CURVE";
    const std::string request_id = request.size() > 1 ? request[1].to_string() : std::string();
    // Reply: version, request id, status, text, user id, metadata.
    const std::array<std::string_view, 6> reply{
        "1.0", request_id, admitted ? "200" : "400", admitted ? "OK" : "only CURVE is admitted", "", ""};
    for (std::size_t i = 0; i < reply.size(); ++i) {
      socket_.send(zmq::buffer(reply[i]), i + 1 < reply.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  }
}

}  // namespace outlast::cluster
