#include "proto/peer_codec.hpp"

#include <cstring>
#include <utility>

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include "proto/peer.capnp.h"

namespace outlast::peer {
namespace {

constexpr std::size_t word_bytes = sizeof(capnp::word);

std::size_t words_of(std::size_t bytes) { return (bytes + word_bytes - 1) / word_bytes; }

// ---- plain to Cap'n Proto

// An upper bound of what the message takes, so that it is built in one segment, in the frame itself.
std::size_t words_needed(const Message& message) {
  // The root's pointer and struct, the acknowledgements with their tag, and the ends of two texts.
  std::size_t words = 1 + capnp::sizeInWords<schema::PeerFrame>() + 1 +
                      channel_count * capnp::sizeInWords<schema::Ack>() + 2;
  if (const auto* hello = std::get_if<Hello>(&message.body)) {
    words += words_of(hello->cluster.size()) + words_of(hello->node.size());
  } else if (const auto* goodbye = std::get_if<Goodbye>(&message.body)) {
    words += words_of(goodbye->reason.size());
  } else if (const auto* data = std::get_if<Data>(&message.body)) {
    for (const FramePtr& frame : data->frames) words += 1 + words_of(frame->size());
  }
  return words;
}

kj::StringPtr text_of(const std::string& text) { return {text.c_str(), text.size()}; }

void write_acks(const Acks& acks, capnp::List<schema::Ack>::Builder out) {
  for (unsigned i = 0; i < channel_count; ++i) {
    out[i].setReceived(acks[i].received);
    out[i].setLostRound(acks[i].lost_round);
  }
}

std::uint64_t half_of(const Uuid& id, std::size_t from) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value = value << 8 | id.bytes[from + i];
  return value;
}

struct Writer {
  schema::PeerFrame::Builder out;

  void operator()(const Hello& hello) {
    auto group = out.initHello();
    group.setCluster(text_of(hello.cluster));
    group.setNode(text_of(hello.node));
    group.setIncarnationHigh(half_of(hello.incarnation, 0));
    group.setIncarnationLow(half_of(hello.incarnation, 8));
    group.setVersionMin(hello.version_min);
    group.setVersionMax(hello.version_max);
    group.setChannel(hello.channel);
    group.setFrameBytesMax(hello.frame_bytes_max);
  }
  void operator()(const Welcome& welcome) {
    auto group = out.initWelcome();
    group.setVersion(welcome.version);
    group.setChannel(welcome.channel);
  }
  void operator()(const Data& data) {
    auto group = out.initData();
    group.setChannel(data.channel);
    group.setRound(data.round);
    group.setFirst(data.first);
    group.setAckWanted(data.ack_wanted);
    auto frames = group.initFrames(static_cast<unsigned>(data.frames.size()));
    for (unsigned i = 0; i < frames.size(); ++i) {
      const auto bytes = data.frames[i]->bytes();
      frames.set(i, capnp::Data::Reader(reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()));
    }
    write_acks(data.acks, group.initAcks(channel_count));
  }
  void operator()(const Heartbeat& heartbeat) {
    auto group = out.initHeartbeat();
    group.setChannel(heartbeat.channel);
    group.setRound(heartbeat.round);
    group.setNext(heartbeat.next);
    write_acks(heartbeat.acks, group.initAcks(channel_count));
  }
  void operator()(const Goodbye& goodbye) {
    const std::string reason = goodbye.reason.substr(0, reason_bytes_max);
    out.setGoodbye(text_of(reason));
  }
};

Result<void> within_limits(const Message& message, std::size_t size_bytes) {
  if (size_bytes > frame_bytes_max) {
    return fail(FrameError::too_large, "the message takes " + std::to_string(size_bytes) + " bytes; at most " +
                                           std::to_string(frame_bytes_max) + " can be sent in one frame");
  }
  if (const auto* data = std::get_if<Data>(&message.body); data != nullptr && data->frames.size() > frames_max) {
    return fail(FrameError::too_large, "at most " + std::to_string(frames_max) + " frames fit one message");
  }
  if (const auto* hello = std::get_if<Hello>(&message.body);
      hello != nullptr && (hello->cluster.size() > name_bytes_max || hello->node.size() > name_bytes_max)) {
    return fail(FrameError::too_large, "names have at most " + std::to_string(name_bytes_max) + " bytes");
  }
  return {};
}

// ---- Cap'n Proto to plain

// Thrown by the readers below, caught in decode(): getters of Cap'n Proto throw as well, so one way out serves both.
struct Refused {
  FrameError code;
  const char* message;
};

std::string string_of(capnp::Text::Reader text, std::size_t bytes_max) {
  if (text.size() > bytes_max) throw Refused{FrameError::too_large, "a text is over its limit"};
  return {text.begin(), text.size()};
}

Acks acks_of(capnp::List<schema::Ack>::Reader in) {
  // A newer peer may have more channels.
  if (in.size() < channel_count) throw Refused{FrameError::malformed, "acknowledgements are missing"};
  Acks acks;
  for (unsigned i = 0; i < channel_count; ++i) {
    const auto ack = in[i];
    acks[i] = {ack.getReceived(), ack.getLostRound()};
    if (acks[i].received == 0) throw Refused{FrameError::malformed, "frames are numbered from 1"};
  }
  return acks;
}

std::uint8_t channel_of(std::uint8_t channel) {
  if (channel >= channel_count) throw Refused{FrameError::unknown_kind, "a channel that this node does not know"};
  return channel;
}

Uuid uuid_of(std::uint64_t high, std::uint64_t low) {
  Uuid id;
  for (std::size_t i = 0; i < 8; ++i) {
    id.bytes[i] = static_cast<std::uint8_t>(high >> (56 - 8 * i));
    id.bytes[i + 8] = static_cast<std::uint8_t>(low >> (56 - 8 * i));
  }
  return id;
}

Hello hello_of(schema::PeerFrame::Hello::Reader in) {
  return {string_of(in.getCluster(), name_bytes_max),
          string_of(in.getNode(), name_bytes_max),
          uuid_of(in.getIncarnationHigh(), in.getIncarnationLow()),
          in.getVersionMin(),
          in.getVersionMax(),
          channel_of(in.getChannel()),
          in.getFrameBytesMax()};
}

Data data_of(schema::PeerFrame::Data::Reader in) {
  Data data;
  data.channel = channel_of(in.getChannel());
  data.round = in.getRound();
  data.first = in.getFirst();
  data.ack_wanted = in.getAckWanted();
  data.acks = acks_of(in.getAcks());
  const auto frames = in.getFrames();
  if (frames.size() == 0) throw Refused{FrameError::malformed, "a data message without frames"};
  if (frames.size() > frames_max) throw Refused{FrameError::too_large, "too many frames in one message"};
  if (data.round == 0 || data.first == 0) throw Refused{FrameError::malformed, "frames and rounds count from 1"};
  if (data.first + frames.size() < data.first) throw Refused{FrameError::malformed, "a sequence that wraps around"};
  data.frames.reserve(frames.size());
  for (const auto bytes : frames) {
    data.frames.push_back(Frame::copy_of({reinterpret_cast<const std::byte*>(bytes.begin()), bytes.size()}));
  }
  return data;
}

Heartbeat heartbeat_of(schema::PeerFrame::Heartbeat::Reader in) {
  Heartbeat heartbeat{channel_of(in.getChannel()), in.getRound(), in.getNext(), acks_of(in.getAcks())};
  if (heartbeat.round == 0 || heartbeat.next == 0) {
    throw Refused{FrameError::malformed, "frames and rounds count from 1"};
  }
  return heartbeat;
}

Message message_of(schema::PeerFrame::Reader in) {
  Message message{in.getFromSession(), in.getToSession(), {}};
  switch (in.which()) {
    case schema::PeerFrame::HELLO:
      message.body = hello_of(in.getHello());
      return message;
    case schema::PeerFrame::WELCOME:
      message.body = Welcome{in.getWelcome().getVersion(), channel_of(in.getWelcome().getChannel())};
      return message;
    case schema::PeerFrame::DATA:
      message.body = data_of(in.getData());
      return message;
    case schema::PeerFrame::HEARTBEAT:
      message.body = heartbeat_of(in.getHeartbeat());
      return message;
    case schema::PeerFrame::GOODBYE:
      message.body = Goodbye{string_of(in.getGoodbye(), reason_bytes_max)};
      return message;
  }
  throw Refused{FrameError::unknown_kind, "a kind of message that this node does not know"};
}

}  // namespace

Result<FramePtr> encode(const Message& message) {
  const std::size_t words = words_needed(message);
  const std::size_t size_bytes = (1 + words) * word_bytes;
  if (auto allowed = within_limits(message, size_bytes); !allowed) return fail(std::move(allowed.error()));
  // The memory must be zero before; what the bound has too much of stays so and ends the segment.
  auto frame = std::make_shared<Frame>(size_bytes);
  const auto out = frame->writable();
  std::memset(out.data(), 0, out.size());
  const std::uint32_t table[] = {0, static_cast<std::uint32_t>(words)};  // one segment, of so many words
  std::memcpy(out.data(), table, sizeof table);
  try {
    capnp::FlatMessageBuilder builder(
        kj::arrayPtr(reinterpret_cast<capnp::word*>(out.data() + word_bytes), words));
    std::visit(Writer{builder.initRoot<schema::PeerFrame>()}, message.body);
    auto root = builder.getRoot<schema::PeerFrame>();
    root.setFromSession(message.from);
    root.setToSession(message.to);
  } catch (const kj::Exception& exception) {
    return fail(FrameError::too_large, std::string("not a message: ") + exception.getDescription().cStr());
  }
  return frame;
}

// A list costs its sender words, except that its entries may all point at the same bytes: the traversal limit bounds
// what a message can grow to.
Result<Message> decode(std::span<const std::byte> bytes) {
  if (bytes.size() > frame_bytes_max) return fail(FrameError::too_large, "the message is over the limit");
  const AlignedBytes aligned(bytes);
  try {
    capnp::ReaderOptions options;
    options.traversalLimitInWords = 2 * aligned.word_count() + 64;
    options.nestingLimit = 8;
    capnp::FlatArrayMessageReader reader(
        kj::arrayPtr(reinterpret_cast<const capnp::word*>(aligned.data()), aligned.word_count()), options);
    return message_of(reader.getRoot<schema::PeerFrame>());
  } catch (const kj::Exception& exception) {
    return fail(FrameError::malformed, std::string("not a valid message: ") + exception.getDescription().cStr());
  } catch (const Refused& refused) {
    return fail(refused.code, refused.message);
  }
}

}  // namespace outlast::peer
