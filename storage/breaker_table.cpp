#include "storage/breaker_table.hpp"

#include <algorithm>
#include <initializer_list>
#include <variant>

#include "storage/ledger_queries.hpp"

namespace outlast::storage {
namespace {

constexpr char open_kind = 't';
constexpr char allowance_kind = 'a';
constexpr char rule_kind = 'r';

std::string row_key(char kind, std::string_view name) {
  std::string key{breaker_prefix, kind};
  return key.append(name);
}

bool short_enough(std::initializer_list<std::string_view> texts) {
  return std::all_of(texts.begin(), texts.end(),
                     [](std::string_view text) { return text.size() <= breaker_text_bytes_max; });
}

BreakerTable::Applied breaker_refusal(LedgerError error) { return {BreakerTable::Verdict::refused, error}; }

}  // namespace

template <class Body>
void BreakerTable::put(char kind, const std::string& name, const proto::EntryHeader& header, const Body& body,
                       TableChanges& changes) {
  frame_.clear();
  encoder_.append(frame_, header, body);
  changes.put(Table::meta, row_key(kind, name), frame_);
}

BreakerTable::Applied BreakerTable::apply(const proto::EntryHeader& header, const BreakerTripped& operation,
                                          TableChanges& changes) {
  if (operation.id.empty() ||
      !short_enough({operation.id, operation.rule, operation.scope, operation.session, operation.why})) {
    return breaker_refusal(LedgerError::invalid);
  }
  if (open_.size() >= open_breakers_max && !open_.contains(operation.id)) return breaker_refusal(LedgerError::overloaded);
  open_[operation.id] = {operation, header.time_ms};
  put(open_kind, operation.id, header, operation, changes);
  if (records_.allowances.erase(operation.id) > 0) {
    changes.erase(Table::meta, row_key(allowance_kind, operation.id));
  }
  return {};
}

BreakerTable::Applied BreakerTable::apply(const proto::EntryHeader& header, const BreakerReset& operation,
                                          TableChanges& changes) {
  if (operation.reason.empty() || operation.allowance.value < 0 ||
      !short_enough({operation.id, operation.by, operation.reason})) {
    return breaker_refusal(LedgerError::invalid);
  }
  if (open_.erase(operation.id) == 0) return breaker_refusal(LedgerError::unknown_breaker);
  changes.erase(Table::meta, row_key(open_kind, operation.id));
  if (operation.allowance.value > 0) {
    records_.allowances[operation.id] = operation.allowance;
    put(allowance_kind, operation.id, header, operation, changes);
  }
  return {};
}

BreakerTable::Applied BreakerTable::apply(const proto::EntryHeader& header, const BreakerRuleChange& operation,
                                          TableChanges& changes) {
  if (operation.name.empty() || operation.definition.size() > breaker_definition_bytes_max ||
      !short_enough({operation.name, operation.by, operation.reason})) {
    return breaker_refusal(LedgerError::invalid);
  }
  const auto known = records_.definitions.find(operation.name);
  if (operation.definition.empty()) {
    if (known == records_.definitions.end()) return breaker_refusal(LedgerError::unknown_breaker);
    records_.definitions.erase(known);
    changes.erase(Table::meta, row_key(rule_kind, operation.name));
    return {};
  }
  if (known != records_.definitions.end() && known->second == operation.definition) {
    return {Verdict::duplicate, {}};
  }
  if (known == records_.definitions.end() && records_.definitions.size() >= breaker_rules_max) {
    return breaker_refusal(LedgerError::overloaded);
  }
  records_.definitions[operation.name] = operation.definition;
  put(rule_kind, operation.name, header, operation, changes);
  return {};
}

bool BreakerTable::restore(std::string_view key, std::string_view value) {
  const Result<proto::LedgerEntry> entry = proto::decode_ledger_entry(value);
  if (!entry || key.size() < 2) return false;
  const std::string name(key.substr(2));
  if (const auto* trip = std::get_if<BreakerTripped>(&entry->body); trip != nullptr && key[1] == open_kind) {
    open_[name] = {*trip, entry->header.time_ms};
  } else if (const auto* reset = std::get_if<BreakerReset>(&entry->body);
             reset != nullptr && key[1] == allowance_kind) {
    records_.allowances[name] = reset->allowance;
  } else if (const auto* rule = std::get_if<BreakerRuleChange>(&entry->body);
             rule != nullptr && key[1] == rule_kind) {
    records_.definitions[name] = rule->definition;
  } else {
    return false;
  }
  return true;
}

BreakerRecords BreakerTable::records() const {
  BreakerRecords copy = records_;
  for (const auto& [id, record] : open_) copy.open.push_back(record);
  return copy;
}

Result<BreakerRecords> breakers_of(const LedgerView& view) {
  BreakerTable table;
  bool readable = true;
  const Result<void> scanned =
      view.scan(Table::meta, std::string(1, breaker_prefix), std::string(1, breaker_prefix + 1),
                [&table, &readable](std::string_view key, std::string_view value) {
                  return readable = table.restore(key, value);
                });
  if (!scanned) return fail(scanned.error());
  if (!readable) return fail(LedgerError::corrupt, "a row of a spend breaker cannot be read");
  return table.records();
}

}  // namespace outlast::storage
