#include "proto/link_codec.hpp"

#include <algorithm>
#include <utility>

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include "core/check.hpp"
#include "core/request_labels.hpp"
#include "proto/link.capnp.h"

namespace outlast::link {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;  // clang 14 deduces nothing by itself

// ---- plain to Cap'n Proto

// The span must outlive the copy into the message, which it does: set…() copies at once.
capnp::Text::Reader text_of(std::string_view text) {
  // A Text must end with a NUL that std::string guarantees; label() keeps that.
  return {text.data(), text.size()};
}

std::string label(const std::string& text, std::size_t bytes_max) {
  return text.size() <= bytes_max ? text : text.substr(0, bytes_max);
}

void write_id(const Uuid& id, schema::Id::Builder out) {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  for (std::size_t i = 0; i < 8; ++i) high = high << 8 | id.bytes[i];
  for (std::size_t i = 8; i < 16; ++i) low = low << 8 | id.bytes[i];
  out.setHigh(high);
  out.setLow(low);
}

void write_credit(const Credit& credit, schema::Credit::Builder out) {
  out.setChunks(credit.chunks);
  out.setBytes(credit.bytes);
}

void write_usage(const Usage& usage, schema::Usage::Builder out) {
  out.setInputUncached(usage.input_uncached);
  out.setInputCacheRead(usage.input_cache_read);
  out.setInputCacheWrite5m(usage.input_cache_write_5m);
  out.setInputCacheWrite1h(usage.input_cache_write_1h);
  out.setInputAudio(usage.input_audio);
  out.setInputImage(usage.input_image);
  out.setOutputText(usage.output_text);
  out.setOutputReasoning(usage.output_reasoning);
  out.setOutputAudio(usage.output_audio);
  out.setSource(static_cast<std::uint8_t>(usage.source));
}

void write_part(const chat::Part& part, schema::Part::Builder out) {
  std::visit(Overloaded{[&out](const chat::Text& text) { out.setText(text_of(text.text)); },
                        [&out](const chat::Image& image) {
                          auto group = out.initImage();
                          group.setMediaType(text_of(image.media_type));
                          group.setData(text_of(image.data));
                          group.setUrl(text_of(image.url));
                        },
                        [&out](const chat::ToolCall& call) {
                          auto group = out.initToolCall();
                          group.setId(text_of(call.id));
                          group.setName(text_of(call.name));
                          group.setArguments(text_of(call.arguments));
                        },
                        [&out](const chat::ToolResult& result) {
                          auto group = out.initToolResult();
                          group.setToolCallId(text_of(result.tool_call_id));
                          group.setContent(text_of(result.content));
                          group.setIsError(result.is_error);
                        }},
             part);
  std::visit(
      [&out](const auto& any) {
        if constexpr (requires { any.cache_control; }) {
          if (!any.cache_control.empty()) out.setCacheControl(text_of(any.cache_control));
        }
      },
      part);
}

template <class Items, class Builder, class Write>
void write_list(const Items& items, Builder out, Write write) {
  unsigned i = 0;
  for (const auto& item : items) write(item, out[i++]);
}

unsigned count_of(std::size_t count) { return static_cast<unsigned>(count); }

void write_options(const chat::Request& request, schema::Request::Builder out) {
  if (request.parallel_tool_calls) out.getParallelToolCalls().setValue(*request.parallel_tool_calls);
  if (request.max_tokens) out.getMaxTokens().setValue(*request.max_tokens);
  if (request.temperature) out.getTemperature().setValue(*request.temperature);
  if (request.top_p) out.getTopP().setValue(*request.top_p);
  auto stops = out.initStop(count_of(request.stop.size()));
  for (unsigned i = 0; i < stops.size(); ++i) stops.set(i, text_of(request.stop[i]));
  out.setUser(text_of(request.user));
  out.setStream(request.stream);
  out.setIncludeUsage(request.include_usage);
  out.setExtraJson(text_of(request.extra_json));
  if (!request.tags.empty()) {
    auto tags = out.initTags(count_of(request.tags.size()));
    for (unsigned i = 0; i < tags.size(); ++i) tags.set(i, text_of(request.tags[i]));
  }
  if (!request.session.empty()) out.setSession(text_of(request.session));
}

void write_request(const chat::Request& request, schema::Request::Builder out) {
  out.setModel(text_of(request.model));
  write_list(request.messages, out.initMessages(count_of(request.messages.size())),
             [](const chat::Message& message, schema::Message::Builder item) {
               item.setRole(static_cast<std::uint8_t>(message.role));
               write_list(message.parts, item.initParts(count_of(message.parts.size())), write_part);
             });
  write_list(request.tools, out.initTools(count_of(request.tools.size())),
             [](const chat::Tool& tool, schema::Tool::Builder item) {
               item.setName(text_of(tool.name));
               item.setDescription(text_of(tool.description));
               item.setParameters(text_of(tool.parameters));
               if (!tool.cache_control.empty()) item.setCacheControl(text_of(tool.cache_control));
             });
  out.setToolChoice(static_cast<std::uint8_t>(request.tool_choice));
  out.setToolChoiceName(text_of(request.tool_choice_name));
  write_options(request, out);
}

void write_event(const chat::Event& event, schema::Event::Builder out) {
  std::visit(Overloaded{[&out](const chat::Start& start) {
                          auto group = out.initStart();
                          group.setId(text_of(start.id));
                          group.setModel(text_of(start.model));
                        },
                        [&out](const chat::TextDelta& delta) { out.setTextDelta(text_of(delta.text)); },
                        [&out](const chat::ReasoningDelta& delta) { out.setReasoningDelta(text_of(delta.text)); },
                        [&out](const chat::ToolCallStart& start) {
                          auto group = out.initToolCallStart();
                          group.setIndex(start.index);
                          group.setId(text_of(start.id));
                          group.setName(text_of(start.name));
                        },
                        [&out](const chat::ToolCallDelta& delta) {
                          auto group = out.initToolCallDelta();
                          group.setIndex(delta.index);
                          group.setArguments(text_of(delta.arguments));
                        },
                        [&out](const chat::Finish& finish) {
                          auto group = out.initFinish();
                          group.setReason(static_cast<std::uint8_t>(finish.reason));
                          write_usage(finish.usage, group.initUsage());
                        }},
             event);
}

void write_events(std::uint64_t request_id, std::uint32_t sequence, std::span<const chat::Event> events,
                  schema::NodeFrame::Builder out) {
  auto group = out.initEvents();
  group.setRequestId(request_id);
  group.setSequence(sequence);
  write_list(events, group.initEvents(count_of(events.size())), write_event);
}

void write_nodes(const Nodes& nodes, schema::NodeFrame::Builder out) {
  auto group = out.initNodes();
  group.setVersion(nodes.version);
  write_list(nodes.nodes, group.initNodes(count_of(nodes.nodes.size())),
             [](const NodeEntry& node, schema::Node::Builder item) {
               item.setName(text_of(node.name));
               item.setAddress(text_of(node.address));
               item.setPublicKey(text_of(node.public_key));
               item.setDraining(node.draining);
             });
}

void write_message(const ClientMessage& message, schema::ClientFrame::Builder out) {
  std::visit(Overloaded{[&out](const Hello& hello) {
                          auto group = out.initHello();
                          group.setProtocolVersion(hello.version);
                          group.setVirtualKey(text_of(label(hello.virtual_key, name_bytes_max)));
                          group.setClientName(text_of(label(hello.client_name, name_bytes_max)));
                          write_id(hello.incarnation, group.initIncarnation());
                        },
                        [&out](const Chat& chat) {
                          auto group = out.initChat();
                          group.setRequestId(chat.request_id);
                          write_request(chat.request, group.initRequest());
                          group.setDeadlineMs(chat.deadline_ms);
                          write_credit(chat.credit, group.initCredit());
                        },
                        [&out](const Grant& grant) {
                          auto group = out.initCredit();
                          group.setRequestId(grant.request_id);
                          write_credit(grant.credit, group.initGrant());
                        },
                        [&out](const Cancel& cancel) { out.setCancel(cancel.request_id); },
                        [&out](const Ping& ping) { out.setPing(ping.number); },
                        [&out](const Pong& pong) { out.setPong(pong.number); }},
             message);
}

void write_message(const NodeMessage& message, schema::NodeFrame::Builder out) {
  std::visit(Overloaded{[&out](const Welcome& welcome) {
                          auto group = out.initWelcome();
                          group.setProtocolVersion(welcome.version);
                          group.setNodeName(text_of(label(welcome.node_name, name_bytes_max)));
                          write_id(welcome.incarnation, group.initIncarnation());
                        },
                        [&out](const Events& events) {
                          write_events(events.request_id, events.sequence, events.events, out);
                        },
                        [&out](const Done& done) {
                          auto group = out.initDone();
                          group.setRequestId(done.request_id);
                          group.setDeployment(text_of(label(done.deployment, name_bytes_max)));
                          group.setAttempts(done.attempts);
                          write_id(done.ledger_id, group.initLedgerId());
                        },
                        [&out](const RequestError& error) {
                          auto group = out.initError();
                          group.setRequestId(error.request_id);
                          group.setKind(static_cast<std::uint16_t>(error.kind));
                          group.setMessage(text_of(label(error.message, error_message_bytes_max)));
                          group.setRetryable(error.retryable);
                          group.setRetryAfterMs(error.retry_after_ms);
                        },
                        [&out](const Ping& ping) { out.setPing(ping.number); },
                        [&out](const Pong& pong) { out.setPong(pong.number); },
                        [&out](const Goodbye& goodbye) {
                          out.setGoodbye(text_of(label(goodbye.reason, error_message_bytes_max)));
                        },
                        [&out](const Nodes& nodes) { write_nodes(nodes, out); }},
             message);
}

Result<FramePtr> flatten(capnp::MallocMessageBuilder& builder) {
  const std::size_t size_bytes = capnp::computeSerializedSizeInWords(builder) * sizeof(capnp::word);
  if (size_bytes > frame_bytes_max) {
    return fail(FrameError::too_large, "the message takes " + std::to_string(size_bytes) + " bytes; at most " +
                                           std::to_string(frame_bytes_max) + " can be sent in one frame");
  }
  auto frame = std::make_shared<Frame>(size_bytes);
  const auto out = frame->writable();
  kj::ArrayOutputStream stream(kj::arrayPtr(reinterpret_cast<kj::byte*>(out.data()), out.size()));
  capnp::writeMessage(stream, builder);
  return frame;
}

// The one place where an exception of KJ becomes a Result, for both directions.
template <class T, class Body>
Result<T> without_exceptions(Body body) {
  try {
    return body();
  } catch (const kj::Exception& exception) {
    return fail(FrameError::malformed, std::string("not a valid frame: ") + exception.getDescription().cStr());
  }
}

Failure over(const char* what, std::size_t limit) {
  return fail(FrameError::too_large, std::string("at most ") + std::to_string(limit) + " " + what + " fit one request");
}

// The decoder's bounds, so that a sender learns of them at once and by name.
Result<void> within_limits(const chat::Request& request) {
  if (request.model.size() > name_bytes_max) return over("bytes of model name", name_bytes_max);
  if (request.messages.size() > messages_max) return over("messages", messages_max);
  if (request.tools.size() > tools_max) return over("tools", tools_max);
  if (request.stop.size() > stops_max) return over("stop texts", stops_max);
  if (request.tags.size() > tags_max) return over("tags", tags_max);
  for (const std::string& tag : request.tags) {
    if (tag.size() > tag_bytes_max) return over("bytes of a tag", tag_bytes_max);
  }
  if (request.session.size() > session_bytes_max) return over("bytes of the session's name", session_bytes_max);
  for (const chat::Message& message : request.messages) {
    if (message.parts.size() > parts_max) return over("parts per message", parts_max);
  }
  return {};
}

// A cut address or key would be a wrong one, so these are refused and not cut.
Result<void> within_limits(const Nodes& nodes) {
  if (nodes.nodes.size() > nodes_max) return over("nodes", nodes_max);
  for (const NodeEntry& node : nodes.nodes) {
    if (std::max({node.name.size(), node.address.size(), node.public_key.size()}) > name_bytes_max) {
      return over("bytes of a node's name, address or key", name_bytes_max);
    }
  }
  return {};
}

template <class Root, class Write>
Result<FramePtr> encode_with(Write write) {
  return without_exceptions<FramePtr>([&write]() -> Result<FramePtr> {
    capnp::MallocMessageBuilder builder;
    write(builder.initRoot<Root>());
    return flatten(builder);
  });
}

// ---- Cap'n Proto to plain

// Thrown by readers below, caught in decode_with(): a getter of Cap'n Proto throws as well, so one way out serves both.
struct Refused {
  FrameError code;
  std::string message;
};

std::string string_of(capnp::Text::Reader text) { return {text.begin(), text.size()}; }

std::string short_string_of(capnp::Text::Reader text, std::size_t bytes_max, const char* what) {
  if (text.size() > bytes_max) {
    throw Refused{FrameError::too_large, std::string(what) + " is longer than " + std::to_string(bytes_max) + " bytes"};
  }
  return string_of(text);
}

template <class List>
List bounded(List list, std::size_t count_max, const char* what) {
  if (list.size() > count_max) {
    throw Refused{FrameError::too_large, std::string("more than ") + std::to_string(count_max) + " " + what};
  }
  return list;
}

template <class E>
E enum_of(std::uint8_t number, E last, const char* what) {
  if (number > static_cast<std::uint8_t>(last)) {
    throw Refused{FrameError::malformed, std::string("unknown ") + what + " " + std::to_string(number)};
  }
  return static_cast<E>(number);
}

Uuid read_id(schema::Id::Reader in) {
  Uuid id;
  for (std::size_t i = 0; i < 8; ++i) {
    id.bytes[i] = static_cast<std::uint8_t>(in.getHigh() >> (56 - 8 * i));
    id.bytes[i + 8] = static_cast<std::uint8_t>(in.getLow() >> (56 - 8 * i));
  }
  return id;
}

Credit read_credit(schema::Credit::Reader in) { return {in.getChunks(), in.getBytes()}; }

Usage read_usage(schema::Usage::Reader in) {
  Usage usage;
  usage.input_uncached = in.getInputUncached();
  usage.input_cache_read = in.getInputCacheRead();
  usage.input_cache_write_5m = in.getInputCacheWrite5m();
  usage.input_cache_write_1h = in.getInputCacheWrite1h();
  usage.input_audio = in.getInputAudio();
  usage.input_image = in.getInputImage();
  usage.output_text = in.getOutputText();
  usage.output_reasoning = in.getOutputReasoning();
  usage.output_audio = in.getOutputAudio();
  usage.source = in.getSource() > static_cast<std::uint8_t>(UsageSource::reported)
                     ? UsageSource::estimated
                     : static_cast<UsageSource>(in.getSource());
  return usage;
}

chat::Part read_part(schema::Part::Reader in) {
  switch (in.which()) {
    case schema::Part::TEXT:
      return chat::Text{string_of(in.getText()), string_of(in.getCacheControl())};
    case schema::Part::IMAGE: {
      const auto group = in.getImage();
      return chat::Image{string_of(group.getMediaType()), string_of(group.getData()), string_of(group.getUrl()),
                         string_of(in.getCacheControl())};
    }
    case schema::Part::TOOL_CALL: {
      const auto group = in.getToolCall();
      return chat::ToolCall{string_of(group.getId()), string_of(group.getName()), string_of(group.getArguments())};
    }
    case schema::Part::TOOL_RESULT: {
      const auto group = in.getToolResult();
      return chat::ToolResult{string_of(group.getToolCallId()), string_of(group.getContent()), group.getIsError(),
                              string_of(in.getCacheControl())};
    }
  }
  // A part that cannot be understood cannot be left out: the question would change.
  throw Refused{FrameError::malformed, "a message has a part of a kind that this node does not know"};
}

chat::Message read_chat_message(schema::Message::Reader in) {
  chat::Message message;
  message.role = enum_of(in.getRole(), chat::Role::tool, "role");
  const auto parts = bounded(in.getParts(), parts_max, "parts in one message");
  message.parts.reserve(parts.size());
  for (const auto part : parts) message.parts.push_back(read_part(part));
  return message;
}

void read_options(schema::Request::Reader in, chat::Request& request) {
  if (const auto group = in.getParallelToolCalls(); group.isValue()) request.parallel_tool_calls = group.getValue();
  if (const auto group = in.getMaxTokens(); group.isValue()) request.max_tokens = group.getValue();
  if (const auto group = in.getTemperature(); group.isValue()) request.temperature = group.getValue();
  if (const auto group = in.getTopP(); group.isValue()) request.top_p = group.getValue();
  for (const auto stop : bounded(in.getStop(), stops_max, "stop texts")) request.stop.push_back(string_of(stop));
  request.user = string_of(in.getUser());
  request.stream = in.getStream();
  request.include_usage = in.getIncludeUsage();
  request.extra_json = string_of(in.getExtraJson());
  for (const auto tag : bounded(in.getTags(), tags_max, "tags"))
    request.tags.push_back(short_string_of(tag, tag_bytes_max, "a tag"));
  request.session = short_string_of(in.getSession(), session_bytes_max, "the session's name");
}

chat::Request read_request(schema::Request::Reader in) {
  chat::Request request;
  request.model = short_string_of(in.getModel(), name_bytes_max, "the model's name");
  const auto messages = bounded(in.getMessages(), messages_max, "messages");
  request.messages.reserve(messages.size());
  for (const auto message : messages) request.messages.push_back(read_chat_message(message));
  for (const auto tool : bounded(in.getTools(), tools_max, "tools")) {
    request.tools.push_back(
        {string_of(tool.getName()), string_of(tool.getDescription()), string_of(tool.getParameters()),
         string_of(tool.getCacheControl())});
  }
  request.tool_choice = enum_of(in.getToolChoice(), chat::ToolChoice::named, "tool choice");
  request.tool_choice_name = string_of(in.getToolChoiceName());
  read_options(in, request);
  return request;
}

void read_event(schema::Event::Reader in, std::vector<chat::Event>& out) {
  switch (in.which()) {
    case schema::Event::START:
      out.emplace_back(chat::Start{string_of(in.getStart().getId()), string_of(in.getStart().getModel())});
      return;
    case schema::Event::TEXT_DELTA:
      out.emplace_back(chat::TextDelta{string_of(in.getTextDelta())});
      return;
    case schema::Event::REASONING_DELTA:
      out.emplace_back(chat::ReasoningDelta{string_of(in.getReasoningDelta())});
      return;
    case schema::Event::TOOL_CALL_START: {
      const auto group = in.getToolCallStart();
      out.emplace_back(chat::ToolCallStart{group.getIndex(), string_of(group.getId()), string_of(group.getName())});
      return;
    }
    case schema::Event::TOOL_CALL_DELTA: {
      const auto group = in.getToolCallDelta();
      out.emplace_back(chat::ToolCallDelta{group.getIndex(), string_of(group.getArguments())});
      return;
    }
    case schema::Event::FINISH: {
      const auto group = in.getFinish();
      const auto reason = group.getReason() > static_cast<std::uint8_t>(chat::StopReason::content_filter)
                              ? chat::StopReason::none
                              : static_cast<chat::StopReason>(group.getReason());
      out.emplace_back(chat::Finish{reason, read_usage(group.getUsage())});
      return;
    }
  }
}

ClientMessage read_message(schema::ClientFrame::Reader in) {
  switch (in.which()) {
    case schema::ClientFrame::HELLO: {
      const auto group = in.getHello();
      return Hello{group.getProtocolVersion(), short_string_of(group.getVirtualKey(), name_bytes_max, "the virtual key"),
                   short_string_of(group.getClientName(), name_bytes_max, "the client's name"),
                   read_id(group.getIncarnation())};
    }
    case schema::ClientFrame::CHAT: {
      const auto group = in.getChat();
      return Chat{group.getRequestId(), read_request(group.getRequest()), group.getDeadlineMs(),
                  read_credit(group.getCredit())};
    }
    case schema::ClientFrame::CREDIT:
      return Grant{in.getCredit().getRequestId(), read_credit(in.getCredit().getGrant())};
    case schema::ClientFrame::CANCEL:
      return Cancel{in.getCancel()};
    case schema::ClientFrame::PING:
      return Ping{in.getPing()};
    case schema::ClientFrame::PONG:
      return Pong{in.getPong()};
  }
  throw Refused{FrameError::unknown_kind, "a kind of frame that this node does not know"};
}

Nodes read_nodes(schema::NodeFrame::Nodes::Reader in) {
  Nodes nodes{in.getVersion(), {}};
  const auto list = bounded(in.getNodes(), nodes_max, "nodes in one list");
  nodes.nodes.reserve(list.size());
  for (const auto node : list) {
    nodes.nodes.push_back({short_string_of(node.getName(), name_bytes_max, "a node's name"),
                           short_string_of(node.getAddress(), name_bytes_max, "a node's address"),
                           short_string_of(node.getPublicKey(), name_bytes_max, "a node's key"), node.getDraining()});
  }
  return nodes;
}

NodeMessage read_message(schema::NodeFrame::Reader in) {
  switch (in.which()) {
    case schema::NodeFrame::WELCOME: {
      const auto group = in.getWelcome();
      return Welcome{group.getProtocolVersion(), short_string_of(group.getNodeName(), name_bytes_max, "the node's name"),
                     read_id(group.getIncarnation())};
    }
    case schema::NodeFrame::EVENTS: {
      const auto group = in.getEvents();
      Events events{group.getRequestId(), group.getSequence(), {}, 0};
      const auto list = bounded(group.getEvents(), events_max, "events in one frame");
      events.events.reserve(list.size());
      for (const auto event : list) read_event(event, events.events);
      events.unknown = list.size() - count_of(events.events.size());
      return events;
    }
    case schema::NodeFrame::DONE: {
      const auto group = in.getDone();
      return Done{group.getRequestId(), short_string_of(group.getDeployment(), name_bytes_max, "the deployment's name"),
                  group.getAttempts(), read_id(group.getLedgerId())};
    }
    case schema::NodeFrame::ERROR: {
      const auto group = in.getError();
      const auto kind = group.getKind() > static_cast<std::uint16_t>(ErrorKind::link_lost)
                            ? ErrorKind::internal
                            : static_cast<ErrorKind>(group.getKind());
      return RequestError{group.getRequestId(), kind,
                          short_string_of(group.getMessage(), error_message_bytes_max, "the error's message"),
                          group.getRetryable(), group.getRetryAfterMs()};
    }
    case schema::NodeFrame::PING:
      return Ping{in.getPing()};
    case schema::NodeFrame::PONG:
      return Pong{in.getPong()};
    case schema::NodeFrame::GOODBYE:
      return Goodbye{short_string_of(in.getGoodbye(), error_message_bytes_max, "the reason")};
    case schema::NodeFrame::NODES:
      return read_nodes(in.getNodes());
  }
  throw Refused{FrameError::unknown_kind, "a kind of frame that this client does not know"};
}

// A list of n structs without data costs the wire one word, so amplification is bounded by the counts above and by the
// traversal limit: as many words as the frame has, and some for pointers that are read twice.
template <class Root, class Message>
Result<Message> decode_with(std::span<const std::byte> bytes) {
  if (bytes.size() > frame_bytes_max) return fail(FrameError::too_large, "the frame is over the limit");
  const AlignedBytes aligned(bytes);
  try {
    return without_exceptions<Message>([&aligned]() -> Result<Message> {
      capnp::ReaderOptions options;
      options.traversalLimitInWords = 2 * aligned.word_count() + 64;
      options.nestingLimit = 16;
      capnp::FlatArrayMessageReader reader(
          kj::arrayPtr(reinterpret_cast<const capnp::word*>(aligned.data()), aligned.word_count()), options);
      return read_message(reader.getRoot<Root>());
    });
  } catch (const Refused& refused) {
    return fail(refused.code, refused.message);
  }
}

}  // namespace

std::string_view name_of(ErrorKind kind) {
  static constexpr std::string_view names[] = {
      "internal", "unauthenticated", "invalid_request", "unknown_model", "overloaded",
      "deadline_exceeded", "draining", "provider_failed", "cut", "slow_consumer",
      "protocol", "rate_limited", "over_budget", "unsupported_version", "cancelled",
      "unreachable", "link_lost"};
  const auto index = static_cast<std::size_t>(kind);
  return index < std::size(names) ? names[index] : names[0];
}

Result<FramePtr> encode(const ClientMessage& message) {
  if (const auto* chat = std::get_if<Chat>(&message)) {
    if (auto allowed = within_limits(chat->request); !allowed) return fail(std::move(allowed.error()));
  }
  return encode_with<schema::ClientFrame>(
      [&message](schema::ClientFrame::Builder out) { write_message(message, out); });
}

Result<FramePtr> encode(const NodeMessage& message) {
  if (const auto* nodes = std::get_if<Nodes>(&message)) {
    if (auto allowed = within_limits(*nodes); !allowed) return fail(std::move(allowed.error()));
  }
  return encode_with<schema::NodeFrame>([&message](schema::NodeFrame::Builder out) { write_message(message, out); });
}

Result<FramePtr> encode_events(std::uint64_t request_id, std::uint32_t sequence, std::span<const chat::Event> events) {
  return encode_with<schema::NodeFrame>([request_id, sequence, events](schema::NodeFrame::Builder out) {
    write_events(request_id, sequence, events, out);
  });
}

Result<ClientMessage> decode_from_client(std::span<const std::byte> bytes) {
  return decode_with<schema::ClientFrame, ClientMessage>(bytes);
}

Result<NodeMessage> decode_from_node(std::span<const std::byte> bytes) {
  return decode_with<schema::NodeFrame, NodeMessage>(bytes);
}

}  // namespace outlast::link
