#include "storage/node_table.hpp"

#include <algorithm>
#include <variant>

#include "storage/ledger_queries.hpp"

namespace outlast::storage {
namespace {

// Of a node the row of its enrolment comes before that of its state.
constexpr char enrolled_kind = 'e';
constexpr char revoked_key_kind = 'k';
constexpr char state_kind = 's';
constexpr char token_kind = 't';
constexpr char setting_kind = 'v';

constexpr std::size_t curve_key_size = 40;
constexpr std::string_view z85_punctuation = ".-:+=^!/*?&<>()[]{}@%$#";
constexpr std::string_view name_punctuation = "._-";

std::string row_key(char kind, std::string_view name) {
  std::string key{member_prefix, kind};
  return key.append(name);
}

bool alphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

bool made_of(std::string_view text, std::string_view punctuation) {
  return std::all_of(text.begin(), text.end(), [punctuation](char c) {
    return alphanumeric(c) || punctuation.find(c) != std::string_view::npos;
  });
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= member_name_bytes_max && made_of(text, name_punctuation);
}

bool is_key(std::string_view text) { return text.size() == curve_key_size && made_of(text, z85_punctuation); }

bool is_endpoint(std::string_view text) {
  constexpr std::string_view scheme = "tcp://";
  return text.starts_with(scheme) && text.size() > scheme.size() && text.size() <= node_endpoint_bytes_max &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

bool well_formed(const NodeEnrolled& node) {
  return is_name(node.name) && is_key(node.public_key) && is_endpoint(node.endpoint) && !node.roles.empty() &&
         node.roles.size() <= node_roles_max && std::all_of(node.roles.begin(), node.roles.end(), is_name) &&
         (node.token.empty() || is_name(node.token)) && node.by.size() <= member_text_bytes_max;
}

NodeTable::Applied node_refusal(LedgerError error) { return {NodeTable::Verdict::refused, error}; }
NodeTable::Applied duplicate() { return {NodeTable::Verdict::duplicate, {}}; }

}  // namespace

template <class Body>
void NodeTable::put(char kind, std::string_view name, const proto::EntryHeader& header, const Body& body,
                    TableChanges& changes) {
  frame_.clear();
  encoder_.append(frame_, header, body);
  changes.put(Table::meta, row_key(kind, name), frame_);
}

NodeTable::Applied NodeTable::apply(const proto::EntryHeader& header, const NodeEnrolled& operation,
                                    TableChanges& changes) {
  if (!well_formed(operation)) return node_refusal(LedgerError::invalid);
  const auto known = nodes_.find(operation.name);
  const bool there = known != nodes_.end() && known->second.takes_part();
  const bool same = there && known->second.enrolled.public_key == operation.public_key;
  if (same) {
    const NodeEnrolled& now = known->second.enrolled;
    // A node whose answer was lost asks again with the token that it used up.
    const bool nothing_new = operation.token.empty() || operation.token == now.token;
    if (nothing_new && now.endpoint == operation.endpoint && now.roles == operation.roles &&
        now.incarnation == operation.incarnation) {
      return duplicate();
    }
  }
  const bool needs_token = !operation.token.empty() || !(same || nodes_.empty());
  if (needs_token && !is_open(operation.token, header.time_ms)) return node_refusal(LedgerError::bad_token);
  if (revoked_keys_.contains(operation.public_key)) return node_refusal(LedgerError::key_revoked);
  const auto owner = names_by_key_.find(operation.public_key);
  if ((there && !same) || (owner != names_by_key_.end() && owner->second != operation.name)) {
    return node_refusal(LedgerError::taken);
  }
  if (!same) {
    // Every node that takes part must stay revocable, whatever else is full.
    if (revoked_keys_.size() + nodes_max > revoked_keys_max) return node_refusal(LedgerError::overloaded);
    if (known == nodes_.end() && nodes_.size() >= nodes_max) {
      const auto left = left_longest_ago();
      if (left == nodes_.end()) return node_refusal(LedgerError::overloaded);
      forget(left, changes);
    }
  }
  enrol(header, operation, changes);
  return {};
}

void NodeTable::enrol(const proto::EntryHeader& header, const NodeEnrolled& operation, TableChanges& changes) {
  MemberRecord& node = nodes_[operation.name];
  const bool joins = !operation.token.empty() || !node.takes_part();
  names_by_key_.erase(node.enrolled.public_key);
  names_by_key_[operation.public_key] = operation.name;
  node.enrolled = operation;
  node.enrolled_ms = header.time_ms;
  put(enrolled_kind, operation.name, header, operation, changes);
  if (!operation.token.empty()) {
    tokens_.erase(operation.token);
    changes.erase(Table::meta, row_key(token_kind, operation.token));
  }
  if (joins) {
    node = MemberRecord{operation, header.time_ms, NodeState::active, 0, {}, {}};
    changes.erase(Table::meta, row_key(state_kind, operation.name));
  }
  drop_expired(header.time_ms, changes);
}

NodeTable::Applied NodeTable::apply(const proto::EntryHeader& header, const NodeChanged& operation,
                                    TableChanges& changes) {
  if (operation.by.size() > member_text_bytes_max || operation.reason.size() > member_text_bytes_max) {
    return node_refusal(LedgerError::invalid);
  }
  const auto known = nodes_.find(operation.name);
  if (known == nodes_.end()) return node_refusal(LedgerError::unknown_node);
  MemberRecord& node = known->second;
  if (node.state == operation.state) return duplicate();
  const bool revokes = operation.state == NodeState::revoked;
  const bool leaves = revokes || operation.state == NodeState::removed;
  if (!node.takes_part() && !(revokes && node.state == NodeState::removed)) return node_refusal(LedgerError::not_enrolled);
  if (leaves && node.takes_part() && taking_part() == 1) return node_refusal(LedgerError::last_node);
  node.state = operation.state;
  node.changed_ms = header.time_ms;
  node.changed_by = operation.by;
  node.reason = operation.reason;
  put(state_kind, operation.name, header, operation, changes);
  if (revokes) {
    revoked_keys_[node.enrolled.public_key] = operation.name;
    put(revoked_key_kind, node.enrolled.public_key, header, operation, changes);
  }
  return {};
}

NodeTable::Applied NodeTable::apply(const proto::EntryHeader& header, const JoinTokenMade& operation,
                                    TableChanges& changes) {
  if (!is_name(operation.id) || operation.by.size() > member_text_bytes_max) return node_refusal(LedgerError::invalid);
  const auto known = tokens_.find(operation.id);
  if (operation.expires_ms == 0) {
    if (known == tokens_.end()) return duplicate();  // it lets nobody in, which is what was wanted
    tokens_.erase(known);
    changes.erase(Table::meta, row_key(token_kind, operation.id));
    return {};
  }
  if (known != tokens_.end()) {
    const JoinTokenMade& now = known->second.token;
    const bool same = now.hash == operation.hash && now.expires_ms == operation.expires_ms;
    return same ? duplicate() : node_refusal(LedgerError::duplicate);
  }
  if (operation.expires_ms <= header.time_ms || operation.expires_ms - header.time_ms > join_token_age_ms_max) {
    return node_refusal(LedgerError::invalid);
  }
  const auto open = std::count_if(tokens_.begin(), tokens_.end(), [&header](const auto& token) {
    return token.second.token.expires_ms > header.time_ms;
  });
  if (static_cast<std::size_t>(open) >= join_tokens_max) return node_refusal(LedgerError::overloaded);
  drop_expired(header.time_ms, changes);
  tokens_[operation.id] = {operation, header.time_ms};
  put(token_kind, operation.id, header, operation, changes);
  return {};
}

NodeTable::Applied NodeTable::apply(const proto::EntryHeader& header, const SettingSet& operation,
                                    TableChanges& changes) {
  if (!is_name(operation.name) || operation.value.size() > setting_bytes_max ||
      operation.by.size() > member_text_bytes_max) {
    return node_refusal(LedgerError::invalid);
  }
  const auto known = settings_.find(operation.name);
  const bool there = known != settings_.end();
  if (there ? known->second == operation.value : operation.value.empty()) return duplicate();
  const std::size_t bytes = settings_bytes_ - (there ? known->second.size() : 0) + operation.value.size();
  if (operation.value.empty()) {
    settings_.erase(known);
    changes.erase(Table::meta, row_key(setting_kind, operation.name));
  } else {
    if ((!there && settings_.size() >= settings_max) || bytes > settings_bytes_max) {
      return node_refusal(LedgerError::overloaded);
    }
    settings_[operation.name] = operation.value;
    put(setting_kind, operation.name, header, operation, changes);
  }
  settings_bytes_ = bytes;
  return {};
}

bool NodeTable::is_open(const std::string& token, std::int64_t time_ms) const {
  const auto at = tokens_.find(token);
  return at != tokens_.end() && at->second.token.expires_ms > time_ms;
}

std::size_t NodeTable::taking_part() const {
  return static_cast<std::size_t>(
      std::count_if(nodes_.begin(), nodes_.end(), [](const auto& node) { return node.second.takes_part(); }));
}

NodeTable::Nodes::const_iterator NodeTable::left_longest_ago() const {
  auto oldest = nodes_.end();
  for (auto at = nodes_.begin(); at != nodes_.end(); ++at) {
    if (at->second.takes_part()) continue;
    if (oldest == nodes_.end() || at->second.changed_ms < oldest->second.changed_ms) oldest = at;
  }
  return oldest;
}

// A key that was revoked stays so.
void NodeTable::forget(Nodes::const_iterator node, TableChanges& changes) {
  changes.erase(Table::meta, row_key(enrolled_kind, node->first));
  changes.erase(Table::meta, row_key(state_kind, node->first));
  names_by_key_.erase(node->second.enrolled.public_key);
  nodes_.erase(node);
}

void NodeTable::drop_expired(std::int64_t time_ms, TableChanges& changes) {
  for (auto at = tokens_.begin(); at != tokens_.end();) {
    if (at->second.token.expires_ms > time_ms) {
      ++at;
      continue;
    }
    changes.erase(Table::meta, row_key(token_kind, at->first));
    at = tokens_.erase(at);
  }
}

bool NodeTable::restore(std::string_view key, std::string_view value) {
  const Result<proto::LedgerEntry> entry = proto::decode_ledger_entry(value);
  if (!entry || key.size() < 3) return false;
  const char kind = key[1];
  const std::string name(key.substr(2));
  const std::int64_t time_ms = entry->header.time_ms;
  if (const auto* node = std::get_if<NodeEnrolled>(&entry->body); node != nullptr && kind == enrolled_kind) {
    nodes_[name] = MemberRecord{*node, time_ms, NodeState::active, 0, {}, {}};
    names_by_key_[node->public_key] = name;
  } else if (const auto* change = std::get_if<NodeChanged>(&entry->body); change != nullptr) {
    if (kind == revoked_key_kind) {
      revoked_keys_[name] = change->name;
      return true;
    }
    const auto at = nodes_.find(name);
    if (kind != state_kind || at == nodes_.end()) return false;
    at->second.state = change->state;
    at->second.changed_ms = time_ms;
    at->second.changed_by = change->by;
    at->second.reason = change->reason;
  } else if (const auto* token = std::get_if<JoinTokenMade>(&entry->body); token != nullptr && kind == token_kind) {
    tokens_[name] = {*token, time_ms};
  } else if (const auto* setting = std::get_if<SettingSet>(&entry->body); setting != nullptr && kind == setting_kind) {
    settings_[name] = setting->value;
    settings_bytes_ += setting->value.size();
  } else {
    return false;
  }
  return true;
}

MemberRecords NodeTable::records() const {
  MemberRecords records;
  for (const auto& [name, node] : nodes_) records.nodes.push_back(node);
  for (const auto& [id, token] : tokens_) records.tokens.push_back(token);
  records.settings = settings_;
  return records;
}

Result<MemberRecords> members_of(const LedgerView& view) {
  NodeTable table;
  bool readable = true;
  const Result<void> scanned = view.scan(Table::meta, std::string(1, member_prefix), std::string(1, member_prefix + 1),
                                         [&table, &readable](std::string_view key, std::string_view value) {
                                           return readable = table.restore(key, value);
                                         });
  if (!scanned) return fail(scanned.error());
  if (!readable) return fail(LedgerError::corrupt, "a row of a cluster's node cannot be read");
  return table.records();
}

}  // namespace outlast::storage
