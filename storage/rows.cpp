#include "storage/rows.hpp"

#include <cstring>

#include "storage/row_codec.hpp"

namespace outlast::storage {
namespace {

constexpr std::int64_t not_revoked = -1;
// Bits beside the one that says whether the price is known: what it holds follows (rows of 0.1 lack
// both), the caller's tags and session follow the route, and the holder follows those.
constexpr std::uint8_t open_row_extended = 2;
constexpr std::uint8_t open_row_labelled = 4;
constexpr std::uint8_t open_row_held = 8;

void put_attempts(std::string& out, const std::vector<AttemptRef>& attempts) {
  for (const AttemptRef& attempt : attempts) {
    put(out, attempt.number);
    put(out, attempt.index);
  }
}

RowReader& take_attempts(RowReader& reader, std::vector<AttemptRef>& attempts) {
  attempts.clear();
  while (reader.more()) {
    AttemptRef attempt;
    reader.take(attempt.number).take(attempt.index);
    attempts.push_back(attempt);
  }
  return reader;
}

template <class T>
void put_big_endian(std::string& out, T value) {
  for (std::size_t i = sizeof(T); i-- > 0;) out += static_cast<char>(value >> (8 * i));
}

template <class T>
T take_big_endian(std::string_view bytes) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i)
    value = static_cast<T>(value << 8 | static_cast<std::uint8_t>(bytes[i]));
  return value;
}

}  // namespace

void encode(std::string& out, const HeadRow& row) {
  put(out, ledger_format);
  put(out, row.epoch);
  put(out, row.next_index);
  put(out, row.hash);
  put(out, row.time_ms);
  put(out, row.rows_from);
  put(out, row.replay_from);
  put(out, row.max_ended_id.bytes);
}

bool decode(std::string_view bytes, HeadRow& row) {
  std::uint32_t format = 0;
  RowReader reader(bytes);
  reader.take(format).take(row.epoch).take(row.next_index).take(row.hash).take(row.time_ms);
  reader.take(row.rows_from).take(row.replay_from).take(row.max_ended_id.bytes);
  return reader.done() && format == ledger_format && row.replay_from <= row.rows_from &&
         row.rows_from <= row.next_index;
}

std::string tenant_balance_key(const TenantPath& tenant) {
  return std::string{balance_prefix, 't'} + tenant.to_string();
}
std::string provider_balance_key(std::string_view provider) {
  return std::string{balance_prefix, 'p'} + std::string(provider);
}

void encode(std::string& out, const BalanceRow& row) {
  put(out, row.held.value);
  put(out, row.used.value);
  put(out, row.overrun.value);
}

bool decode(std::string_view bytes, BalanceRow& row) {
  return RowReader(bytes).take(row.held.value).take(row.used.value).take(row.overrun.value).done();
}

std::string_view dedup_key(const RequestId& id) {
  return {reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size()};
}

void encode(std::string& out, const DedupRow& row) {
  put(out, row.reserve_index);
  put(out, row.end_index);
  put_attempts(out, row.attempts);
}

bool decode(std::string_view bytes, DedupRow& row) {
  RowReader reader(bytes);
  reader.take(row.reserve_index).take(row.end_index);
  return take_attempts(reader, row.attempts).done();
}

namespace {

bool take_holds(RowReader& reader, OpenRow& row) {
  std::uint16_t count = 0;
  reader.take(count);
  for (; count > 0 && reader.more(); --count) {
    AttemptRef extension;
    reader.take(extension.number).take(extension.index);
    row.extensions.push_back(extension);
  }
  if (count > 0) return false;
  reader.take(count);
  for (; count > 0 && reader.more(); --count) {
    OpenRow::BudgetHold& hold = row.budgets.emplace_back();
    reader.take_text(hold.budget).take(hold.from_slice.value).take(hold.charged.value);
  }
  if (count > 0) return false;
  reader.take(count);
  for (; count > 0 && reader.more(); --count) {
    OpenRow::CommitmentHold& hold = row.commitments.emplace_back();
    reader.take_text(hold.commitment).take(hold.units);
  }
  return count == 0;
}

}  // namespace

std::string open_key(const RequestId& id) { return prefixed(open_prefix, dedup_key(id)); }

void encode(std::string& out, const OpenRow& row) {
  const Reservation& reservation = row.reservation;
  put(out, row.reserve_index);
  put(out, reservation.amount.value);
  const bool labelled = !reservation.tags.empty() || !reservation.session.empty();
  const bool held = !reservation.holder.is_nil();
  put(out, static_cast<std::uint8_t>(open_row_extended | (labelled ? open_row_labelled : 0) |
                                     (held ? open_row_held : 0) |
                                     (reservation.price_known ? 1 : 0)));
  put(out, reservation.input_tokens_max);
  put(out, reservation.output_tokens_max);
  put_text(out, reservation.tenant.organisation);
  put_text(out, reservation.tenant.team);
  put_text(out, reservation.tenant.user);
  put_text(out, reservation.key_id);
  put_text(out, reservation.route);
  if (labelled) {
    put(out, static_cast<std::uint8_t>(reservation.tags.size()));
    for (const std::string& tag : reservation.tags) put_text(out, tag);
    put_text(out, reservation.session);
  }
  if (held) put(out, reservation.holder.bytes);
  put(out, row.attempts_cost.value);
  put(out, static_cast<std::uint16_t>(row.extensions.size()));
  put_attempts(out, row.extensions);
  put(out, static_cast<std::uint16_t>(row.budgets.size()));
  for (const OpenRow::BudgetHold& hold : row.budgets) {
    put_text(out, hold.budget);
    put(out, hold.from_slice.value);
    put(out, hold.charged.value);
  }
  put(out, static_cast<std::uint16_t>(row.commitments.size()));
  for (const OpenRow::CommitmentHold& hold : row.commitments) {
    put_text(out, hold.commitment);
    put(out, hold.units);
  }
  put_attempts(out, row.attempts);
}

bool decode(std::string_view key, std::string_view bytes, OpenRow& row) {
  Reservation& reservation = row.reservation;
  if (key.size() != 1 + sizeof(reservation.request_id.bytes)) return false;
  std::memcpy(reservation.request_id.bytes.data(), key.data() + 1,
              sizeof(reservation.request_id.bytes));
  std::uint8_t flags = 0;
  RowReader reader(bytes);
  reader.take(row.reserve_index).take(reservation.amount.value).take(flags);
  reader.take(reservation.input_tokens_max).take(reservation.output_tokens_max);
  reader.take_text(reservation.tenant.organisation)
      .take_text(reservation.tenant.team)
      .take_text(reservation.tenant.user);
  reader.take_text(reservation.key_id).take_text(reservation.route);
  reservation.tags.clear();
  reservation.session.clear();
  if ((flags & open_row_labelled) != 0) {
    std::uint8_t tags = 0;
    reader.take(tags);
    reservation.tags.resize(tags);
    for (std::string& tag : reservation.tags) reader.take_text(tag);
    reader.take_text(reservation.session);
  }
  reservation.holder = {};
  if ((flags & open_row_held) != 0) reader.take(reservation.holder.bytes);
  reader.take(row.attempts_cost.value);
  reservation.price_known = (flags & 1) != 0;
  if ((flags & open_row_extended) != 0 && !take_holds(reader, row)) return false;
  return take_attempts(reader, row.attempts).done() &&
         flags <= (open_row_held | open_row_labelled | open_row_extended | 1);
}

std::string key_key(std::string_view id) { return prefixed(key_prefix, id); }

void encode(std::string& out, const VirtualKey& row) {
  put_text(out, row.id);
  put_text(out, row.tenant.organisation);
  put_text(out, row.tenant.team);
  put_text(out, row.tenant.user);
  put_text(out, row.name);
  put(out, row.hash);
  put(out, row.created_ms);
  put(out, row.revoked_ms.value_or(not_revoked));
}

bool decode(std::string_view bytes, VirtualKey& row) {
  std::int64_t revoked_ms = not_revoked;
  RowReader reader(bytes);
  reader.take_text(row.id)
      .take_text(row.tenant.organisation)
      .take_text(row.tenant.team)
      .take_text(row.tenant.user);
  reader.take_text(row.name).take(row.hash).take(row.created_ms).take(revoked_ms);
  row.revoked_ms.reset();
  if (revoked_ms != not_revoked) row.revoked_ms = revoked_ms;
  return reader.done();
}

std::string prices_key(std::string_view version) { return prefixed(prices_prefix, version); }
void encode_index(std::string& out, std::uint64_t index) { put(out, index); }
bool decode_index(std::string_view bytes, std::uint64_t& index) {
  return RowReader(bytes).take(index).done();
}

void encode(std::string& out, const RollupKey& key) {
  put_big_endian(out, key.hour);
  for (const std::string_view text : {key.organisation, key.team, key.user, key.key_id, key.route,
                                      key.model, key.provider, key.deployment}) {
    put_text(out, text);
  }
  put(out, key.status);
}

bool decode(std::string_view bytes, RollupKey& key) {
  if (bytes.size() < sizeof(key.hour)) return false;
  key.hour = take_big_endian<std::uint32_t>(bytes);
  RowReader reader(bytes.substr(sizeof(key.hour)));
  for (std::string_view* text : {&key.organisation, &key.team, &key.user, &key.key_id, &key.route,
                                 &key.model, &key.provider, &key.deployment}) {
    reader.take_text(*text);
  }
  return reader.take(key.status).done();
}

std::string rollup_hour_key(std::uint32_t hour) {
  std::string key;
  put_big_endian(key, hour);
  return key;
}

std::string big_endian_key(std::uint64_t index) {
  std::string key;
  put_big_endian(key, index);
  return key;
}

bool decode_big_endian_key(std::string_view bytes, std::uint64_t& index) {
  if (bytes.size() != sizeof(index)) return false;
  index = take_big_endian<std::uint64_t>(bytes);
  return true;
}

}  // namespace outlast::storage
