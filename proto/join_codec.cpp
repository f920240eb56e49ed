#include "proto/join_codec.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "proto/codec_wire.hpp"
#include "proto/join.capnp.h"

namespace outlast::join {
namespace {

using wire::bound;
using wire::Unfit;

capnp::Text::Reader text_of(const std::string& text, std::size_t bytes_max = text_bytes_max) { return wire::text_of(text, bytes_max); }
std::string string_of(capnp::Text::Reader text, std::size_t bytes_max = text_bytes_max) { return wire::string_of(text, bytes_max); }

void write(const Request& request, schema::Request::Builder out) {
  out.setVersionMin(request.version_min);
  out.setVersionMax(request.version_max);
  out.setTokenId(text_of(request.token_id));
  out.setSecret({request.secret.data(), request.secret.size()});
  out.setName(text_of(request.name));
  out.setEndpoint(text_of(request.endpoint));
  bound(request.roles.size(), roles_max, "roles");
  auto roles = out.initRoles(static_cast<unsigned>(request.roles.size()));
  for (unsigned i = 0; i < roles.size(); ++i) roles.set(i, text_of(request.roles[i]));
  out.setSoftware(text_of(request.software));
}

Request read(schema::Request::Reader in) {
  Request request;
  request.version_min = in.getVersionMin();
  request.version_max = in.getVersionMax();
  request.token_id = string_of(in.getTokenId());
  const auto secret = in.getSecret();
  if (secret.size() != secret_size) throw Unfit{FrameError::malformed, "a secret that is not 32 bytes"};
  std::copy(secret.begin(), secret.end(), request.secret.begin());
  request.name = string_of(in.getName());
  request.endpoint = string_of(in.getEndpoint());
  const auto roles = in.getRoles();
  bound(roles.size(), roles_max, "roles");
  for (const auto role : roles) request.roles.push_back(string_of(role));
  request.software = string_of(in.getSoftware());
  return request;
}

void write(const Welcome& welcome, schema::Answer::Builder answer) {
  auto out = answer.initWelcome();
  out.setVersion(welcome.version);
  out.setCluster(text_of(welcome.cluster));
  out.setSecret(text_of(welcome.secret));
  bound(welcome.nodes.size(), nodes_max, "nodes");
  auto nodes = out.initNodes(static_cast<unsigned>(welcome.nodes.size()));
  for (unsigned i = 0; i < nodes.size(); ++i) {
    nodes[i].setName(text_of(welcome.nodes[i].name));
    nodes[i].setPublicKey(text_of(welcome.nodes[i].public_key));
    nodes[i].setEndpoint(text_of(welcome.nodes[i].endpoint));
  }
  bound(welcome.settings.size(), settings_max, "settings");
  auto settings = out.initSettings(static_cast<unsigned>(welcome.settings.size()));
  unsigned next = 0;
  for (const auto& [name, value] : welcome.settings) {
    settings[next].setName(text_of(name));
    settings[next++].setValue(text_of(value, setting_bytes_max));
  }
}

void write(const Refused& refused, schema::Answer::Builder answer) {
  auto out = answer.initRefused();
  out.setKind(static_cast<std::uint16_t>(refused.kind));
  out.setMessage(text_of(refused.message.substr(0, text_bytes_max)));
}

RefusalKind kind_of(std::uint16_t number) {
  return number > static_cast<std::uint16_t>(RefusalKind::busy) ? RefusalKind::internal
                                                               : static_cast<RefusalKind>(number);
}

Answer read(schema::Answer::Reader in) {
  switch (in.which()) {
    case schema::Answer::WELCOME: {
      const auto group = in.getWelcome();
      Welcome welcome{group.getVersion(), string_of(group.getCluster()), string_of(group.getSecret()), {}, {}};
      const auto nodes = group.getNodes();
      bound(nodes.size(), nodes_max, "nodes");
      for (const auto node : nodes) {
        welcome.nodes.push_back(
            {string_of(node.getName()), string_of(node.getPublicKey()), string_of(node.getEndpoint())});
      }
      const auto settings = group.getSettings();
      bound(settings.size(), settings_max, "settings");
      for (const auto setting : settings) {
        welcome.settings[string_of(setting.getName())] = string_of(setting.getValue(), setting_bytes_max);
      }
      return welcome;
    }
    case schema::Answer::REFUSED:
      return Refused{kind_of(in.getRefused().getKind()), string_of(in.getRefused().getMessage())};
  }
  throw Unfit{FrameError::unknown_kind, "an answer of a kind that this version does not know"};
}

template <class Root, class Message>
Result<FramePtr> encode_with(const Message& message, std::size_t bytes_max) {
  return wire::encode_frame<Root>(bytes_max, [&message](typename Root::Builder out) { write(message, out); });
}

template <class Root, class Message>
Result<Message> decode_with(std::span<const std::byte> bytes, std::size_t bytes_max) {
  return wire::decode_frame<Root, Message>(bytes, bytes_max, [](typename Root::Reader in) { return read(in); });
}

}  // namespace

Result<FramePtr> encode(const Request& request) { return encode_with<schema::Request>(request, request_bytes_max); }

Result<FramePtr> encode(const Answer& answer) {
  return std::visit(
      [](const auto& concrete) { return encode_with<schema::Answer>(concrete, answer_bytes_max); }, answer);
}

Result<Request> decode_request(std::span<const std::byte> bytes) {
  return decode_with<schema::Request, Request>(bytes, request_bytes_max);
}

Result<Answer> decode_answer(std::span<const std::byte> bytes) {
  return decode_with<schema::Answer, Answer>(bytes, answer_bytes_max);
}

}  // namespace outlast::join
