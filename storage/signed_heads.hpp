// Signed heads: where the ledger's chain stood, signed by the node and written beside the ledger
// each second, so that a tail that was cut off with its head row is found (docs/ledger.md gives the
// bytes).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/crypto.hpp"
#include "core/result.hpp"
#include "core/signing.hpp"
#include "storage/log.hpp"
#include "storage/usage_report.hpp"

namespace outlast::storage {

inline constexpr std::size_t node_name_bytes_max = 64;

struct SignedHead {
  std::string node;
  std::uint64_t index = 0;  // of the last entry
  Digest hash{};            // its own
  std::int64_t time_ms = 0;  // of the signature, by the node's clock
  Signature signature{};
  bool operator==(const SignedHead&) const = default;
};
// "outlast-head 1 NODE INDEX HASH TIME": what is signed.
std::string signed_text(const SignedHead& head);
// The same and the signature, in hexadecimal digits, without a line end.
std::string line_of(const SignedHead& head);
// Nothing when the line is not such a record; the signature is not checked.
std::optional<SignedHead> parse_signed_head(std::string_view line);

// What the head files of a data folder hold.
struct SignedHeads {
  std::vector<SignedHead> heads;  // whose signature is good, oldest first
  std::string problem;            // empty, or the first line that is none and its file
};
// Reads `heads.1` and `heads`; none of them: no heads. Error: io.
Result<SignedHeads> read_signed_heads(const std::string& folder);

// Appends to the head file. One owner.
class HeadSigner {
 public:
  // The file is turned over at this size, and the one before is kept: 2 to 9 hours of seconds in
  // which the ledger grew.
  static constexpr std::size_t file_bytes_max = 4U << 20;

  // Makes `head.key` (0600) and `head.pub` in `folder` when they are absent. Errors: io, disk_full,
  // corrupt (a key that is none, or that others may read).
  static Result<HeadSigner> open(const std::string& folder, std::string node,
                                 std::size_t file_bytes_max = HeadSigner::file_bytes_max);
  HeadSigner(HeadSigner&& other) noexcept;
  HeadSigner& operator=(HeadSigner&&) = delete;
  ~HeadSigner();

  // Durable on return. After an error the next call begins with a new file.
  Result<void> append(std::uint64_t index, const Digest& hash, std::int64_t time_ms);
  [[nodiscard]] const std::optional<SignedHead>& last() const { return last_; }

 private:
  HeadSigner(std::string folder, std::string node, std::size_t file_bytes_max, SigningKey key);
  Result<void> turn_over(std::string_view line);
  Result<void> open_file();

  std::string folder_;
  std::string node_;
  std::size_t file_bytes_max_;
  SigningKey key_;
  int fd_ = -1;
  std::size_t size_ = 0;
  bool doubtful_ = false;  // a write failed: nobody knows what is on disk
  std::optional<SignedHead> last_;
};

// A ledger that is shorter than its last signed head, or holds another entry there, was cut or
// replaced: `corrupt`, with what to do. `accept_cut_at`: the number of entries at which a person
// has said that the cut is known; then the head files are renamed to `….cut-N` and the ledger goes
// on.
Result<void> check_last_head(const std::string& folder, const LedgerView& view,
                             std::uint64_t next_index, std::optional<std::uint64_t> accept_cut_at);

// verify_ledger(), and that the log holds each of the heads. Heads are read before the view is
// taken: a running node signs what it has just added.
Result<VerifyReport> verify_with_heads(const LedgerView& view, SignedHeads heads);

}  // namespace outlast::storage
