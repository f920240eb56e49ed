#include "core/request_labels.hpp"
#include "proto/link_codec.hpp"

#include <catch2/catch.hpp>

#include <fstream>
#include <string>
#include <vector>

#include "core/random.hpp"

namespace link_codec_test {

using namespace outlast;
using namespace outlast::link;

namespace {

// Random messages of every kind, by a seed.
class Maker {
 public:
  explicit Maker(std::uint64_t seed) : random_(seed) {}

  std::string text(std::size_t size_max = 40) {
    std::string out(random_.below(size_max + 1), '\0');
    for (char& c : out) c = static_cast<char>(random_.below(256));
    return out;
  }
  Uuid id() {
    Uuid out;
    for (auto& byte : out.bytes) byte = static_cast<std::uint8_t>(random_.next());
    return out;
  }
  Usage usage() {
    Usage out;
    for (const auto& bucket : usage_buckets) out.*bucket.member = random_.next();
    out.source = static_cast<UsageSource>(random_.below(3));
    return out;
  }
  chat::Part part() {
    switch (random_.below(4)) {
      case 0: return chat::Text{text(), text()};
      case 1: return chat::Image{text(), text(), text(), text()};
      case 2: return chat::ToolCall{text(), text(), text()};
      default: return chat::ToolResult{text(), text(), random_.below(2) == 1, text()};
    }
  }
  chat::Request request() {
    chat::Request out;
    out.model = text();
    for (auto n = random_.below(5); n > 0; --n) {
      chat::Message message{static_cast<chat::Role>(random_.below(4)), {}};
      for (auto parts = random_.below(4); parts > 0; --parts) message.parts.push_back(part());
      out.messages.push_back(std::move(message));
    }
    for (auto n = random_.below(3); n > 0; --n) out.tools.push_back({text(), text(), text(), text()});
    out.tool_choice = static_cast<chat::ToolChoice>(random_.below(4));
    out.tool_choice_name = text();
    if (random_.below(2) == 1) out.parallel_tool_calls = random_.below(2) == 1;
    if (random_.below(2) == 1) out.max_tokens = random_.next();
    if (random_.below(2) == 1) out.temperature = random_.fraction();
    if (random_.below(2) == 1) out.top_p = random_.fraction();
    for (auto n = random_.below(3); n > 0; --n) out.stop.push_back(text());
    for (auto n = random_.below(3); n > 0; --n) out.tags.push_back("tag-" + std::to_string(n));
    if (random_.below(2) == 0) out.session = "nightly";
    out.user = text();
    out.stream = random_.below(2) == 1;
    out.include_usage = random_.below(2) == 1;
    out.extra_json = text();
    return out;
  }
  chat::Event event() {
    switch (random_.below(6)) {
      case 0: return chat::Start{text(), text()};
      case 1: return chat::TextDelta{text()};
      case 2: return chat::ReasoningDelta{text()};
      case 3: return chat::ToolCallStart{number(), text(), text()};
      case 4: return chat::ToolCallDelta{number(), text()};
      default: return chat::Finish{static_cast<chat::StopReason>(random_.below(5)), usage()};
    }
  }
  ClientMessage client_message() {
    switch (random_.below(6)) {
      case 0: return Hello{number(), text(), text(), id()};
      case 1: return Chat{random_.next(), request(), number(), {number(), number()}};
      case 2: return Grant{random_.next(), {number(), number()}};
      case 3: return Cancel{random_.next()};
      case 4: return Ping{random_.next()};
      default: return Pong{random_.next()};
    }
  }
  NodeMessage node_message() {
    switch (random_.below(8)) {
      case 0: return Welcome{number(), text(), id()};
      case 1: {
        Events out{random_.next(), number(), {}, 0};
        for (auto n = random_.below(6); n > 0; --n) out.events.push_back(event());
        return out;
      }
      case 2: return Done{random_.next(), text(), number(), id()};
      case 3:
        return RequestError{random_.next(), static_cast<ErrorKind>(random_.below(17)), text(), random_.below(2) == 1,
                            number()};
      case 4: return Ping{random_.next()};
      case 5: return Pong{random_.next()};
      case 6: {
        Nodes out{random_.next(), {}};
        for (auto n = random_.below(5); n > 0; --n) out.nodes.push_back({text(), text(), text(), random_.below(2) == 1});
        return out;
      }
      default: return Goodbye{text()};
    }
  }
  std::uint32_t number() { return static_cast<std::uint32_t>(random_.next()); }

 private:
  Random random_;
};

std::vector<std::byte> bytes_of(const Frame& frame) { return {frame.bytes().begin(), frame.bytes().end()}; }

// A frame of a released version, as its hexadecimal text.
std::vector<std::byte> golden(const std::string& name) {
  std::string hex;
  std::ifstream(OUTLAST_SOURCE_DIR "/tests/proto/golden/" + name + ".hex") >> hex;
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// As in the golden frame: not to be changed.
Nodes small_list() {
  return {7, {{"n1", "tcp://10.0.0.1:8082", std::string(40, 'a'), false}, {"n2", "tcp://10.0.0.2:8082", std::string(40, 'b'), true}}};
}

Chat small_chat() {
  Chat chat;
  chat.request_id = 1;
  chat.request.model = "smart";
  chat.request.messages.push_back({chat::Role::user, {chat::Text{"hello"}}});
  return chat;
}

}  // namespace

TEST_CASE("every message comes back as it was sent, from any alignment", "[frame]") {
  for (std::uint64_t seed = 1; seed <= 2'000; ++seed) {
    INFO("seed " << seed);
    Maker maker(seed);
    const std::size_t offset = seed % 8;
    const ClientMessage client_message = maker.client_message();
    auto bytes = bytes_of(**encode(client_message));
    bytes.insert(bytes.begin(), offset, std::byte{});
    const auto client_again = decode_from_client(std::span(bytes).subspan(offset));
    REQUIRE(client_again);
    REQUIRE(*client_again == client_message);

    const NodeMessage node_message = maker.node_message();
    bytes = bytes_of(**encode(node_message));
    bytes.insert(bytes.begin(), offset, std::byte{});
    const auto node_again = decode_from_node(std::span(bytes).subspan(offset));
    REQUIRE(node_again);
    REQUIRE(*node_again == node_message);
  }
}

TEST_CASE("a frame that is cut or damaged is an error or another message, never a fault", "[frame]") {
  std::size_t refused = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Maker maker(seed);
    Random random(seed);
    for (const auto& frame : {*encode(maker.client_message()), *encode(maker.node_message())}) {
      const auto bytes = bytes_of(*frame);
      for (std::size_t size = 0; size < bytes.size(); ++size) {
        refused += decode_from_client(std::span(bytes).first(size)) ? 0 : 1;
        refused += decode_from_node(std::span(bytes).first(size)) ? 0 : 1;
      }
      for (int i = 0; i < 200; ++i) {
        auto damaged = bytes;
        damaged[random.below(damaged.size())] = static_cast<std::byte>(random.next());
        refused += decode_from_client(damaged) ? 0 : 1;
        refused += decode_from_node(damaged) ? 0 : 1;
      }
    }
  }
  CHECK(refused > 10'000);
}

TEST_CASE("requests over a limit are refused before they are sent, and frames over it when they come", "[frame]") {
  Chat chat = small_chat();
  SECTION("messages") { chat.request.messages.resize(messages_max + 1); }
  SECTION("parts") { chat.request.messages[0].parts.resize(parts_max + 1); }
  SECTION("tools") { chat.request.tools.resize(tools_max + 1); }
  SECTION("stops") { chat.request.stop.resize(stops_max + 1); }
  SECTION("tags") { chat.request.tags.resize(tags_max + 1); }
  SECTION("a tag") { chat.request.tags.assign(1, std::string(tag_bytes_max + 1, 't')); }
  SECTION("a session") { chat.request.session.resize(session_bytes_max + 1); }
  SECTION("model") { chat.request.model.assign(name_bytes_max + 1, 'm'); }
  SECTION("bytes") { chat.request.user.assign(frame_bytes_max, 'u'); }
  CHECK(is(encode(chat).error(), FrameError::too_large));
  const std::vector<std::byte> huge(frame_bytes_max + 8);
  CHECK(is(decode_from_client(huge).error(), FrameError::too_large));
  const std::vector<chat::Event> many(events_max + 1, chat::TextDelta{});
  CHECK(is(decode_from_node((*encode_events(1, 0, many))->bytes()).error(), FrameError::too_large));
}

TEST_CASE("labels over their limit are cut and not refused", "[frame]") {
  const RequestError error{1, ErrorKind::cut, std::string(2 * error_message_bytes_max, 'e'), false, 0};
  const auto again = decode_from_node((*encode(error))->bytes());
  REQUIRE(again);
  CHECK(std::get<RequestError>(*again).message.size() == error_message_bytes_max);
}

TEST_CASE("kinds of newer peers are told from garbage, unknown events are counted", "[frame]") {
  // The discriminants stand somewhere in the frame: each byte in turn is set to a number that no kind has.
  const auto with_byte = [](const FramePtr& frame, std::size_t at) {
    auto bytes = bytes_of(*frame);
    bytes[at] = std::byte{99};
    return bytes;
  };
  const FramePtr ping = *encode(ClientMessage(Ping{}));
  std::size_t unknown_kinds = 0;
  for (std::size_t i = 0; i < ping->size(); ++i) {
    const auto decoded = decode_from_client(with_byte(ping, i));
    unknown_kinds += !decoded && is(decoded.error(), FrameError::unknown_kind) ? 1 : 0;
  }
  CHECK(unknown_kinds == 2);  // a discriminant has two bytes

  const FramePtr events = *encode(NodeMessage(Events{1, 0, {chat::TextDelta{"a"}, chat::TextDelta{"b"}}, 0}));
  std::size_t unknown_events = 0;
  for (std::size_t i = 0; i < events->size(); ++i) {
    const auto decoded = decode_from_node(with_byte(events, i));
    const auto* frame = decoded ? std::get_if<Events>(&*decoded) : nullptr;
    if (frame != nullptr && frame->unknown == 1 && frame->events.size() == 1) ++unknown_events;
  }
  CHECK(unknown_events == 4);
}

TEST_CASE("frames of version 1 still decode", "[frame]") {
  const auto chat = decode_from_client(golden("link-1-chat"));
  REQUIRE(chat);
  CHECK(std::get<Chat>(*chat) == small_chat());
  const auto done = decode_from_node(golden("link-1-done"));
  REQUIRE(done);
  CHECK(std::get<Done>(*done) == Done{7, "fable-alpha", 2, *Uuid::parse("0190b5a4-7c1e-7000-8000-0123456789ab")});
  const auto hello = decode_from_client(golden("link-1-hello"));
  REQUIRE(hello);
  CHECK(std::get<Hello>(*hello) == Hello{1, "ol_key", "svc", {}});
  const auto error = decode_from_node(golden("link-1-error"));
  REQUIRE(error);
  CHECK(std::get<RequestError>(*error) == RequestError{1, ErrorKind::overloaded, "full", true, 5});
  const auto events = decode_from_node(golden("link-1-events"));
  REQUIRE(events);
  const std::vector<chat::Event> expected{chat::Start{"id", "m"}, chat::TextDelta{"hi"},
                                          chat::ToolCallStart{0, "t", "f"}, chat::ToolCallDelta{0, "{}"},
                                          chat::Finish{}};
  CHECK(std::get<Events>(*events) == Events{3, 0, expected, 0});
}

TEST_CASE("a list of nodes over its limits is refused, never cut", "[frame]") {
  Nodes nodes = small_list();
  SECTION("count") { nodes.nodes.resize(nodes_max + 1); }
  SECTION("name") { nodes.nodes[1].name.assign(name_bytes_max + 1, 'n'); }
  SECTION("address") { nodes.nodes[0].address.assign(name_bytes_max + 1, 'n'); }
  SECTION("key") { nodes.nodes[0].public_key.assign(name_bytes_max + 1, 'n'); }
  CHECK(is(encode(NodeMessage(nodes)).error(), FrameError::too_large));
}

TEST_CASE("the list of nodes is a kind that decoders from before it ignore", "[frame]") {
  const auto bytes = golden("link-1-nodes");
  const auto nodes = decode_from_node(bytes);
  REQUIRE(nodes);
  CHECK(std::get<Nodes>(*nodes) == small_list());
  CHECK(bytes_of(**encode(NodeMessage(small_list()))) == bytes);
  // Older decoders know the kinds 0 to 6 of a node's frames; this one is the next number, in the place where the others
  // have theirs, so it is an unknown kind to them, which they skip (the test above).
  const auto goodbye = bytes_of(**encode(NodeMessage(Goodbye{"x"})));
  std::size_t sixes = 0;
  for (std::size_t i = 16; i + 1 < std::min(goodbye.size(), bytes.size()); i += 2) {
    sixes += goodbye[i] == std::byte{6} && bytes[i] == std::byte{7} ? 1 : 0;
  }
  CHECK(sixes == 1);
}

}  // namespace link_codec_test
