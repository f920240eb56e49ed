#include "actors/client_actor.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <map>
#include <optional>
#include <utility>
#include <variant>

#include <caf/actor_cast.hpp>
#include <caf/actor_system.hpp>
#include <caf/sec.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "cluster/node_links.hpp"
#include "cluster/response_builder.hpp"

namespace outlast::client {
namespace {

// From the transport's thread to the actor.
struct Arrived {
  std::uint64_t request = 0;
  std::vector<chat::Event> events;
  link::Credit cost;
};
struct Finished {
  std::uint64_t request = 0;
  ChatOutcome outcome;
};

}  // namespace
}  // namespace outlast::client

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::client::Arrived)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::client::Finished)

namespace outlast::client {
namespace {

constexpr caf::atom_value error_category = caf::atom("outlast");

using tick_atom = caf::atom_constant<caf::atom("tick")>;
using Inside = Client::extend<caf::reacts_to<Arrived>, caf::reacts_to<Finished>, caf::reacts_to<tick_atom>>;
using SteadyClock = std::chrono::steady_clock;

// CAF takes an error of code 0 for no error, so kinds are carried one higher.
constexpr std::uint8_t error_code_base = 1;

caf::error error_of(const ChatFailure& failure) {
  return {static_cast<std::uint8_t>(static_cast<std::uint8_t>(failure.kind) + error_code_base), error_category,
          caf::make_message(failure.message, failure.retryable, failure.retry_after_ms)};
}

// Where the transport finds the actor. Weak, or the two would keep each other alive. Set before the first request.
struct Door {
  caf::weak_actor_ptr actor;

  template <class T>
  void send(T message) const {
    if (const auto strong = caf::actor_cast<caf::strong_actor_ptr>(actor)) {
      caf::anon_send(caf::actor_cast<Inside>(strong), std::move(message));
    }
  }
};

// One batch is with the sink at a time; what arrives meanwhile is bounded by the credit window.
struct Stream {
  Sink sink;
  caf::strong_actor_ptr keeps_client;  // a client that nobody holds still ends its streams
  std::vector<chat::Event> waiting;
  link::Credit waiting_cost;
  std::optional<SteadyClock::time_point> batch_since;  // the sink has a batch since then
  std::optional<ChatOutcome> outcome;
};

struct Whole {
  caf::typed_response_promise<ChatResponse> promise;
  cluster::ResponseBuilder builder;
};

struct State {
  std::unique_ptr<cluster::ChatTransport> transport;
  std::chrono::milliseconds sink_timeout{};
  std::size_t in_flight_max = 0;
  std::uint64_t last_request = 0;
  bool ticking = false;
  std::map<std::uint64_t, Whole> wholes;
  std::map<std::uint64_t, Stream> streams;

  [[nodiscard]] std::optional<caf::error> refusal() const {
    if (wholes.size() + streams.size() < in_flight_max) return std::nullopt;
    return error_of({ErrorKind::overloaded, "the client has as many requests in flight as it may", true, 0});
  }
  // An actor that ends, for whatever reason, still answers everything once.
  ~State() {
    transport.reset();
    const ChatFailure failure{ErrorKind::cancelled, "the client has ended", false, 0};
    for (auto& [request, whole] : wholes) whole.promise.deliver(error_of(failure));
    for (auto& [request, stream] : streams) {
      caf::anon_send(stream.sink, StreamEnd{request, stream.outcome.value_or(failure)});
    }
  }
};

using Self = Inside::stateful_pointer<State>;

// A time-out of CAF's own requests would keep this actor, and so the service's system, alive until it fires. Instead the
// sinks that have a batch are looked at in short intervals, while there are any.
void keep_ticking(Self self) {
  State& state = self->state;
  if (std::exchange(state.ticking, true)) return;
  const auto interval = std::clamp(state.sink_timeout / 8, std::chrono::milliseconds(5), std::chrono::milliseconds(100));
  caf::delayed_anon_send(caf::actor_cast<Inside>(self), interval, tick_atom::value);
}

void end_stream(State& state, std::uint64_t request, ChatOutcome outcome) {
  const auto found = state.streams.find(request);
  if (found == state.streams.end()) return;
  // The keeper is let go last: it may be all that holds this actor.
  const Stream stream = std::move(found->second);
  state.streams.erase(found);
  caf::anon_send(stream.sink, StreamEnd{request, std::move(outcome)});
}

void lose_sink(State& state, std::uint64_t request, std::string why) {
  state.transport->cancel(request);
  end_stream(state, request, ChatFailure{ErrorKind::slow_consumer, std::move(why), false, 0});
}

// Gives the sink what waits for it; then its end, when nothing waits any more.
void feed(Self self, std::uint64_t request) {
  State& state = self->state;
  const auto found = state.streams.find(request);
  if (found == state.streams.end() || found->second.batch_since) return;
  Stream& stream = found->second;
  if (stream.waiting.empty()) {
    if (stream.outcome) end_stream(state, request, std::move(*stream.outcome));
    return;
  }
  stream.batch_since = SteadyClock::now();
  keep_ticking(self);
  const link::Credit cost = std::exchange(stream.waiting_cost, {});
  self->request(stream.sink, caf::infinite, StreamBatch{request, std::exchange(stream.waiting, {})})
      .then(
          [self, request, cost] {
            const auto running = self->state.streams.find(request);
            if (running == self->state.streams.end()) return;
            running->second.batch_since.reset();
            self->state.transport->consumed(request, cost);
            feed(self, request);
          },
          [self, request](const caf::error&) { lose_sink(self->state, request, "the sink has ended"); });
}

void on_tick(Self self) {
  State& state = self->state;
  state.ticking = false;
  const auto too_old = SteadyClock::now() - state.sink_timeout;
  std::vector<std::uint64_t> late;
  bool waiting = false;
  for (const auto& [request, stream] : state.streams) {
    if (!stream.batch_since) continue;
    waiting = true;
    if (*stream.batch_since <= too_old) late.push_back(request);
  }
  for (const std::uint64_t request : late) lose_sink(state, request, "the sink did not take a batch in time");
  if (waiting) keep_ticking(self);
}

void on_arrived(Self self, Arrived& arrived) {
  State& state = self->state;
  if (const auto stream = state.streams.find(arrived.request); stream != state.streams.end()) {
    auto& waiting = stream->second.waiting;
    waiting.insert(waiting.end(), std::make_move_iterator(arrived.events.begin()),
                   std::make_move_iterator(arrived.events.end()));
    stream->second.waiting_cost.chunks += arrived.cost.chunks;
    stream->second.waiting_cost.bytes += arrived.cost.bytes;
    return feed(self, arrived.request);
  }
  const auto whole = state.wholes.find(arrived.request);
  if (whole == state.wholes.end()) return;
  if (whole->second.builder.add(arrived.events)) return state.transport->consumed(arrived.request, arrived.cost);
  auto promise = std::move(whole->second.promise);
  state.wholes.erase(whole);
  state.transport->cancel(arrived.request);
  promise.deliver(error_of({ErrorKind::invalid_request, "the answer is too large to be given whole; stream it", false, 0}));
}

void on_finished(Self self, Finished& finished) {
  State& state = self->state;
  if (const auto stream = state.streams.find(finished.request); stream != state.streams.end()) {
    stream->second.outcome = std::move(finished.outcome);
    return feed(self, finished.request);
  }
  const auto found = state.wholes.find(finished.request);
  if (found == state.wholes.end()) return;
  Whole whole = std::move(found->second);
  state.wholes.erase(found);
  if (const auto* failure = std::get_if<ChatFailure>(&finished.outcome)) {
    whole.promise.deliver(error_of(*failure));
  } else {
    whole.promise.deliver(ChatResponse{whole.builder.take(), std::get<ChatEnd>(std::move(finished.outcome))});
  }
}

caf::typed_response_promise<ChatResponse> on_chat(Self self, ChatRequest& request) {
  State& state = self->state;
  auto promise = self->make_response_promise<ChatResponse>();
  if (auto refusal = state.refusal()) {
    promise.deliver(std::move(*refusal));
    return promise;
  }
  const std::uint64_t id = ++state.last_request;
  state.wholes.emplace(id, Whole{promise, {}});
  request.chat.stream = false;
  state.transport->submit(id, std::move(request.chat), request.timeout_ms);
  return promise;
}

caf::result<StreamStarted> on_stream(Self self, StreamRequest& start) {
  State& state = self->state;
  if (auto refusal = state.refusal()) return std::move(*refusal);
  const std::uint64_t id = ++state.last_request;
  Stream stream;
  stream.sink = std::move(start.sink);
  stream.keeps_client = caf::actor_cast<caf::strong_actor_ptr>(self);
  state.streams.emplace(id, std::move(stream));
  start.request.chat.stream = true;
  start.request.chat.include_usage = true;
  state.transport->submit(id, std::move(start.request.chat), start.request.timeout_ms);
  return StreamStarted{id};
}

Inside::behavior_type behave(Self self, const ClientOptions& options, const std::shared_ptr<Door>& door,
                             const std::shared_ptr<std::unique_ptr<cluster::ChatTransport>>& transport) {
  door->actor = caf::actor_cast<caf::weak_actor_ptr>(self);
  self->state.transport = std::move(*transport);
  self->state.sink_timeout = options.sink_timeout;
  self->state.in_flight_max = options.in_flight_max;
  return {
      [self](ChatRequest& request) { return on_chat(self, request); },
      [self](StreamRequest& request) { return on_stream(self, request); },
      [self](const CancelStream& cancel) { self->state.transport->cancel(cancel.stream); },
      [self](Arrived& arrived) { on_arrived(self, arrived); },
      [self](Finished& finished) { on_finished(self, finished); },
      [self](tick_atom) { on_tick(self); },
  };
}

}  // namespace

ChatFailure failure_of(const caf::error& error) {
  if (!error) return {ErrorKind::internal, "an error without content", false, 0};
  if (error.category() != error_category) {
    const bool timed_out = error == caf::sec::request_timeout;
    return {timed_out ? ErrorKind::deadline_exceeded : ErrorKind::internal, caf::to_string(error), timed_out, 0};
  }
  ChatFailure failure;
  failure.kind = static_cast<ErrorKind>(error.code() - error_code_base);
  const caf::message& context = error.context();
  if (context.match_elements<std::string, bool, std::uint32_t>()) {
    failure.message = context.get_as<std::string>(0);
    failure.retryable = context.get_as<bool>(1);
    failure.retry_after_ms = context.get_as<std::uint32_t>(2);
  }
  return failure;
}

Result<Client> spawn_over(caf::actor_system& system, const ClientOptions& options, const MakeTransport& make_transport) {
  auto door = std::make_shared<Door>();
  auto transport = make_transport({[door](std::uint64_t request, std::vector<chat::Event> events, link::Credit cost) {
                                     door->send(Arrived{request, std::move(events), cost});
                                   },
                                   [door](std::uint64_t request, ChatOutcome outcome) {
                                     door->send(Finished{request, std::move(outcome)});
                                   }});
  if (!transport) return fail(std::move(transport.error()));
  // CAF copies a spawned function's arguments, so what cannot be copied travels in a shared box.
  auto box = std::make_shared<std::unique_ptr<cluster::ChatTransport>>(std::move(*transport));
  return Client(system.spawn(behave, options, door, std::move(box)));
}

namespace {

std::uint32_t ms_of(std::chrono::milliseconds time) {
  constexpr std::int64_t day_ms = 86'400'000;
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(time.count(), 1, day_ms));
}

}  // namespace

Result<Client> spawn(caf::actor_system& system, ClientOptions options) {
  return spawn_over(system, options, [&options](cluster::ChatReceiver receiver) {
    cluster::LinksOptions links;
    links.endpoints = options.endpoints;
    links.virtual_key = options.virtual_key;
    links.client_name = options.name;
    links.in_flight_max = options.in_flight_max;
    links.unreachable_ms_max = ms_of(options.unreachable_timeout);
    links.request_ms_max = ms_of(options.request_timeout);
    auto started = cluster::NodeLinks::start(std::move(links), std::move(receiver));
    if (!started) return Result<std::unique_ptr<cluster::ChatTransport>>(fail(std::move(started.error())));
    return Result<std::unique_ptr<cluster::ChatTransport>>(std::move(*started));
  });
}

}  // namespace outlast::client
