// Spool: the local journal of a gateway process for one shard, for the time that it is cut off from the shard's owner.
// What is in it counts as durable, since the node's next process replays it to the owner (cluster/holder_handover.hpp).
//
// A file has a header (the shard and the holder, by incarnation) and then groups: records that were appended together,
// with one SHA-256 over holder, place and content. So a group is there as a whole or not at all. One owner.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/id.hpp"
#include "core/result.hpp"
#include "storage/ledger_error.hpp"

namespace outlast::storage {

struct SpoolRecord {
  std::uint64_t sequence = 0;  // in the holder's stream
  std::string frame;           // a ledger entry with a zero header
  bool operator==(const SpoolRecord&) const = default;
};

struct SpoolFile {
  std::string path;
  std::string shard;  // cluster::name_of_shard()
  Incarnation holder;
  bool operator==(const SpoolFile&) const = default;
};

class Spool {
 public:
  static constexpr std::uint64_t group_bytes_max = 16U << 20;

  // Makes a file of the shard and the holder in `folder`, which must not have one yet; the name is on disk on return. It
  // takes at most `bytes_max` bytes.
  static Result<std::unique_ptr<Spool>> create(const std::string& folder, std::string_view shard,
                                               const Incarnation& holder, std::uint64_t bytes_max);
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // On disk on return. Error overloaded: it has no room for them, and nothing was written. After any other error nobody
  // knows what is on disk: the process may acknowledge nothing more, here as with the ledger, and starts again.
  Result<void> append(std::span<const SpoolRecord> records);
  // All of it is in the ledger.
  Result<void> truncate();
  // Of what is not in the ledger yet: 0 when there is nothing.
  [[nodiscard]] std::uint64_t bytes() const { return file_bytes_ - header_bytes_; }
  [[nodiscard]] const SpoolFile& file() const { return file_; }

 private:
  Spool(SpoolFile file, int fd, std::uint64_t header_bytes, std::uint64_t bytes_max);

  const SpoolFile file_;
  const int fd_;
  const std::uint64_t header_bytes_;
  const std::uint64_t bytes_max_;
  std::uint64_t file_bytes_;
  bool failed_ = false;
  std::string group_;  // scratch
};

// The spools in the folder, in order of their paths. A folder that is not there has none.
Result<std::vector<SpoolFile>> find_spools(const std::string& folder);
// Every record, in order. What a crash left unfinished at the end is left out; anything else that is wrong is `corrupt`
// and names the place.
Result<std::vector<SpoolRecord>> read_spool(const SpoolFile& file);
Result<void> remove_spool(const SpoolFile& file);

// Which incarnations of this node may still hold something of the cluster's budgets: written before a process begins to
// hold. No value: there is no such file, since the disk is new or was wiped.
Result<std::optional<std::vector<Incarnation>>> read_holders(const std::string& folder);
Result<void> write_holders(const std::string& folder, std::span<const Incarnation> holders);

}  // namespace outlast::storage
