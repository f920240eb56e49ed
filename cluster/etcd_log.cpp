#include "cluster/etcd_log.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/check.hpp"

namespace outlast::cluster {
namespace {

std::string ends_before(std::uint64_t end, std::uint64_t from) {
  return "it ends at " + std::to_string(end) + ", before entry " + std::to_string(from) +
         " that this node goes on from; was etcd restored from a backup?";
}

}  // namespace

EtcdLog::EtcdLog(EtcdClient& client, EtcdKeys keys, ShardId shard)
    : client_(client), keys_(std::move(keys)), shard_(shard) {}

Failure EtcdLog::corrupt(const std::string& what) const {
  return fail(AgreementError::corrupt, "etcd's log of " + name_of_shard(shard_) + " is damaged: " + what);
}

Failure EtcdLog::trimmed(std::uint64_t from, std::uint64_t begin) const {
  return fail(AgreementError::trimmed, name_of_shard(shard_) + " begins at " + std::to_string(begin) + "; entry " +
                                           std::to_string(from) + " is gone");
}

// A log without a tail ends at 0.
Result<std::uint64_t> EtcdLog::parse_tail(const EtcdRangeAnswer& answer) const {
  if (answer.rows.empty()) return 0;
  const std::string& text = answer.rows.front().value;
  std::uint64_t next_index = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), next_index);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size() || next_index == 0)
    return corrupt("its tail is not an index");
  return next_index;
}

Result<void> EtcdLog::append(std::uint64_t epoch, std::uint64_t next_index, const storage::LogBatch& batch) {
  check(epoch != 0 && batch.first_index < next_index, "a batch has an owner and entries");
  if (batch.records.size() > shared_batch_bytes_max) {
    return fail(AgreementError::too_large, "a batch of " + std::to_string(batch.records.size()) +
                                               " bytes is larger than a shared log takes");
  }
  const std::string owner = keys_.owner(shard_);
  const std::string tail = keys_.tail(shard_);
  const std::string next_text = std::to_string(next_index);
  codec_.encode(batch.first_index, next_index, epoch, batch.records, appended_);
  EtcdCompare at_tail{tail, EtcdCompare::What::create_revision, 0, {}};
  if (batch.first_index != 0) at_tail = {tail, EtcdCompare::What::value, 0, std::to_string(batch.first_index)};
  EtcdTxn txn;
  txn.compares = {{owner, EtcdCompare::What::create_revision, epoch, {}}, std::move(at_tail)};
  txn.success = {EtcdPut{keys_.batch(shard_, batch.first_index, next_index), appended_}, EtcdPut{tail, next_text}};
  txn.failure = {EtcdRange{owner}, EtcdRange{tail}};
  const Result<EtcdTxnAnswer> answer = client_.txn(txn, EtcdEffect::once);
  if (!answer) return fail(answer.error());
  if (answer->succeeded) return {};
  if (answer->ranges.size() != 2) return corrupt("an append was refused without a reason");
  const std::vector<EtcdRow>& owners = answer->ranges[0].rows;
  if (owners.empty() || owners.front().create_revision != epoch)
    return fail(AgreementError::fenced, name_of_shard(shard_) + " has another owner, or none");
  const Result<std::uint64_t> end = parse_tail(answer->ranges[1]);
  if (!end) return fail(end.error());
  return fail(AgreementError::conflict, name_of_shard(shard_) + " ends at " + std::to_string(*end) + " and not at " +
                                            std::to_string(batch.first_index));
}

Result<SharedTail> EtcdLog::tail() {
  const std::string log = keys_.log(shard_);
  const Result<EtcdTxnAnswer> answer =
      client_.read({EtcdRange{keys_.tail(shard_)}, EtcdRange{log, prefix_end(log), 1, true}});
  if (!answer) return fail(answer.error());
  if (answer->ranges.size() != 2) return corrupt("an answer is not what was asked for");
  const Result<std::uint64_t> next_index = parse_tail(answer->ranges[0]);
  if (!next_index) return fail(next_index.error());
  SharedTail tail{*next_index, *next_index};
  if (!answer->ranges[1].rows.empty()) {
    std::uint64_t oldest_next = 0;
    const std::string& key = answer->ranges[1].rows.front().key;
    if (!keys_.parse_batch_key(shard_, key, tail.first_index, oldest_next) || oldest_next > tail.next_index)
      return corrupt("a key is not one of a batch before its tail");
  }
  return tail;
}

Result<SharedBatch> EtcdLog::decode(const EtcdRow& row) {
  std::uint64_t first_index = 0;
  std::uint64_t next_index = 0;
  SharedBatch batch;
  if (!keys_.parse_batch_key(shard_, row.key, first_index, next_index)) return corrupt("a key is not one of a batch");
  if (!codec_.decode(row.value, batch) || batch.first_index != first_index || batch.next_index != next_index) {
    return corrupt("the batch from " + std::to_string(first_index) +
                   " cannot be read; if another version wrote it, run that one");
  }
  return batch;
}

Result<EtcdLog::Page> EtcdLog::read_page(std::uint64_t from) {
  while (true) {
    Result<EtcdTxnAnswer> answer = client_.read({EtcdRange{keys_.batches_from(shard_, from),
                                                           prefix_end(keys_.log(shard_)), page_batches_},
                                                 EtcdRange{keys_.tail(shard_)}});
    if (!answer && is(answer.error(), AgreementError::too_large) && page_batches_ > 1) {
      page_batches_ /= 2;
      continue;
    }
    if (!answer) return fail(std::move(answer.error()));
    if (answer->ranges.size() != 2) return corrupt("an answer is not what was asked for");
    const Result<std::uint64_t> next_index = parse_tail(answer->ranges[1]);
    if (!next_index) return fail(next_index.error());
    Page page{std::move(answer->ranges[0].rows), *next_index};
    std::size_t bytes = 0;
    for (const EtcdRow& row : page.rows) bytes += row.value.size();
    if (bytes < page_bytes_aim / 2) page_batches_ = std::min(2 * page_batches_, page_batches_max);
    else if (bytes > page_bytes_aim) page_batches_ = std::max<std::uint64_t>(page_batches_ / 2, 1);
    return page;
  }
}

Result<void> EtcdLog::read(std::uint64_t from, const std::function<bool(const SharedBatch&)>& visit) {
  for (bool first_batch = true;;) {
    const Result<Page> page = read_page(from);
    if (!page) return fail(page.error());
    if (from > page->next_index) return corrupt(ends_before(page->next_index, from));
    bool first_row = true;
    for (const EtcdRow& row : page->rows) {
      const Result<SharedBatch> batch = decode(row);
      if (!batch) return fail(batch.error());
      // Trimming takes away the oldest ones, also between two pages.
      if (first_row && batch->first_index > from) return trimmed(from, batch->first_index);
      // The first batch holds `from`, and may begin before it.
      const bool fits = first_batch ? batch->next_index > from : batch->first_index == from;
      if (!fits || batch->next_index > page->next_index) return corrupt("batches overlap, or go beyond its tail");
      first_row = first_batch = false;
      from = batch->next_index;
      if (!visit(*batch)) return {};
    }
    if (from == page->next_index) return {};
    if (page->rows.empty()) return trimmed(from, page->next_index);
  }
}

Result<void> EtcdLog::trim(std::uint64_t below) {
  EtcdTxn txn;
  txn.success = {EtcdErase{keys_.log(shard_), keys_.batches_from(shard_, below)}};
  const Result<EtcdTxnAnswer> answer = client_.txn(txn, EtcdEffect::idempotent);
  if (!answer) return fail(answer.error());
  return {};
}

}  // namespace outlast::cluster
