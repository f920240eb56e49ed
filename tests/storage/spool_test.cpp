#include "storage/spool.hpp"

#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "storage/durable_file.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage::spool_test {
namespace {

Incarnation holder_of(std::uint8_t byte) {
  Incarnation holder;
  holder.bytes.fill(byte);
  return holder;
}

std::vector<SpoolRecord> records_of(std::uint64_t first, std::size_t count) {
  std::vector<SpoolRecord> records;
  for (std::size_t i = 0; i < count; ++i)
    records.push_back({first + i, std::string(8 * (1 + i % 5), static_cast<char>('a' + i % 26))});
  return records;
}

std::unique_ptr<Spool> make(const TemporaryFolder& folder, std::uint64_t bytes_max = 1U << 20) {
  auto spool = Spool::create(folder.path(), "s003", holder_of(5), bytes_max);
  REQUIRE(spool);
  return std::move(*spool);
}

std::string bytes_of(const SpoolFile& file) { return *read_whole_file(file.path, 1U << 24); }

void write(const SpoolFile& file, const std::string& bytes) {
  std::ofstream(file.path, std::ios::binary | std::ios::trunc) << bytes;
}

}  // namespace

TEST_CASE("a spool gives back what was appended, after a restart too", "[ledger][spool]") {
  const TemporaryFolder folder;
  const auto spool = make(folder);
  CHECK(spool->bytes() == 0);
  REQUIRE(spool->append(records_of(1, 3)));
  REQUIRE(spool->append(records_of(9, 40)));
  CHECK(spool->bytes() > 0);
  const Result<std::vector<SpoolFile>> files = find_spools(folder.path());
  REQUIRE(files);
  REQUIRE(files->size() == 1);
  CHECK(files->front() == spool->file());
  CHECK(files->front().shard == "s003");
  CHECK(files->front().holder == holder_of(5));
  std::vector<SpoolRecord> expected = records_of(1, 3);
  for (const SpoolRecord& record : records_of(9, 40)) expected.push_back(record);
  CHECK(read_spool(files->front()) == expected);
  REQUIRE(spool->truncate());
  CHECK(spool->bytes() == 0);
  CHECK(read_spool(files->front())->empty());
  REQUIRE(spool->append(records_of(50, 2)));
  CHECK(read_spool(files->front()) == records_of(50, 2));
  REQUIRE(remove_spool(files->front()));
  CHECK(find_spools(folder.path())->empty());
}

TEST_CASE("a spool that a crash cut anywhere has every whole group and nothing else", "[ledger][spool]") {
  const TemporaryFolder folder;
  const auto spool = make(folder);
  const std::size_t header = bytes_of(spool->file()).size();
  REQUIRE(spool->append(records_of(1, 3)));
  const std::size_t first = bytes_of(spool->file()).size();
  REQUIRE(spool->append(records_of(4, 2)));
  const std::string whole = bytes_of(spool->file());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write(spool->file(), whole.substr(0, size));
    const Result<std::vector<SpoolRecord>> read = read_spool(spool->file());
    REQUIRE(read);
    CHECK(*read == (size < first ? std::vector<SpoolRecord>() : records_of(1, 3)));
    // Blocks that the file system had promised and not written.
    write(spool->file(), whole.substr(0, size) + std::string(whole.size() - size, '\0'));
    if (size >= header) CHECK(read_spool(spool->file()));
  }
}

TEST_CASE("damage in the middle of a spool is an error that names the place", "[ledger][spool]") {
  const TemporaryFolder folder;
  const auto spool = make(folder);
  const std::size_t header = bytes_of(spool->file()).size();
  REQUIRE(spool->append(records_of(1, 3)));
  const std::size_t first = bytes_of(spool->file()).size();
  REQUIRE(spool->append(records_of(4, 2)));
  const std::string whole = bytes_of(spool->file());
  for (std::size_t at = 0; at < first; ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x20);
    write(spool->file(), damaged);
    const Result<std::vector<SpoolRecord>> read = read_spool(spool->file());
    REQUIRE_FALSE(read);
    CHECK(is(read.error(), LedgerError::corrupt));
    CHECK(read.error().message.find("byte " + std::to_string(at < header ? 0 : header)) != std::string::npos);
  }
  // A group at another place, as of an earlier time of the file, is none.
  write(spool->file(), whole.substr(0, header) + whole.substr(first));
  CHECK(read_spool(spool->file()) == std::vector<SpoolRecord>());
}

TEST_CASE("a full spool takes nothing and stays what it is", "[ledger][spool]") {
  const TemporaryFolder folder;
  const auto spool = make(folder, 600);
  REQUIRE(spool->append(records_of(1, 3)));
  const std::uint64_t bytes = spool->bytes();
  const Result<void> refused = spool->append(records_of(4, 40));
  REQUIRE_FALSE(refused);
  CHECK(is(refused.error(), LedgerError::overloaded));
  CHECK(spool->bytes() == bytes);
  CHECK(read_spool(spool->file()) == records_of(1, 3));
  REQUIRE(spool->append(records_of(4, 1)));
}

TEST_CASE("after a failed write a spool takes no more", "[ledger][spool]") {
  const TemporaryFolder folder;
  const auto spool = make(folder);
  REQUIRE(spool->append(records_of(1, 3)));
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit little{std::filesystem::file_size(spool->file().path) + 10, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &little) == 0);
  const Result<void> failed = spool->append(records_of(4, 3));
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, handler);
  REQUIRE_FALSE(failed);
  CHECK(is(failed.error(), LedgerError::io));
  CHECK_FALSE(spool->append(records_of(7, 1)));
  CHECK_FALSE(spool->truncate());
  CHECK(read_spool(spool->file()) == records_of(1, 3));
}

TEST_CASE("which processes of a node may hold something is told from a disk that knows nothing", "[ledger][spool]") {
  const TemporaryFolder folder;
  CHECK(*read_holders(folder.path()) == std::nullopt);
  REQUIRE(write_holders(folder.path(), {}));
  CHECK(*read_holders(folder.path()) == std::vector<Incarnation>());
  const std::vector<Incarnation> holders{holder_of(1), holder_of(2)};
  REQUIRE(write_holders(folder.path(), holders));
  CHECK(*read_holders(folder.path()) == holders);
  std::ofstream(folder.path() + "/holders") << "nonsense\n";
  CHECK_FALSE(read_holders(folder.path()).has_value());
}

}  // namespace outlast::storage::spool_test
