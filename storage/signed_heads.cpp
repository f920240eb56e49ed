#include "storage/signed_heads.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>

#include "core/log.hpp"
#include "storage/durable_file.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"

namespace outlast::storage {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view record_title = "outlast-head 1 ";
constexpr std::size_t heads_bytes_read_max = 64U << 20;
constexpr std::size_t key_bytes_max = 64U << 10;

std::string heads_file(const std::string& folder) { return folder + "/heads"; }
std::string older_file(const std::string& folder) { return folder + "/heads.1"; }
std::string key_file(const std::string& folder) { return folder + "/head.key"; }
std::string public_file(const std::string& folder) { return folder + "/head.pub"; }

bool exists(const std::string& file) {
  std::error_code error;
  return fs::exists(file, error);
}

std::string_view take_word(std::string_view& rest) {
  const std::string_view word = rest.substr(0, rest.find(' '));
  rest.remove_prefix(std::min(rest.size(), word.size() + 1));
  return word;
}

template <class T>
bool parse_number(std::string_view text, T& value) {
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  return end.ec == std::errc{} && end.ptr == text.data() + text.size() &&
         std::to_string(value) == text;  // one way to write it, so that no byte can change unseen
}

template <std::size_t size>
bool parse_hex(std::string_view text, std::array<std::uint8_t, size>& out) {
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  if (text.size() != 2 * size) return false;
  for (std::size_t i = 0; i < size; ++i) {
    const int high = digit(text[2 * i]);
    const int low = digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return true;
}

Result<std::vector<PublicKey>> read_public_keys(const std::string& folder) {
  const std::string file = public_file(folder);
  Result<std::string> pem = read_whole_file(file, key_bytes_max);
  if (!pem) return fail(std::move(pem.error()));
  Result<std::vector<PublicKey>> keys = parse_public_keys(*pem);
  if (!keys) return fail(LedgerError::corrupt, file + " " + keys.error().message);
  return keys;
}

bool signed_by_one_of(const std::vector<PublicKey>& keys, const SignedHead& head) {
  const std::string text = signed_text(head);
  return std::any_of(keys.begin(), keys.end(), [&](const PublicKey& key) {
    return verify_signature(key, text, head.signature);
  });
}

// The records of one file; a last line without its end was never whole.
Result<void> read_heads_file(const std::string& file, const std::vector<PublicKey>& keys,
                             SignedHeads& into) {
  if (!exists(file)) return {};
  const Result<std::string> text = read_whole_file(file, heads_bytes_read_max);
  if (!text) return fail(text.error());
  std::size_t number = 0;
  for (std::size_t at = 0, end = 0; (end = text->find('\n', at)) != std::string::npos;
       at = end + 1) {
    ++number;
    std::optional<SignedHead> head =
        parse_signed_head(std::string_view(*text).substr(at, end - at));
    if (head && signed_by_one_of(keys, *head)) {
      into.heads.push_back(std::move(*head));
    } else if (into.problem.empty()) {
      into.problem = file + ":" + std::to_string(number) + ": " +
                     (head ? "the signature is not of a key in head.pub" : "is no signed head");
    }
  }
  return {};
}

// Checks heads as the records pass by: each record carries the hash of the one before.
class HeadWatch final : public LedgerView {
 public:
  HeadWatch(const LedgerView& view, std::vector<SignedHead> heads)
      : view_(view), heads_(std::move(heads)) {
    std::stable_sort(heads_.begin(), heads_.end(),
                     [](const auto& a, const auto& b) { return a.index < b.index; });
  }
  Result<bool> get(Table table, std::string_view key, std::string& value) const override {
    return view_.get(table, key, value);
  }
  Result<void> scan(
      Table table, std::string_view from, std::string_view to,
      const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    return view_.scan(table, from, to, visit);
  }
  Result<void> read(std::uint64_t from,
                    const std::function<bool(const LogRecord&)>& visit) const override {
    if (from > 0) return view_.read(from, visit);
    return view_.read(from, [this, &visit](const LogRecord& record) {
      if (record.index > 0) passed(record.index - 1, record.prev_hash);
      return visit(record);
    });
  }
  // The entry at `index` has that hash; indexes come in order.
  void passed(std::uint64_t index, const Digest& hash) const {
    for (; next_ < heads_.size() && heads_[next_].index <= index; ++next_) {
      const SignedHead& head = heads_[next_];
      if (head.index == index && head.hash == hash) ++good_;
      else if (bad_ == nullptr) bad_ = &head;
    }
  }
  [[nodiscard]] std::uint64_t good() const { return good_; }
  // The first that the log contradicts or does not reach.
  [[nodiscard]] const SignedHead* bad() const {
    return bad_ == nullptr && next_ < heads_.size() ? &heads_[next_] : bad_;
  }

 private:
  const LedgerView& view_;
  std::vector<SignedHead> heads_;
  // What a pass over a view has seen so far; a view is const for its readers.
  mutable std::size_t next_ = 0;
  mutable std::uint64_t good_ = 0;
  mutable const SignedHead* bad_ = nullptr;
};

}  // namespace

std::string signed_text(const SignedHead& head) {
  return std::string(record_title) + head.node + " " + std::to_string(head.index) + " " +
         to_hex(head.hash) + " " + std::to_string(head.time_ms);
}

std::string line_of(const SignedHead& head) {
  return signed_text(head) + " " + to_hex(head.signature);
}

std::optional<SignedHead> parse_signed_head(std::string_view line) {
  if (!line.starts_with(record_title)) return std::nullopt;
  std::string_view rest = line.substr(record_title.size());
  SignedHead head;
  head.node = take_word(rest);
  const bool good = !head.node.empty() && head.node.size() <= node_name_bytes_max &&
                    parse_number(take_word(rest), head.index) &&
                    parse_hex(take_word(rest), head.hash) &&
                    parse_number(take_word(rest), head.time_ms) && parse_hex(rest, head.signature);
  if (!good) return std::nullopt;
  return head;
}

Result<SignedHeads> read_signed_heads(const std::string& folder) {
  SignedHeads heads;
  if (!exists(heads_file(folder)) && !exists(older_file(folder))) return heads;
  const Result<std::vector<PublicKey>> keys = read_public_keys(folder);
  if (!keys) {
    heads.problem = "signed heads cannot be checked: " + keys.error().message;
    return heads;
  }
  for (const std::string& file : {older_file(folder), heads_file(folder)}) {
    if (Result<void> read = read_heads_file(file, *keys, heads); !read)
      return fail(std::move(read.error()));
  }
  return heads;
}

HeadSigner::HeadSigner(std::string folder, std::string node, std::size_t file_bytes_max,
                       SigningKey key)
    : folder_(std::move(folder)),
      node_(std::move(node)),
      file_bytes_max_(file_bytes_max),
      key_(std::move(key)) {}

HeadSigner::HeadSigner(HeadSigner&& other) noexcept
    : folder_(std::move(other.folder_)),
      node_(std::move(other.node_)),
      file_bytes_max_(other.file_bytes_max_),
      key_(std::move(other.key_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      doubtful_(other.doubtful_),
      last_(std::move(other.last_)) {}

HeadSigner::~HeadSigner() {
  if (fd_ >= 0) ::close(fd_);
}

namespace {

Result<SigningKey> load_or_make_key(const std::string& folder) {
  const std::string file = key_file(folder);
  struct stat info {};
  if (::stat(file.c_str(), &info) == 0) {
    if ((info.st_mode & 0077) != 0) {
      return fail(LedgerError::corrupt,
                  file + " may be read by others, who could then sign; run: chmod 600 " + file);
    }
    Result<std::string> pem = read_whole_file(file, key_bytes_max);
    if (!pem) return fail(std::move(pem.error()));
    Result<SigningKey> key = SigningKey::parse(*pem);
    wipe(*pem);
    if (!key) {
      return fail(LedgerError::corrupt, file + " " + key.error().message +
                                            "; restore it from a copy, or remove it to get a new "
                                            "one (head.pub then holds both)");
    }
    return key;
  }
  SigningKey key = SigningKey::make();
  std::string pem = key.to_pem();
  const Result<void> written = write_file_durably(file, pem, 0600);
  wipe(pem);
  if (!written) return fail(written.error());
  return key;
}

// The node's public key is in head.pub, before those of the keys that it had earlier.
Result<void> publish_key(const std::string& folder, const PublicKey& key) {
  const std::string file = public_file(folder);
  std::string text;
  if (exists(file)) {
    const Result<std::vector<PublicKey>> known = read_public_keys(folder);
    if (!known) return fail(known.error());
    if (std::find(known->begin(), known->end(), key) != known->end()) return {};
    for (const PublicKey& one : *known) text += to_pem(one);
  }
  return write_file_durably(file, to_pem(key) + text, 0644);
}

}  // namespace

Result<HeadSigner> HeadSigner::open(const std::string& folder, std::string node,
                                    std::size_t file_bytes_max) {
  Result<SigningKey> key = load_or_make_key(folder);
  if (!key) return fail(std::move(key.error()));
  if (const Result<void> published = publish_key(folder, key->public_key()); !published)
    return fail(published.error());
  HeadSigner signer(folder, std::move(node), file_bytes_max, std::move(*key));
  if (const Result<void> opened = signer.open_file(); !opened) return fail(opened.error());
  return signer;
}

// Cuts off a last line without an end: its writer died, and nobody relied on it.
Result<void> HeadSigner::open_file() {
  const std::string file = heads_file(folder_);
  const bool made = !exists(file);
  fd_ = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) return file_failure("open", file);
  if (made) {
    size_ = 0;
    return sync_folder(folder_);
  }
  const Result<std::string> text = read_whole_file(file, heads_bytes_read_max);
  if (!text) return fail(text.error());
  const std::size_t end = text->rfind('\n');
  size_ = end == std::string::npos ? 0 : end + 1;
  if (size_ != text->size() && ::ftruncate(fd_, static_cast<off_t>(size_)) != 0)
    return file_failure("cut the torn last line of", file);
  if (size_ == 0) return {};
  const std::size_t before = text->rfind('\n', size_ - 2);
  const std::size_t begin = before == std::string::npos ? 0 : before + 1;
  last_ = parse_signed_head(std::string_view(*text).substr(begin, size_ - 1 - begin));
  return {};
}

// The new file begins with the record, so that there is no moment without the latest head.
Result<void> HeadSigner::turn_over(std::string_view line) {
  const std::string file = heads_file(folder_);
  const std::string next = file + ".next";
  if (Result<void> written = write_file_durably(next, line, 0644); !written) return written;
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (exists(file) && ::rename(file.c_str(), older_file(folder_).c_str()) != 0)
    return file_failure("rename", file);
  if (::rename(next.c_str(), file.c_str()) != 0) return file_failure("rename", next);
  if (Result<void> synced = sync_folder(folder_); !synced) return synced;
  fd_ = ::open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd_ < 0) return file_failure("open", file);
  size_ = line.size();
  return {};
}

Result<void> HeadSigner::append(std::uint64_t index, const Digest& hash, std::int64_t time_ms) {
  SignedHead head{node_, index, hash, time_ms, {}};
  head.signature = key_.sign(signed_text(head));
  const std::string line = line_of(head) + "\n";
  if (doubtful_ || fd_ < 0 || size_ + line.size() > file_bytes_max_) {
    doubtful_ = true;
    if (Result<void> turned = turn_over(line); !turned) return turned;
    doubtful_ = false;
  } else {
    const ssize_t written = ::write(fd_, line.data(), line.size());
    if (written != static_cast<ssize_t>(line.size()) || ::fdatasync(fd_) != 0) {
      doubtful_ = true;
      return file_failure("write", heads_file(folder_));
    }
    size_ += line.size();
  }
  last_ = std::move(head);
  return {};
}

namespace {

// The newest head of the files that a key of head.pub signed. An unreadable end of the file is left
// to `verify`.
Result<std::optional<SignedHead>> last_head(const std::string& folder) {
  if (!exists(public_file(folder))) return std::nullopt;
  const Result<std::vector<PublicKey>> keys = read_public_keys(folder);
  if (!keys) return fail(keys.error());
  for (const std::string& file : {heads_file(folder), older_file(folder)}) {
    if (!exists(file)) continue;
    const Result<std::string> text = read_whole_file(file, heads_bytes_read_max);
    if (!text) return fail(text.error());
    std::string_view rest = *text;
    while (!rest.empty()) {
      rest = rest.substr(0, rest.rfind('\n') == rest.npos ? 0 : rest.rfind('\n'));
      const std::size_t before = rest.rfind('\n');
      const std::optional<SignedHead> head =
          parse_signed_head(before == rest.npos ? rest : rest.substr(before + 1));
      if (head && signed_by_one_of(*keys, *head)) return head;
    }
  }
  return std::nullopt;
}

Result<void> set_heads_aside(const std::string& folder, std::uint64_t next_index) {
  for (const std::string& file : {older_file(folder), heads_file(folder)}) {
    const std::string aside = file + ".cut-" + std::to_string(next_index);
    if (exists(file) && ::rename(file.c_str(), aside.c_str()) != 0)
      return file_failure("rename", file);
  }
  return sync_folder(folder);
}

}  // namespace

Result<void> check_last_head(const std::string& folder, const LedgerView& view,
                             std::uint64_t next_index, std::optional<std::uint64_t> accept_cut_at) {
  const Result<std::optional<SignedHead>> last = last_head(folder);
  if (!last) return fail(last.error());
  if (!last->has_value()) return {};
  const SignedHead& head = **last;
  std::string what;
  if (head.index >= next_index) {
    what = "ends before entry " + std::to_string(next_index) + ": entries were cut off";
  } else {
    Digest hash{};
    const Result<void> read = view.read(head.index, [&hash](const LogRecord& record) {
      hash = entry_hash(record.prev_hash, record.frame);
      return false;
    });
    if (!read) return read;
    if (hash == head.hash) return {};
    what = "holds another entry there: it was replaced";
  }
  if (accept_cut_at == next_index) {
    log::warning("ledger_cut_accepted",
                 {{"entries", next_index}, {"signed_head", head.index}, {"folder", folder}});
    return set_heads_aside(folder, next_index);
  }
  return fail(LedgerError::corrupt,
              heads_file(folder) + " has a signed head at entry " + std::to_string(head.index) +
                  ", but the ledger " + what + "; restore the data from a copy (outlast ledger " +
                  "restore), or, if what is missing is known to be lost, set accept_cut = " +
                  std::to_string(next_index) + " under [ledger]");
}

Result<VerifyReport> verify_with_heads(const LedgerView& view, SignedHeads heads) {
  const HeadWatch watch(view, std::move(heads.heads));
  Result<VerifyReport> report = verify_ledger(watch);
  if (!report) return report;
  if (report->ok && report->entries > 0) watch.passed(report->entries - 1, report->head_hash);
  report->signed_heads = watch.good();
  if (!report->ok) return report;
  if (const SignedHead* bad = watch.bad(); bad != nullptr) {
    const bool cut = bad->index >= report->entries;
    report->first_bad_index = cut ? report->entries : bad->index;
    report->problem =
        "entry " + std::to_string(*report->first_bad_index) +
        (cut ? ": is missing: a signed head names entry " + std::to_string(bad->index) +
                   ", so the log's tail was cut off"
             : ": is not the one that a signed head names");
  } else {
    report->problem = std::move(heads.problem);
  }
  report->ok = report->problem.empty();
  return report;
}

}  // namespace outlast::storage
