#include "storage/rows.hpp"

#include <bit>
#include <cstring>

#include "core/check.hpp"

namespace outlast::storage {
namespace {

constexpr std::int64_t not_revoked = -1;
constexpr std::uint8_t open_price_known = 1;
constexpr std::uint8_t open_labelled = 2;  // tags and a session follow the route

template <class T>
void put(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void put_text(std::string& out, std::string_view text) {
  check(text.size() <= UINT16_MAX, "a text of a row fits its length");
  put(out, static_cast<std::uint16_t>(text.size()));
  out.append(text);
}

void put_attempts(std::string& out, const std::vector<AttemptRef>& attempts) {
  for (const AttemptRef& attempt : attempts) {
    put(out, attempt.number);
    put(out, attempt.index);
  }
}

// Takes from the front; once something is missing, everything is.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  template <class T>
  Reader& take(T& value) {
    if (rest_.size() < sizeof(T)) return failed();
    std::memcpy(static_cast<void*>(&value), rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    return *this;
  }
  Reader& take_text(std::string_view& text) {
    std::uint16_t size = 0;
    take(size);
    if (rest_.size() < size) return failed();
    text = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return *this;
  }
  Reader& take_text(std::string& text) {
    std::string_view view;
    take_text(view);
    text.assign(view);
    return *this;
  }
  Reader& take_attempts(std::vector<AttemptRef>& attempts) {
    attempts.clear();
    while (ok_ && !rest_.empty()) {
      AttemptRef attempt;
      take(attempt.number).take(attempt.index);
      attempts.push_back(attempt);
    }
    return *this;
  }
  [[nodiscard]] bool done() const { return ok_ && rest_.empty(); }

 private:
  Reader& failed() {
    ok_ = false;
    rest_ = {};
    return *this;
  }
  std::string_view rest_;
  bool ok_ = true;
};

std::string prefixed(char prefix, std::string_view rest) {
  std::string key;
  key.reserve(1 + rest.size());
  key += prefix;
  key += rest;
  return key;
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
  Reader reader(bytes);
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
  return Reader(bytes).take(row.held.value).take(row.used.value).take(row.overrun.value).done();
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
  return Reader(bytes)
      .take(row.reserve_index)
      .take(row.end_index)
      .take_attempts(row.attempts)
      .done();
}

std::string open_key(const RequestId& id) { return prefixed(open_prefix, dedup_key(id)); }

void encode(std::string& out, const OpenRow& row) {
  const Reservation& reservation = row.reservation;
  put(out, row.reserve_index);
  put(out, reservation.amount.value);
  const bool labelled = !reservation.tags.empty() || !reservation.session.empty();
  put(out, static_cast<std::uint8_t>((reservation.price_known ? open_price_known : 0) |
                                     (labelled ? open_labelled : 0)));
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
  put(out, row.attempts_cost.value);
  put_attempts(out, row.attempts);
}

bool decode(std::string_view key, std::string_view bytes, OpenRow& row) {
  Reservation& reservation = row.reservation;
  if (key.size() != 1 + sizeof(reservation.request_id.bytes)) return false;
  std::memcpy(reservation.request_id.bytes.data(), key.data() + 1,
              sizeof(reservation.request_id.bytes));
  std::uint8_t flags = 0;
  Reader reader(bytes);
  reader.take(row.reserve_index).take(reservation.amount.value).take(flags);
  reader.take(reservation.input_tokens_max).take(reservation.output_tokens_max);
  reader.take_text(reservation.tenant.organisation)
      .take_text(reservation.tenant.team)
      .take_text(reservation.tenant.user);
  reader.take_text(reservation.key_id).take_text(reservation.route);
  reservation.tags.clear();
  reservation.session.clear();
  if ((flags & open_labelled) != 0) {
    std::uint8_t tags = 0;
    reader.take(tags);
    reservation.tags.resize(tags);
    for (std::string& tag : reservation.tags) reader.take_text(tag);
    reader.take_text(reservation.session);
  }
  reader.take(row.attempts_cost.value).take_attempts(row.attempts);
  reservation.price_known = (flags & open_price_known) != 0;
  return reader.done() && flags <= (open_price_known | open_labelled);
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
  Reader reader(bytes);
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
  return Reader(bytes).take(index).done();
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
  Reader reader(bytes.substr(sizeof(key.hour)));
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
