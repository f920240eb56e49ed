#include "storage/money_rows.hpp"

#include <algorithm>

#include "storage/row_codec.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {

namespace {

// Only where it is so, as the last byte: older versions wrote no more, and read no more.
void put_away(std::string& out, bool away) {
  if (away) put(out, std::uint8_t{1});
}

// False for what put_away() does not write.
bool take_away(RowReader& reader, bool& away) {
  std::uint8_t byte = 1;
  away = reader.more();
  if (away) reader.take(byte);
  return byte == 1;
}

}  // namespace

std::string budget_key(std::string_view id) { return prefixed(budget_prefix, id); }

void encode(std::string& out, const BudgetStatus& row) {
  const Budget& budget = row.budget;
  put_text(out, budget.name);
  put(out, budget.scope.kind);
  put_text(out, budget.scope.value);
  put(out, budget.amount.value);
  put(out, budget.period);
  put_text(out, budget.time_zone);
  put(out, static_cast<std::uint8_t>(budget.soft));
  put(out, row.used.value);
  put(out, row.held.value);
  put(out, row.sliced.value);
  put(out, row.period_start_ms);
  put(out, row.period_end_ms);
  put_away(out, row.away);
}

bool decode(std::string_view key, std::string_view bytes, BudgetStatus& row) {
  if (key.size() < 2) return false;
  Budget& budget = row.budget;
  budget.id = key.substr(1);
  std::uint8_t scope = 0;
  std::uint8_t period = 0;
  std::uint8_t soft = 0;
  RowReader reader(bytes);
  reader.take_text(budget.name).take(scope).take_text(budget.scope.value);
  reader.take(budget.amount.value).take(period).take_text(budget.time_zone).take(soft);
  reader.take(row.used.value).take(row.held.value).take(row.sliced.value);
  reader.take(row.period_start_ms).take(row.period_end_ms);
  if (!take_away(reader, row.away)) return false;
  if (scope >= std::size(scope_kind_names) || period >= std::size(budget_period_names) || soft > 1)
    return false;
  budget.scope.kind = static_cast<ScopeKind>(scope);
  budget.period = static_cast<BudgetPeriod>(period);
  budget.soft = soft != 0;
  return reader.done();
}

namespace {

std::string_view bytes_of(const Uuid& id) {
  return {reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size()};
}

// The id after the prefix of a row's key, which has at least `size` bytes.
bool take_holder(std::string_view key, std::size_t size, Incarnation& holder) {
  if (key.size() < size) return false;
  std::copy_n(key.begin() + 1, holder.bytes.size(), holder.bytes.begin());
  return true;
}
constexpr std::size_t holder_key_bytes = 1 + sizeof(Uuid);

}  // namespace

std::string slice_key(const Incarnation& holder, std::string_view budget) {
  return prefixed(slice_prefix, bytes_of(holder)).append(budget);
}

void encode(std::string& out, const SliceRow& row) {
  put(out, row.left.value);
  put(out, row.granted.value);
  put(out, row.returned.value);
  put(out, row.opened);
}

bool decode(std::string_view key, std::string_view bytes, SliceRow& row) {
  if (!take_holder(key, holder_key_bytes + 1, row.holder)) return false;
  row.budget = key.substr(holder_key_bytes);
  RowReader reader(bytes);
  reader.take(row.left.value).take(row.granted.value).take(row.returned.value).take(row.opened);
  return reader.done() && row.left.value >= 0;
}

std::string allotment_key(const AllotmentRow& row) {
  std::string key{allotment_prefix, row.commitment ? commitment_prefix : budget_prefix};
  key += static_cast<char>(row.shard >> 8);
  key += static_cast<char>(row.shard & 0xff);
  return key.append(row.subject);
}

void encode(std::string& out, const AllotmentRow& row) {
  put(out, row.allotment.granted);
  put(out, row.allotment.returned);
  put(out, row.allotment.opened);
}

bool decode(std::string_view key, std::string_view bytes, AllotmentRow& row) {
  constexpr std::size_t subject_at = 4;
  if (key.size() <= subject_at || (key[1] != budget_prefix && key[1] != commitment_prefix)) return false;
  row.commitment = key[1] == commitment_prefix;
  row.shard = static_cast<std::uint16_t>(static_cast<std::uint8_t>(key[2]) << 8 | static_cast<std::uint8_t>(key[3]));
  row.subject = key.substr(subject_at);
  RowReader reader(bytes);
  return reader.take(row.allotment.granted).take(row.allotment.returned).take(row.allotment.opened).done();
}

std::string ended_holder_key(const Incarnation& holder) {
  return prefixed(ended_holder_prefix, bytes_of(holder));
}

void encode(std::string& out, const EndedHolderRow& row) { put(out, row.ended_ms); }

bool decode(std::string_view key, std::string_view bytes, EndedHolderRow& row) {
  return key.size() == holder_key_bytes && take_holder(key, holder_key_bytes, row.holder) &&
         RowReader(bytes).take(row.ended_ms).done();
}

std::string commitment_key(std::string_view id) { return prefixed(commitment_prefix, id); }

void encode(std::string& out, const CommitmentStatus& row) {
  const Commitment& commitment = row.commitment;
  put_text(out, commitment.provider);
  put(out, static_cast<std::uint16_t>(commitment.models.size()));
  for (const std::string& model : commitment.models) put_text(out, model);
  put(out, commitment.unit);
  put(out, commitment.units);
  put(out, commitment.price.value);
  put(out, commitment.from_ms);
  put(out, commitment.until_ms);
  put(out, static_cast<std::uint8_t>(commitment.rollover));
  put(out, row.used);
  put(out, row.held);
  put(out, row.amortised.value);
  put(out, row.list_cost.value);
  put(out, static_cast<std::uint8_t>(row.ended));
  put_away(out, row.away);
}

bool decode(std::string_view key, std::string_view bytes, CommitmentStatus& row) {
  if (key.size() < 2) return false;
  Commitment& commitment = row.commitment;
  commitment.id = key.substr(1);
  std::uint16_t models = 0;
  std::uint8_t unit = 0;
  std::uint8_t rollover = 0;
  std::uint8_t ended = 0;
  RowReader reader(bytes);
  reader.take_text(commitment.provider).take(models);
  commitment.models.clear();
  for (; models > 0 && reader.more(); --models) reader.take_text(commitment.models.emplace_back());
  reader.take(unit).take(commitment.units).take(commitment.price.value);
  reader.take(commitment.from_ms).take(commitment.until_ms).take(rollover);
  reader.take(row.used).take(row.held).take(row.amortised.value).take(row.list_cost.value);
  reader.take(ended);
  if (!take_away(reader, row.away)) return false;
  if (models > 0 || unit > static_cast<std::uint8_t>(CommitmentUnit::money) || rollover > 1 ||
      ended > 1) {
    return false;
  }
  commitment.unit = static_cast<CommitmentUnit>(unit);
  commitment.rollover = rollover != 0;
  row.ended = ended != 0;
  return reader.done();
}

std::string_view idempotency_key(const Digest& key) {
  return {reinterpret_cast<const char*>(key.data()), key.size()};
}

void encode(std::string& out, const IdempotencyRow& row) {
  put(out, row.request_id.bytes);
  put(out, row.parameters);
  put(out, row.reserve_index);
}

bool decode(std::string_view bytes, IdempotencyRow& row) {
  return RowReader(bytes)
      .take(row.request_id.bytes)
      .take(row.parameters)
      .take(row.reserve_index)
      .done();
}

}  // namespace outlast::storage
