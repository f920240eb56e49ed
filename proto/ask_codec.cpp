#include "proto/ask_codec.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include "proto/ask_wire.hpp"

namespace outlast::ask {
namespace {

template <class T, class Body>
Result<T> without_exceptions(Body body) {
  try {
    return body();
  } catch (const kj::Exception& exception) {
    return fail(FrameError::malformed, std::string("not a valid frame: ") + exception.getDescription().cStr());
  } catch (const Refused& refused) {
    return fail(refused.code, refused.message);
  }
}

// ---- plain to Cap'n Proto

std::string label(const std::string& text, std::size_t bytes_max) {
  return text.size() <= bytes_max ? text : text.substr(0, bytes_max);
}

capnp::Data::Reader data_of(const FramePtr& body) {
  if (!body) return {};
  at_most(body->size(), body_bytes_max, "bytes of a body");
  const auto bytes = body->bytes();
  return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}

template <class Builder>
void write_names(const std::vector<std::string>& names, Builder out) {
  for (unsigned i = 0; i < out.size(); ++i) out.set(i, name_of(names[i]));
}

void write(const WorkerDescription& worker, schema::Worker::Builder out) {
  at_most(worker.capabilities.size(), capabilities_max, "capabilities of a worker");
  out.setName(name_of(worker.name));
  out.setDevice(name_of(worker.device));
  out.setMemoryBytes(worker.memory_bytes);
  write_names(worker.capabilities, out.initCapabilities(count_of(worker.capabilities.size())));
}

template <class Builder>
void write_workers(const std::vector<WorkerDescription>& workers, Builder out) {
  for (unsigned i = 0; i < out.size(); ++i) write(workers[i], out[i]);
}

std::uint64_t half_of(const Uuid& id, std::size_t from) {
  std::uint64_t half = 0;
  for (std::size_t i = from; i < from + 8; ++i) half = half << 8 | id.bytes[i];
  return half;
}

void write(const NodeReport& report, schema::NodeReport::Builder out) {
  at_most(report.roles.size(), roles_max, "roles");
  at_most(report.shards.size(), shards_max, "shards");
  at_most(report.workers.size(), workers_max, "workers");
  out.setName(name_of(report.name));
  write_names(report.roles, out.initRoles(count_of(report.roles.size())));
  out.setIncarnationHigh(half_of(report.incarnation, 0));
  out.setIncarnationLow(half_of(report.incarnation, 8));
  out.setSoftware(name_of(report.software));
  out.setDraining(report.draining);
  out.setRequestsInFlight(report.requests_in_flight);
  auto shards = out.initShards(count_of(report.shards.size()));
  for (unsigned i = 0; i < shards.size(); ++i) {
    const ShardReport& shard = report.shards[i];
    shards[i].setShard(shard.shard);
    shards[i].setOwned(shard.owned);
    shards[i].setAppliedIndex(shard.applied_index);
    shards[i].setLagEntries(shard.lag_entries);
  }
  write_workers(report.workers, out.initWorkers(count_of(report.workers.size())));
}

void write(const WorkerBody& body, schema::WorkerCall::Builder out) {
  out.setMethod(body.method);
  out.setBody(data_of(body.body));
}

void write(const Ask& ask, schema::ControlFrame::Builder out) {
  auto group = out.initAsk();
  group.setId(ask.id);
  group.setActor(name_of(ask.actor));
  group.setMethod(ask.method);
  group.setDeadlineMs(ask.deadline_ms);
  group.setBody(data_of(ask.body));
}
void write(const Answer& answer, schema::ControlFrame::Builder out) {
  auto group = out.initAnswer();
  group.setId(answer.id);
  group.setBody(data_of(answer.body));
}
void write(const Failed& failed, schema::ControlFrame::Builder out) {
  auto group = out.initFailed();
  group.setId(failed.id);
  group.setModule(text_of(failed.error.module.substr(0, name_bytes_max)));
  group.setCode(failed.error.code);
  group.setMessage(text_of(label(failed.error.message, error_message_bytes_max)));
  group.setFromActor(failed.from_actor);
}
void write(const Cancel& cancel, schema::ControlFrame::Builder out) { out.setCancel(cancel.id); }
void write(const Down& down, schema::ControlFrame::Builder out) {
  auto group = out.initDown();
  group.setActor(name_of(down.actor));
  group.setWhy(text_of(label(down.why, error_message_bytes_max)));
}
void write(const Workers& workers, schema::ControlFrame::Builder out) {
  at_most(workers.workers.size(), workers_max, "workers");
  auto group = out.initWorkers();
  group.setVersion(workers.version);
  write_workers(workers.workers, group.initWorkers(count_of(workers.workers.size())));
}

void write(const Told& told, schema::ControlFrame::Builder out) {
  at_most(told.deliveries.size(), told_max, "deliveries");
  write_names(told.deliveries, out.initTold(count_of(told.deliveries.size())));
}
void write(const SpendBatch& batch, schema::ControlFrame::Builder out) { write(batch, out.initSpend()); }

// Most messages fit the first segment, which then costs no allocation.
constexpr std::size_t scratch_words = 128;

template <class Root, class Write>
Result<FramePtr> encode_with(Write write) {
  return without_exceptions<FramePtr>([&write]() -> Result<FramePtr> {
    capnp::word scratch[scratch_words];
    std::memset(scratch, 0, sizeof scratch);
    capnp::MallocMessageBuilder builder(kj::arrayPtr(scratch, scratch_words));
    write(builder.initRoot<Root>());
    const std::size_t size_bytes = capnp::computeSerializedSizeInWords(builder) * sizeof(capnp::word);
    at_most(size_bytes, frame_bytes_max, "bytes of a frame");
    auto frame = std::make_shared<Frame>(size_bytes);
    const auto out = frame->writable();
    kj::ArrayOutputStream stream(kj::arrayPtr(reinterpret_cast<kj::byte*>(out.data()), out.size()));
    capnp::writeMessage(stream, builder);
    return frame;
  });
}

// ---- Cap'n Proto to plain

FramePtr read_body(capnp::Data::Reader data) {
  at_most(data.size(), body_bytes_max, "bytes of a body");
  return Frame::copy_of({reinterpret_cast<const std::byte*>(data.begin()), data.size()});
}

template <class List>
std::vector<std::string> read_names(List list, std::size_t count_max, const char* what) {
  at_most(list.size(), count_max, what);
  std::vector<std::string> names;
  names.reserve(list.size());
  for (const auto name : list) names.push_back(read_name(name));
  return names;
}

WorkerDescription read(schema::Worker::Reader in) {
  return {read_name(in.getName()), read_name(in.getDevice()), in.getMemoryBytes(),
          read_names(in.getCapabilities(), capabilities_max, "capabilities of a worker")};
}

template <class List>
std::vector<WorkerDescription> read_workers(List list) {
  at_most(list.size(), workers_max, "workers");
  std::vector<WorkerDescription> workers;
  workers.reserve(list.size());
  for (const auto worker : list) workers.push_back(read(worker));
  return workers;
}

NodeReport read(schema::NodeReport::Reader in) {
  NodeReport report;
  report.name = read_name(in.getName());
  report.roles = read_names(in.getRoles(), roles_max, "roles");
  for (std::size_t i = 0; i < 8; ++i) {
    report.incarnation.bytes[i] = static_cast<std::uint8_t>(in.getIncarnationHigh() >> (56 - 8 * i));
    report.incarnation.bytes[i + 8] = static_cast<std::uint8_t>(in.getIncarnationLow() >> (56 - 8 * i));
  }
  report.software = read_name(in.getSoftware());
  report.draining = in.getDraining();
  report.requests_in_flight = in.getRequestsInFlight();
  const auto shards = in.getShards();
  at_most(shards.size(), shards_max, "shards");
  report.shards.reserve(shards.size());
  for (const auto shard : shards) {
    report.shards.push_back({shard.getShard(), shard.getOwned(), shard.getAppliedIndex(), shard.getLagEntries()});
  }
  report.workers = read_workers(in.getWorkers());
  return report;
}

WorkerBody read(schema::WorkerCall::Reader in) { return {in.getMethod(), read_body(in.getBody())}; }

Message read(schema::ControlFrame::Reader in) {
  switch (in.which()) {
    case schema::ControlFrame::ASK: {
      const auto group = in.getAsk();
      return Ask{group.getId(), read_name(group.getActor()), group.getMethod(), group.getDeadlineMs(),
                 read_body(group.getBody())};
    }
    case schema::ControlFrame::ANSWER:
      return Answer{in.getAnswer().getId(), read_body(in.getAnswer().getBody())};
    case schema::ControlFrame::FAILED: {
      const auto group = in.getFailed();
      const std::string module = read_name(group.getModule());
      return Failed{group.getId(),
                    {known_module(module), group.getCode(),
                     string_of(group.getMessage(), error_message_bytes_max, "bytes of an error")},
                    group.getFromActor()};
    }
    case schema::ControlFrame::CANCEL:
      return Cancel{in.getCancel()};
    case schema::ControlFrame::DOWN:
      return Down{read_name(in.getDown().getActor()),
                  string_of(in.getDown().getWhy(), error_message_bytes_max, "bytes of a reason")};
    case schema::ControlFrame::WORKERS:
      return Workers{in.getWorkers().getVersion(), read_workers(in.getWorkers().getWorkers())};
    case schema::ControlFrame::SPEND:
      return read_spend(in.getSpend());
    case schema::ControlFrame::TOLD:
      return Told{read_names(in.getTold(), told_max, "deliveries")};
  }
  throw Refused{FrameError::unknown_kind, "a kind of message that this node does not know"};
}

// Amplification is bounded as in link_codec.cpp: by the counts above and by the traversal limit.
template <class Root, class T>
Result<T> decode_with(std::span<const std::byte> bytes) {
  if (bytes.size() > frame_bytes_max) return fail(FrameError::too_large, "the frame is over the limit");
  const AlignedBytes aligned(bytes);
  return without_exceptions<T>([&aligned]() -> Result<T> {
    capnp::ReaderOptions options;
    options.traversalLimitInWords = 2 * aligned.word_count() + 64;
    options.nestingLimit = 8;
    capnp::FlatArrayMessageReader reader(
        kj::arrayPtr(reinterpret_cast<const capnp::word*>(aligned.data()), aligned.word_count()), options);
    return read(reader.getRoot<Root>());
  });
}

}  // namespace

// Modules that this node knows. An error keeps its module as a text of static storage, so others cannot be kept.
std::string_view known_module(std::string_view name) {
  static constexpr std::string_view known[] = {
      "actors", "agreement", "breaker", "budget", "calendar", "command", "config", "daemon", "dialect", "distill",
      "frame", "gpu", "http", "labels", "ledger", "ledger_codec", "link", "money", "nodes", "report", "request",
      "routing", "scope", "secrets", "signing", "tenant"};
  const auto found = std::find(std::begin(known), std::end(known), name);
  return found == std::end(known) ? std::string_view("remote") : *found;
}

Result<FramePtr> encode(const Message& message) {
  return encode_with<schema::ControlFrame>([&message](schema::ControlFrame::Builder out) {
    std::visit([&out](const auto& kind) { write(kind, out); }, message);
  });
}

Result<Message> decode(std::span<const std::byte> bytes) { return decode_with<schema::ControlFrame, Message>(bytes); }

Result<FramePtr> encode_body(const NodeReport& report) {
  return encode_with<schema::NodeReport>([&report](schema::NodeReport::Builder out) { write(report, out); });
}
Result<FramePtr> encode_body(const WorkerDescription& worker) {
  return encode_with<schema::Worker>([&worker](schema::Worker::Builder out) { write(worker, out); });
}
Result<FramePtr> encode_body(const WorkerBody& body) {
  return encode_with<schema::WorkerCall>([&body](schema::WorkerCall::Builder out) { write(body, out); });
}

Result<NodeReport> decode_node_report(std::span<const std::byte> bytes) {
  return decode_with<schema::NodeReport, NodeReport>(bytes);
}
Result<WorkerDescription> decode_worker(std::span<const std::byte> bytes) {
  return decode_with<schema::Worker, WorkerDescription>(bytes);
}
Result<WorkerBody> decode_worker_body(std::span<const std::byte> bytes) {
  return decode_with<schema::WorkerCall, WorkerBody>(bytes);
}

}  // namespace outlast::ask
