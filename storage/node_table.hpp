// NodeTable: the part of the ledger's state that a cluster's nodes, join tokens and settings are. A row's value is the
// frame of the entry that it came from. Deterministic: time is that of entries. No threads. One owner.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/member_records.hpp"
#include "proto/ledger_codec.hpp"
#include "storage/ledger_error.hpp"
#include "storage/log.hpp"

namespace outlast::storage {

inline constexpr char member_prefix = 'm';
inline constexpr std::size_t nodes_max = 4'096;
inline constexpr std::size_t member_name_bytes_max = 64;
inline constexpr std::size_t node_endpoint_bytes_max = 255;
inline constexpr std::size_t node_roles_max = 8;
inline constexpr std::size_t revoked_keys_max = 65'536;
inline constexpr std::size_t join_tokens_max = 1'024;  // open ones
inline constexpr std::int64_t join_token_age_ms_max = 7LL * 24 * 3'600'000;
inline constexpr std::size_t settings_max = 64;
inline constexpr std::size_t setting_bytes_max = 1U << 20;
inline constexpr std::size_t settings_bytes_max = 8U << 20;  // all values together
inline constexpr std::size_t member_text_bytes_max = 1'024;  // of who and why

class NodeTable {
 public:
  enum class Verdict : std::uint8_t { applied = 0, duplicate = 1, refused = 2 };  // those of Outcome
  struct Applied {
    Verdict verdict = Verdict::applied;
    LedgerError error{};  // when refused
  };

  // Without a token: the first node of all, or a change of one that takes part, by its name and key. With one: a new
  // node, or one that comes back; the token is used up. Errors: invalid, bad_token, taken, key_revoked, overloaded.
  Applied apply(const proto::EntryHeader& header, const NodeEnrolled& operation, TableChanges& changes);
  // Errors: invalid, unknown_node, not_enrolled (removed or revoked: it has to join again), last_node.
  Applied apply(const proto::EntryHeader& header, const NodeChanged& operation, TableChanges& changes);
  // With expires_ms 0 an open token of that id is withdrawn. Errors: invalid, duplicate, overloaded.
  Applied apply(const proto::EntryHeader& header, const JoinTokenMade& operation, TableChanges& changes);
  // Errors: invalid, overloaded.
  Applied apply(const proto::EntryHeader& header, const SettingSet& operation, TableChanges& changes);

  // A stored row, in the order of keys; false when it cannot be read.
  bool restore(std::string_view key, std::string_view value);
  [[nodiscard]] MemberRecords records() const;

 private:
  using Nodes = std::map<std::string, MemberRecord, std::less<>>;

  template <class Body>
  void put(char kind, std::string_view name, const proto::EntryHeader& header, const Body& body, TableChanges& changes);
  [[nodiscard]] bool is_open(const std::string& token, std::int64_t time_ms) const;
  [[nodiscard]] std::size_t taking_part() const;
  [[nodiscard]] Nodes::const_iterator left_longest_ago() const;
  void enrol(const proto::EntryHeader& header, const NodeEnrolled& operation, TableChanges& changes);
  void forget(Nodes::const_iterator node, TableChanges& changes);
  void drop_expired(std::int64_t time_ms, TableChanges& changes);

  Nodes nodes_;
  std::map<std::string, std::string, std::less<>> names_by_key_;  // of nodes_, whatever their state
  std::map<std::string, std::string, std::less<>> revoked_keys_;  // and whose they were
  std::map<std::string, JoinTokenRecord, std::less<>> tokens_;    // by id
  std::map<std::string, std::string> settings_;
  std::size_t settings_bytes_ = 0;
  proto::LedgerEncoder encoder_;
  std::string frame_;  // scratch
};

}  // namespace outlast::storage
