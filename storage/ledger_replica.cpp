// The part of LedgerWriter that has to do with clusters: what a replica takes over, and what changes
// when its node becomes the owner.
#include "core/check.hpp"
#include "storage/ledger_writer.hpp"

namespace outlast::storage {
namespace {

Failure bad_entry(std::uint64_t index, const std::string& what) {
  return fail(LedgerError::corrupt, "entry " + std::to_string(index) + " of the shared log " + what);
}

// What only the process that writes the ledger may say.
template <class Body>
constexpr bool of_writer = std::is_same_v<Body, proto::IncarnationStarted> ||
                           std::is_same_v<Body, proto::OwnerStarted>;

}  // namespace

Result<std::unique_ptr<LedgerWriter>> LedgerWriter::open_replica(Log& log, const Clock& clock) {
  return recovered(log, clock, Role::replica);
}

Result<void> LedgerWriter::follow(std::uint64_t first_index, std::string_view records) {
  check(role_ == Role::replica, "the owner of a shard follows nobody");
  const std::uint64_t next = head_.next_index;
  if (first_index > next)
    return bad_entry(next, "is missing: what came begins at " + std::to_string(first_index));
  if (first_index < next) {
    if (const Result<void> same = compare_known(first_index, records); !same) return same;
  }
  Result<void> followed;
  const Result<void> parsed =
      parse_batch({first_index, records}, [this, next, &followed](const LogRecord& record) {
        if (record.index >= next) followed = follow(record);
        return followed.has_value();
      });
  if (!parsed) return parsed;
  if (!followed) return followed;
  return commit();
}

// The entries of a batch that are here already have to be the same: both are the shared log's.
Result<void> LedgerWriter::compare_known(std::uint64_t first_index,
                                         std::string_view records) const {
  std::size_t known_bytes = 0;
  const Result<void> parsed =
      parse_batch({first_index, records}, [this, &known_bytes](const LogRecord& record) {
        if (record.index >= head_.next_index) return false;
        known_bytes += record.record.size();
        return true;
      });
  if (!parsed) return parsed;
  std::string_view rest = records.substr(0, known_bytes);
  std::uint64_t index = first_index;
  const Result<void> read =
      log_.read(first_index, [&rest, &index](const LogRecord& record) {
        if (rest.empty() || record.index != index || !rest.starts_with(record.record)) return false;
        rest.remove_prefix(record.record.size());
        ++index;
        return true;
      });
  if (!read) return read;
  return rest.empty() ? Result<void>() : bad_entry(index, "is not the one that is stored here");
}

Result<void> LedgerWriter::follow(const LogRecord& record) {
  if (record.prev_hash != head_.hash)
    return bad_entry(record.index, "does not continue the chain of those before it");
  const Result<proto::LedgerEntry> entry = proto::decode_ledger_entry(record.frame);
  if (!entry) return bad_entry(record.index, "cannot be read: " + entry.error().message);
  const proto::EntryHeader& header = entry->header;
  if (header.index != record.index)
    return bad_entry(record.index, "says that it is entry " + std::to_string(header.index));
  if (header.time_ms < entry_time_ms_)
    return bad_entry(record.index, "is stamped earlier than the entry before");
  const bool another_owner = std::holds_alternative<proto::OwnerStarted>(entry->body);
  if (another_owner ? header.epoch < head_.epoch : header.epoch != head_.epoch)
    return bad_entry(record.index, "is of epoch " + std::to_string(header.epoch) + " after " +
                                       std::to_string(head_.epoch));
  const Result<Applied> applied = state_.apply(*entry);
  if (!applied) return fail(applied.error());
  if (applied->outcome != Outcome::applied) {
    return bad_entry(record.index, "is not allowed after those before it (ledger error " +
                                       std::to_string(static_cast<int>(applied->error)) + ")");
  }
  records_.append(record.record);
  head_.epoch = header.epoch;
  head_.hash = entry_hash(record.prev_hash, record.frame);
  head_.time_ms = entry_time_ms_ = header.time_ms;
  ++head_.next_index;
  return {};
}

Result<void> LedgerWriter::lead(std::uint64_t epoch, const proto::OwnerStarted& who) {
  check(role_ == Role::replica, "a replica becomes the owner");
  if (epoch < head_.epoch) {
    return fail(LedgerError::fenced, "the ledger has entries of epoch " +
                                         std::to_string(head_.epoch) + ", later than " +
                                         std::to_string(epoch));
  }
  role_ = Role::owner;
  head_.epoch = epoch;
  const Result<Applied> started = add(who);
  if (!started) return fail(started.error());
  if (started->outcome != Outcome::applied)
    return fail(LedgerError::invalid, "an owner has an incarnation, and names of at most 1,024 bytes");
  roll_periods();
  return commit();
}

void LedgerWriter::resign() {
  check(role_ == Role::owner, "the owner of a shard hands it over");
  check(pending_entries() == 0, "an owner hands over what is durable");
  batch_timed_ = false;
  head_.time_ms = entry_time_ms_;
  role_ = Role::replica;
}

Result<Applied> LedgerWriter::end_holder(const Incarnation& holder, bool spent, std::string why) {
  const std::vector<Settlement> in_doubt = state_.in_doubt(holder);
  for (const Settlement& settlement : in_doubt) {
    const Result<Applied> settled = add(settlement);
    if (!settled) return settled;
    check(settled->outcome == Outcome::applied, "a reservation in doubt can be settled");
    if (pending_bytes() < end_holder_batch_bytes) continue;
    if (const Result<void> committed = commit(); !committed) return fail(committed.error());
  }
  in_doubt_settled_ += in_doubt.size();
  return add(proto::HolderEnded{holder, spent, std::move(why)});
}

Result<Applied> LedgerWriter::add(const proto::EntryBody& body) {
  return std::visit(
      [this]<class Body>(const Body& concrete) -> Result<Applied> {
        if constexpr (of_writer<Body>) {
          return Applied{Outcome::refused, LedgerError::invalid, {}};
        } else if constexpr (std::is_same_v<Body, proto::Settled>) {
          return add(concrete.settlement);
        } else if constexpr (std::is_same_v<Body, proto::Voided>) {
          return add(concrete.reservation);
        } else if constexpr (std::is_same_v<Body, proto::KeyCreated>) {
          return add(concrete.key);
        } else {
          return add(concrete);
        }
      },
      body);
}

}  // namespace outlast::storage
