// Crashes: a process that dies by SIGKILL loses nothing that it was told is durable; one that
// cannot write says nothing.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <set>

#include "storage/ledger_queries.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage::ledger_recovery_test {
namespace {

// What a child reports once an operation is durable.
struct Acknowledged {
  std::array<std::uint8_t, 16> id;
  std::uint8_t kind;  // EntryKind
};
static_assert(sizeof(Acknowledged) == 17);

LedgerOptions child_options(const std::string& path) {
  LedgerOptions options;
  options.path = path;
  options.disk_space = [](const std::string&) -> Result<DiskSpace> {
    return DiskSpace{1ULL << 40, 1ULL << 40};
  };
  return options;
}

// In a child: submits requests for ever and writes what is durable to `out`.
[[noreturn]] void submit_for_ever(const std::string& path, int out, std::uint64_t seed) {
  const SystemClock clock;
  Result<std::unique_ptr<LedgerStore>> store = LedgerStore::open(child_options(path), clock);
  if (!store) ::_exit(3);
  std::mutex mutex;
  std::condition_variable told;
  std::vector<Acknowledged> submitted;
  std::uint64_t durable = 0;
  const auto submitter = (*store)->make_submitter(
      [&](std::uint64_t ticket) {
        const std::lock_guard lock(mutex);
        const auto* first = submitted.data() + durable;
        if (::write(out, first, (ticket - durable) * sizeof(Acknowledged)) < 0) ::_exit(4);
        durable = ticket;
        told.notify_one();
      },
      [](std::uint64_t, const Refused&) { ::_exit(5); });
  UuidGenerator ids(clock, seed);
  Random random(seed);
  const auto submit = [&](MeteringOperation operation, const RequestId& id, EntryKind kind) {
    {
      std::unique_lock lock(mutex);
      told.wait(lock, [&] { return submitted.size() < durable + 200; });
      submitted.push_back({id.bytes, static_cast<std::uint8_t>(kind)});
    }
    if (!submitter->submit(std::move(operation), random.below(3) == 0)) ::_exit(6);
  };
  std::vector<RequestId> running;
  for (;;) {
    const RequestId id = ids.next();
    submit(sample_reservation(id), id, EntryKind::reserve);
    running.push_back(id);
    while (running.size() > random.below(20)) {
      const std::size_t at = random.below(running.size());
      const RequestId end = running[at];
      running[at] = running.back();
      running.pop_back();
      if (random.below(4) == 0) submit(VoidReservation{end, "refused"}, end, EntryKind::voided);
      else submit(sample_settlement(end), end, EntryKind::settle);
    }
  }
}

// Starts a child, kills it after about `acknowledgements`, and returns what it reported.
std::vector<std::pair<RequestId, EntryKind>> run_and_kill(const std::string& path,
                                                          std::uint64_t seed,
                                                          std::size_t acknowledgements) {
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::close(pipe[0]);
    submit_for_ever(path, pipe[1], seed);
  }
  ::close(pipe[1]);
  std::string bytes;
  bool killed = false;
  for (;;) {
    char buffer[4'096];
    pollfd ready{pipe[0], POLLIN, 0};
    REQUIRE(::poll(&ready, 1, 20'000) == 1);
    const ssize_t size = ::read(pipe[0], buffer, sizeof(buffer));
    if (size <= 0) break;
    bytes.append(buffer, static_cast<std::size_t>(size));
    if (!killed && bytes.size() >= acknowledgements * sizeof(Acknowledged)) {
      killed = true;
      ::kill(child, SIGKILL);
    }
  }
  ::close(pipe[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(killed);
  REQUIRE(WIFSIGNALED(status));
  std::vector<std::pair<RequestId, EntryKind>> result;
  for (std::size_t at = 0; at + sizeof(Acknowledged) <= bytes.size(); at += sizeof(Acknowledged)) {
    Acknowledged one;
    std::memcpy(&one, bytes.data() + at, sizeof(one));
    result.emplace_back(RequestId{one.id}, static_cast<EntryKind>(one.kind));
  }
  return result;
}

}  // namespace

TEST_CASE("after each of many kills every acknowledged operation is there exactly once",
          "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  Random random(20);
  std::map<std::pair<RequestId, EntryKind>, int> acknowledged;
  std::uint64_t in_doubt = 0;
  constexpr std::uint64_t rounds = 12;
  for (std::uint64_t round = 1; round <= rounds; ++round) {
    for (const auto& operation : run_and_kill(folder.path(), round, 20 + random.below(3'000)))
      acknowledged[operation] = 0;
    const auto store = open_store(folder.path(), clock);
    in_doubt += store->status().in_doubt_settled;
    REQUIRE(store->status().open_reservations == 0);
    std::set<RequestId> reserved;
    std::set<RequestId> ended;
    std::map<std::pair<RequestId, EntryKind>, int> seen = acknowledged;
    for (const StoredEntry& entry : entries_of(*store)) {
      const RequestId id = request_id_of(entry.body);
      if (const auto at = seen.find({id, entry.kind()}); at != seen.end()) ++at->second;
      if (entry.kind() == EntryKind::reserve) REQUIRE(reserved.insert(id).second);
      if (entry.kind() == EntryKind::settle || entry.kind() == EntryKind::voided)
        REQUIRE(ended.insert(id).second);
    }
    for (const auto& [operation, count] : seen) REQUIRE(count == 1);
    REQUIRE(reserved == ended);
    require_whole(*store);
    const Result<UsageReport> usage = store->usage({});
    REQUIRE(usage);
    CHECK(usage->total.requests == ended.size());
  }
  CHECK(acknowledged.size() > 1'000);
  CHECK(in_doubt > 0);
}

TEST_CASE("usage of a store whose process was killed is whole offline too", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto acknowledged = run_and_kill(folder.path(), 1, 500);
  const Result<std::unique_ptr<LedgerReader>> reader = LedgerReader::open(folder.path());
  REQUIRE(reader);
  std::set<RequestId> ended;
  REQUIRE((*reader)->read(0, [&ended](const StoredEntry& entry) {
    if (entry.kind() == EntryKind::settle || entry.kind() == EntryKind::voided)
      ended.insert(request_id_of(entry.body));
    return true;
  }));
  const Result<UsageReport> usage = (*reader)->usage({});
  REQUIRE(usage);
  CHECK(usage->total.requests == ended.size());
  CHECK(ended.size() > 100);
  const Result<VerifyReport> report = (*reader)->verify();
  REQUIRE(report);
  INFO(report->problem);
  CHECK(report->ok);
  CHECK(report->charged == usage->total.cost);
}

TEST_CASE("a write that fails ends the process with status 70 before anything is acknowledged",
          "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  open_store(folder.path(), clock).reset();
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::close(pipe[0]);
    const int null = ::open("/dev/null", O_WRONLY);
    ::dup2(null, STDERR_FILENO);
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{200'000,
                       200'000};  // bytes a file may grow to: the write-ahead log fails in mid-run
    ::setrlimit(RLIMIT_FSIZE, &limit);
    submit_for_ever(folder.path(), pipe[1], 3);
  }
  ::close(pipe[1]);
  std::string bytes;
  for (char buffer[4'096];;) {
    const ssize_t size = ::read(pipe[0], buffer, sizeof(buffer));
    if (size <= 0) break;
    bytes.append(buffer, static_cast<std::size_t>(size));
  }
  ::close(pipe[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 70);
  REQUIRE(bytes.size() > sizeof(Acknowledged));
  const auto store = open_store(folder.path(), clock);
  std::set<std::pair<RequestId, EntryKind>> stored;
  for (const StoredEntry& entry : entries_of(*store))
    stored.emplace(request_id_of(entry.body), entry.kind());
  for (std::size_t at = 0; at + sizeof(Acknowledged) <= bytes.size(); at += sizeof(Acknowledged)) {
    Acknowledged one;
    std::memcpy(&one, bytes.data() + at, sizeof(one));
    REQUIRE(stored.contains({RequestId{one.id}, static_cast<EntryKind>(one.kind)}));
  }
  require_whole(*store);
}

TEST_CASE("open reservations of a dead process are settled at what they reserved, marked estimated",
          "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  UuidGenerator ids(clock, 1);
  const RequestId id = ids.next();
  {
    const auto store = open_store(folder.path(), clock);
    WaitingSubmitter lane(*store);
    CHECK_FALSE(lane.run(sample_reservation(id)));
  }
  const auto store = open_store(folder.path(), clock);
  CHECK(store->status().in_doubt_settled == 1);
  const std::vector<StoredEntry> entries = entries_of(*store, 2);
  REQUIRE(entries.size() == 2);
  const AttemptLine& line = std::get<proto::Settled>(entries[1].body).settlement.attempt;
  CHECK(line.cost == sample_reservation(id).amount);
  CHECK(line.status == AttemptStatus::in_doubt);
  CHECK(line.estimated());
  CHECK(store->usage({})->total.estimated == 1);
  WaitingSubmitter lane(*store);
  CHECK(is(*lane.run(sample_settlement(id)), LedgerError::already_ended));
  require_whole(*store);
}

}  // namespace outlast::storage::ledger_recovery_test
