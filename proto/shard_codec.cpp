#include "proto/shard_codec.hpp"

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "core/check.hpp"
#include "proto/shard.capnp.h"

namespace outlast::shard {
namespace {

// ---- plain to Cap'n Proto

capnp::Text::Reader text_of(const std::string& text) { return {text.c_str(), text.size()}; }

std::string cut(const std::string& text, std::size_t bytes_max) {
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

void write_amount(PicoUsd amount, schema::Amount::Builder out) {
  out.setHigh(static_cast<std::int64_t>(amount.value >> 64));
  out.setLow(static_cast<std::uint64_t>(amount.value));
}

unsigned count_of(std::size_t count, std::size_t count_max) {
  check(count <= count_max, "a message of a shard is within its limits", std::to_string(count));
  return static_cast<unsigned>(count);
}

void write(const Operation& operation, schema::Operation::Builder out) {
  if (const auto* entry = std::get_if<EntryOperation>(&operation)) {
    out.setEntry({reinterpret_cast<const kj::byte*>(entry->frame.data()), entry->frame.size()});
  } else if (const auto* back = std::get_if<SliceReturn>(&operation)) {
    auto to = out.initSliceReturn();
    to.setBudget(text_of(back->budget));
    to.setOpened(back->opened);
    write_amount(back->total, to.initTotal());
    to.setRecall(back->recall);
  } else {
    out.setSkipped();
  }
}

void write(const BudgetDemand& demand, schema::BudgetDemand::Builder out) {
  out.setBudget(text_of(demand.budget));
  out.setOpened(demand.opened);
  write_amount(demand.seen, out.initSeen());
  write_amount(demand.wanted, out.initWanted());
  write_amount(demand.left, out.initLeft());
}

void write(const Refusal& refusal, schema::Refusal::Builder out) {
  out.setSequence(refusal.sequence);
  out.setError(refusal.error);
  out.setMessage(text_of(cut(refusal.message, reason_bytes_max)));
  if (!refusal.shortfall) return;
  const BudgetShortfall& from = *refusal.shortfall;
  auto to = out.initShortfall();
  to.setBudget(text_of(from.budget_id));
  to.setName(text_of(cut(from.budget_name, budget_name_bytes_max)));
  write_amount(from.amount, to.initAmount());
  write_amount(from.left, to.initLeft());
  write_amount(from.needed, to.initNeeded());
  to.setPeriod(static_cast<std::uint8_t>(from.period));
  to.setResetsMs(from.resets_ms);
}

void write(const Grant& grant, schema::Grant::Builder out) {
  out.setBudget(text_of(grant.budget));
  out.setOpened(grant.opened);
  write_amount(grant.total, out.initTotal());
}

void write(const BudgetRecall& recall, schema::BudgetRecall::Builder out) {
  write(recall.grant, out.initGrant());
  write_amount(recall.keep, out.initKeep());
}

void write(const AllotmentAsk& ask, schema::AllotmentAsk::Builder out) {
  out.setSubject(text_of(ask.subject));
  out.setCommitment(ask.commitment);
  out.setOpened(ask.opened);
  write_amount({ask.granted}, out.initGranted());
  write_amount({ask.returned}, out.initReturned());
  out.setPeriodStartMs(ask.period_start_ms);
  write_amount({ask.needed}, out.initNeeded());
  out.setAsk(ask.ask);
  write_amount({ask.wanted}, out.initWanted());
  out.setRecall(ask.recall);
}

void write(const AllotmentTerm& term, schema::AllotmentTerm::Builder out) {
  out.setSubject(text_of(term.subject));
  out.setCommitment(term.commitment);
  out.setOpened(term.opened);
  write_amount({term.granted}, out.initGranted());
  write_amount({term.returned}, out.initReturned());
  out.setPeriodStartMs(term.period_start_ms);
  out.setAnswered(term.answered);
  out.setRecall(term.recall);
}

template <class Items, class Builder>
void write_list(const Items& items, Builder out) {
  unsigned i = 0;
  for (const auto& item : items) write(item, out[i++]);
}

void write_body(const Operations& body, schema::ShardMessage::Builder out) {
  auto to = out.initOperations();
  write_id(body.holder, to.initHolder());
  to.setStream(body.stream);
  to.setBase(body.base);
  to.setFirst(body.first);
  to.setConfirmed(body.confirmed);
  to.setUrgent(body.urgent);
  write_list(body.operations, to.initOperations(count_of(body.operations.size(), operations_max)));
}

void write_body(const Demand& body, schema::ShardMessage::Builder out) {
  auto to = out.initDemand();
  write_id(body.holder, to.initHolder());
  write_list(body.budgets, to.initBudgets(count_of(body.budgets.size(), budgets_max)));
}

void write_body(const Acknowledgement& body, schema::ShardMessage::Builder out) {
  auto to = out.initAcknowledgement();
  write_id(body.holder, to.initHolder());
  to.setStream(body.stream);
  to.setNumber(body.number);
  to.setUpTo(body.up_to);
  to.setResendFrom(body.resend_from);
  auto waiting = to.initWaiting(count_of(body.waiting.size(), waiting_max));
  for (unsigned i = 0; i < waiting.size(); ++i) waiting.set(i, body.waiting[i]);
  write_list(body.refusals, to.initRefusals(count_of(body.refusals.size(), refusals_max)));
}

void write_body(const Grants& body, schema::ShardMessage::Builder out) {
  auto to = out.initGrants();
  write_id(body.holder, to.initHolder());
  write_list(body.grants, to.initGrants(count_of(body.grants.size(), budgets_max)));
}

void write_body(const Recall& body, schema::ShardMessage::Builder out) {
  auto to = out.initRecall();
  write_id(body.holder, to.initHolder());
  to.setNumber(body.number);
  write_list(body.budgets, to.initBudgets(count_of(body.budgets.size(), budgets_max)));
}

void write_body(const NotOwner& body, schema::ShardMessage::Builder out) {
  auto to = out.initNotOwner();
  write_id(body.holder, to.initHolder());
  to.setStream(body.stream);
  to.setNewestStream(body.newest_stream);
  to.setOwnerNode(text_of(cut(body.owner_node, node_name_bytes_max)));
  to.setOwnerEpoch(body.owner_epoch);
}

void write_body(const EndHolder& body, schema::ShardMessage::Builder out) {
  auto to = out.initEndHolder();
  write_id(body.holder, to.initHolder());
  to.setSpent(body.spent);
  to.setWhy(text_of(cut(body.why, reason_bytes_max)));
}

void write_body(const HolderEnded& body, schema::ShardMessage::Builder out) {
  write_id(body.holder, out.initHolderEnded());
}
void write_body(const Tail& body, schema::ShardMessage::Builder out) { out.setTail(body.next_index); }
void write_body(const ReplicaProgress& body, schema::ShardMessage::Builder out) { out.setProgress(body.applied); }

void write_body(const NodeProgress& body, schema::ShardMessage::Builder out) {
  check(body.shards.size() <= progress_max, "a node's progress is within its limit");
  auto to = out.initNodeProgress();
  write_id(body.incarnation, to.initIncarnation());
  auto shards = to.initShards(static_cast<unsigned>(body.shards.size()));
  for (unsigned i = 0; i < shards.size(); ++i) {
    shards[i].setShard(body.shards[i].shard);
    shards[i].setApplied(body.shards[i].applied);
    shards[i].setTakes(body.shards[i].takes);
  }
}

void write_body(const ShardFree&, schema::ShardMessage::Builder out) { out.setFree(); }

void write_body(const AllotmentDemand& body, schema::ShardMessage::Builder out) {
  auto to = out.initAllotmentDemand();
  to.setFrom(body.from);
  write_list(body.asks, to.initAsks(count_of(body.asks.size(), subjects_max)));
}

void write_body(const AllotmentTerms& body, schema::ShardMessage::Builder out) {
  auto to = out.initAllotmentTerms();
  to.setFrom(body.from);
  write_list(body.terms, to.initTerms(count_of(body.terms.size(), subjects_max)));
}

void write_body(const AppendedBatch& body, schema::ShardMessage::Builder out) {
  count_of(body.bytes.size(), batch_bytes_max);
  out.setBatch({reinterpret_cast<const kj::byte*>(body.bytes.data()), body.bytes.size()});
}

// ---- Cap'n Proto to plain

// Thrown by readers below, caught in decode(): a getter of Cap'n Proto throws as well, so one way out serves both.
struct Refused {
  FrameError code;
  const char* message;
};

std::string string_of(capnp::Text::Reader text, std::size_t bytes_max) {
  if (text.size() > bytes_max) throw Refused{FrameError::too_large, "a text is over its limit"};
  return {text.begin(), text.size()};
}

template <class List>
List bounded(List list, std::size_t count_max) {
  if (list.size() > count_max) throw Refused{FrameError::too_large, "a list is over its limit"};
  return list;
}

Uuid read_id(schema::Id::Reader in) {
  Uuid id;
  for (std::size_t i = 0; i < 8; ++i) {
    id.bytes[i] = static_cast<std::uint8_t>(in.getHigh() >> (56 - 8 * i));
    id.bytes[i + 8] = static_cast<std::uint8_t>(in.getLow() >> (56 - 8 * i));
  }
  return id;
}

// No sum of money that moves here is negative, and none comes near what would overflow when a few are added.
PicoUsd read_amount(schema::Amount::Reader in) {
  constexpr std::int64_t high_max = std::int64_t{1} << 56;
  if (in.getHigh() < 0 || in.getHigh() >= high_max) throw Refused{FrameError::malformed, "an amount is out of range"};
  return {static_cast<__int128>(in.getHigh()) << 64 | static_cast<__int128>(in.getLow())};
}

// Of a budget that is overdrawn, `left` is less than nothing.
PicoUsd read_signed(schema::Amount::Reader in) {
  return {static_cast<__int128>(static_cast<unsigned __int128>(static_cast<__int128>(in.getHigh())) << 64 | in.getLow())};
}

SliceReturn read_return(schema::SliceReturn::Reader in) {
  return {string_of(in.getBudget(), budget_id_bytes_max), in.getOpened(), read_amount(in.getTotal()), in.getRecall()};
}

Operation read_operation(schema::Operation::Reader in) {
  switch (in.which()) {
    case schema::Operation::SKIPPED:
      return SkippedOperation{};
    case schema::Operation::ENTRY: {
      const auto frame = in.getEntry();
      return EntryOperation{std::string(reinterpret_cast<const char*>(frame.begin()), frame.size())};
    }
    case schema::Operation::SLICE_RETURN:
      return read_return(in.getSliceReturn());
  }
  // One that cannot be understood cannot be left out: those after it may depend on it.
  throw Refused{FrameError::unknown_kind, "an operation of a kind that this node does not know"};
}

BudgetDemand read_demand(schema::BudgetDemand::Reader in) {
  return {string_of(in.getBudget(), budget_id_bytes_max), in.getOpened(), read_amount(in.getSeen()),
          read_amount(in.getWanted()), read_amount(in.getLeft())};
}

Refusal read_refusal(schema::Refusal::Reader in) {
  Refusal refusal{in.getSequence(), in.getError(), string_of(in.getMessage(), reason_bytes_max), std::nullopt};
  if (!in.hasShortfall()) return refusal;
  const auto from = in.getShortfall();
  if (from.getPeriod() >= std::size(budget_period_names))
    throw Refused{FrameError::malformed, "a period of a later version"};
  refusal.shortfall = BudgetShortfall{string_of(from.getBudget(), budget_id_bytes_max),
                                      string_of(from.getName(), budget_name_bytes_max),
                                      read_signed(from.getAmount()),
                                      read_signed(from.getLeft()),
                                      read_signed(from.getNeeded()),
                                      static_cast<BudgetPeriod>(from.getPeriod()),
                                      from.getResetsMs()};
  return refusal;
}

Grant read_grant(schema::Grant::Reader in) {
  return {string_of(in.getBudget(), budget_id_bytes_max), in.getOpened(), read_amount(in.getTotal())};
}

AllotmentAsk read_ask(schema::AllotmentAsk::Reader in) {
  return {string_of(in.getSubject(), subject_bytes_max), in.getCommitment(), in.getOpened(), read_amount(in.getGranted()).value,
          read_amount(in.getReturned()).value, in.getPeriodStartMs(), read_amount(in.getNeeded()).value, in.getAsk(),
          read_amount(in.getWanted()).value, in.getRecall()};
}

AllotmentTerm read_term(schema::AllotmentTerm::Reader in) {
  return {string_of(in.getSubject(), subject_bytes_max), in.getCommitment(), in.getOpened(), read_amount(in.getGranted()).value,
          read_amount(in.getReturned()).value, in.getPeriodStartMs(), in.getAnswered(), in.getRecall()};
}

template <class Item, class List, class Read>
std::vector<Item> read_list(List list, std::size_t count_max, const Read& read) {
  bounded(list, count_max);
  std::vector<Item> items;
  items.reserve(list.size());
  for (const auto item : list) items.push_back(read(item));
  return items;
}

Operations read_body(schema::ShardMessage::Operations::Reader in) {
  return {read_id(in.getHolder()), in.getStream(), in.getBase(), in.getFirst(), in.getConfirmed(), in.getUrgent(),
          read_list<Operation>(in.getOperations(), operations_max, read_operation)};
}

Acknowledgement read_body(schema::ShardMessage::Acknowledgement::Reader in) {
  Acknowledgement body{read_id(in.getHolder()), in.getStream(), in.getNumber(), in.getUpTo(), in.getResendFrom(), {}, {}};
  const auto waiting = bounded(in.getWaiting(), waiting_max);
  body.waiting.reserve(waiting.size());
  for (const std::uint64_t sequence : waiting) body.waiting.push_back(sequence);
  body.refusals = read_list<Refusal>(in.getRefusals(), refusals_max, read_refusal);
  return body;
}

Recall read_body(schema::ShardMessage::Recall::Reader in) {
  const auto read = [](schema::BudgetRecall::Reader from) {
    return BudgetRecall{read_grant(from.getGrant()), read_amount(from.getKeep())};
  };
  return {read_id(in.getHolder()), in.getNumber(), read_list<BudgetRecall>(in.getBudgets(), budgets_max, read)};
}

NotOwner read_body(schema::ShardMessage::NotOwner::Reader in) {
  return {read_id(in.getHolder()), in.getStream(), in.getNewestStream(),
          string_of(in.getOwnerNode(), node_name_bytes_max), in.getOwnerEpoch()};
}

Body read_body(schema::ShardMessage::Reader in) {
  switch (in.which()) {
    case schema::ShardMessage::OPERATIONS:
      return read_body(in.getOperations());
    case schema::ShardMessage::DEMAND:
      return Demand{read_id(in.getDemand().getHolder()),
                    read_list<BudgetDemand>(in.getDemand().getBudgets(), budgets_max, read_demand)};
    case schema::ShardMessage::ACKNOWLEDGEMENT:
      return read_body(in.getAcknowledgement());
    case schema::ShardMessage::GRANTS:
      return Grants{read_id(in.getGrants().getHolder()),
                    read_list<Grant>(in.getGrants().getGrants(), budgets_max, read_grant)};
    case schema::ShardMessage::RECALL:
      return read_body(in.getRecall());
    case schema::ShardMessage::NOT_OWNER:
      return read_body(in.getNotOwner());
    case schema::ShardMessage::END_HOLDER: {
      const auto from = in.getEndHolder();
      return EndHolder{read_id(from.getHolder()), from.getSpent(), string_of(from.getWhy(), reason_bytes_max)};
    }
    case schema::ShardMessage::HOLDER_ENDED:
      return HolderEnded{read_id(in.getHolderEnded())};
    case schema::ShardMessage::TAIL:
      return Tail{in.getTail()};
    case schema::ShardMessage::PROGRESS:
      return ReplicaProgress{in.getProgress()};
    case schema::ShardMessage::NODE_PROGRESS: {
      const auto from = in.getNodeProgress();
      const auto read_one = [](schema::ShardProgress::Reader one) {
        return ShardProgress{one.getShard(), one.getApplied(), one.getTakes()};
      };
      return NodeProgress{read_id(from.getIncarnation()), read_list<ShardProgress>(from.getShards(), progress_max, read_one)};
    }
    case schema::ShardMessage::FREE:
      return ShardFree{};
    case schema::ShardMessage::ALLOTMENT_DEMAND:
      return AllotmentDemand{in.getAllotmentDemand().getFrom(),
                             read_list<AllotmentAsk>(in.getAllotmentDemand().getAsks(), subjects_max, read_ask)};
    case schema::ShardMessage::ALLOTMENT_TERMS:
      return AllotmentTerms{in.getAllotmentTerms().getFrom(),
                            read_list<AllotmentTerm>(in.getAllotmentTerms().getTerms(), subjects_max, read_term)};
    case schema::ShardMessage::BATCH: {
      const auto bytes = bounded(in.getBatch(), batch_bytes_max);
      return AppendedBatch{std::string(reinterpret_cast<const char*>(bytes.begin()), bytes.size())};
    }
  }
  throw Refused{FrameError::unknown_kind, "a message of a kind that this node does not know"};
}

auto shortfall_of(const Refusal& refusal) {
  const BudgetShortfall of = refusal.shortfall.value_or(BudgetShortfall{});
  return std::tuple(of.budget_id, of.budget_name, of.amount, of.left, of.needed, of.period, of.resets_ms);
}

}  // namespace

bool Refusal::operator==(const Refusal& other) const {
  return sequence == other.sequence && error == other.error && message == other.message &&
         shortfall.has_value() == other.shortfall.has_value() && shortfall_of(*this) == shortfall_of(other);
}

FramePtr encode(const Message& message) {
  capnp::MallocMessageBuilder builder;
  const auto root = builder.initRoot<schema::ShardMessage>();
  auto out = root;
  out.setShard(message.shard);
  out.setEpoch(message.epoch);
  std::visit([&out](const auto& body) { write_body(body, out); }, message.body);
  const std::size_t size_bytes = capnp::computeSerializedSizeInWords(builder) * sizeof(capnp::word);
  check(size_bytes <= message_bytes_max, "a message of a shard fits a frame", std::to_string(size_bytes));
  auto frame = std::make_shared<Frame>(size_bytes);
  const auto bytes = frame->writable();
  kj::ArrayOutputStream stream(kj::arrayPtr(reinterpret_cast<kj::byte*>(bytes.data()), bytes.size()));
  capnp::writeMessage(stream, builder);
  return frame;
}

Result<Message> decode(std::span<const std::byte> bytes) {
  if (bytes.size() > message_bytes_max) return fail(FrameError::too_large, "a shard's message is over its limit");
  const AlignedBytes aligned(bytes);
  try {
    capnp::ReaderOptions options;
    options.traversalLimitInWords = 2 * aligned.word_count() + 64;
    options.nestingLimit = 16;
    capnp::FlatArrayMessageReader reader(
        kj::arrayPtr(reinterpret_cast<const capnp::word*>(aligned.data()), aligned.word_count()), options);
    const auto root = reader.getRoot<schema::ShardMessage>();
    return Message{root.getShard(), root.getEpoch(), read_body(root)};
  } catch (const Refused& refused) {
    return fail(refused.code, refused.message);
  } catch (const kj::Exception& exception) {
    return fail(FrameError::malformed, std::string("not a shard's message: ") + exception.getDescription().cStr());
  }
}

std::size_t size_of(const Operation& operation) {
  constexpr std::size_t fixed_bytes = 24;  // the pointer and the union's tag
  if (const auto* entry = std::get_if<EntryOperation>(&operation)) return fixed_bytes + entry->frame.size();
  return std::holds_alternative<SliceReturn>(operation) ? fixed_bytes + 128 : fixed_bytes;
}

}  // namespace outlast::shard
