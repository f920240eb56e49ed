#include "cluster/replicated_log.hpp"

#include <algorithm>
#include <utility>

#include "core/check.hpp"

namespace outlast::cluster {
namespace {

using storage::LedgerError;

Failure stops(LedgerError code, const std::string& why, const Error& cause) {
  return fail(code, why + ": " + cause.message);
}

}  // namespace

ReplicatedLog::ReplicatedLog(SharedLog& shared, storage::Log& local, ReplicatedLogHooks hooks)
    : shared_(shared), local_(local), hooks_(std::move(hooks)) {
  check(hooks_.may_go_on != nullptr, "a replicated log knows until when it may be written");
}

Result<void> ReplicatedLog::append(const storage::LogBatch& batch, const storage::TableChanges& changes) {
  if (leads() && !batch.records.empty()) {
    Result<void> shared = append_shared(batch);
    if (!shared) return shared;
  }
  return local_.append(batch, changes);
}

// In pieces that the shared log takes, cut between records: a recovery may bring more at once.
Result<void> ReplicatedLog::append_shared(const storage::LogBatch& batch) {
  storage::LogBatch piece{batch.first_index, batch.records.substr(0, 0)};
  std::uint64_t next_index = batch.first_index;
  Result<void> appended;
  const auto take = [this, &piece, &next_index, &appended](const storage::LogRecord& record) {
    if (!piece.records.empty() && piece.records.size() + record.record.size() > shared_batch_bytes_max) {
      appended = append_piece(piece, next_index);
      piece = {next_index, record.record.substr(0, 0)};
    }
    piece.records = std::string_view(piece.records.data(), piece.records.size() + record.record.size());
    next_index = record.index + 1;
    return appended.has_value();
  };
  Result<void> parsed = storage::parse_batch(batch, take);
  if (!parsed) return parsed;
  if (!appended) return appended;
  return append_piece(piece, next_index);
}

Result<void> ReplicatedLog::append_piece(const storage::LogBatch& piece, std::uint64_t next_index) {
  Result<void> appended = try_piece(piece, next_index);
  if (appended && hooks_.appended) hooks_.appended(shared_.last_append());
  return appended;
}

Result<void> ReplicatedLog::try_piece(const storage::LogBatch& piece, std::uint64_t next_index) {
  Error last = fail(LedgerError::unavailable, "the lease ran out before the first try").value();
  bool may_stand = false;  // by a try before, whose answer did not come
  std::uint32_t pause_ms = pause_ms_min;
  for (int i = 0; i < tries_max && hooks_.may_go_on(); ++i) {
    if (i > 0 && hooks_.pause) {
      hooks_.pause(pause_ms);
      pause_ms = std::min(2 * pause_ms, pause_ms_max);
      if (!hooks_.may_go_on()) break;
    }
    if (may_stand) {
      const Found found = look_for(piece, next_index);
      if (found == Found::ours) return {};
      if (found == Found::other) return stops(LedgerError::fenced, "the shared log goes on differently", last);
      if (found == Found::cannot_tell) continue;
    }
    Result<void> appended = shared_.append(epoch_, next_index, piece);
    if (appended) return {};
    last = std::move(appended.error());
    if (is(last, AgreementError::too_large)) return stops(LedgerError::invalid, "the batch cannot be shared", last);
    if (is(last, AgreementError::fenced))
      return stops(LedgerError::fenced, "this node does not own the shard any more", last);
    // A conflict may be with ourselves: a try that came late, or that was sent twice on its way.
    if (is(last, AgreementError::unknown) || is(last, AgreementError::conflict)) may_stand = true;
    else if (!is(last, AgreementError::unavailable))
      return stops(LedgerError::unavailable, "the shared log cannot be written", last);
  }
  return stops(LedgerError::unavailable, "whether the batch is in the shared log could not be learnt in time", last);
}

ReplicatedLog::Found ReplicatedLog::look_for(const storage::LogBatch& piece, std::uint64_t next_index) {
  const Result<SharedTail> tail = shared_.tail();
  if (!tail) return Found::cannot_tell;
  if (tail->next_index == piece.first_index) return Found::nothing;
  if (tail->next_index < next_index) return Found::other;
  Found found = Found::other;
  const Result<void> read = shared_.read(piece.first_index, [&](const SharedBatch& batch) {
    if (batch.first_index == piece.first_index && batch.next_index == next_index && batch.epoch == epoch_ &&
        batch.records == piece.records) {
      found = Found::ours;
    }
    return false;
  });
  if (!read && is(read.error(), AgreementError::unavailable)) return Found::cannot_tell;
  return found;
}

Result<bool> ReplicatedLog::get(storage::Table table, std::string_view key, std::string& value) const {
  return local_.get(table, key, value);
}

Result<void> ReplicatedLog::scan(storage::Table table, std::string_view from, std::string_view to,
                                 const std::function<bool(std::string_view, std::string_view)>& visit) const {
  return local_.scan(table, from, to, visit);
}

Result<void> ReplicatedLog::read(std::uint64_t from,
                                 const std::function<bool(const storage::LogRecord&)>& visit) const {
  return local_.read(from, visit);
}

std::unique_ptr<storage::LedgerView> ReplicatedLog::snapshot() const { return local_.snapshot(); }

}  // namespace outlast::cluster
