// What a disk can do to a ledger: lose power, fail a sync, be full.
#include <poll.h>
#include <sys/mount.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>

#include "storage/ledger_queries.hpp"
#include "tests/storage/child_process.hpp"
#include "tests/storage/ledger_fixture.hpp"
#include "tests/storage/lossy_file_system.hpp"

namespace outlast::storage::power_loss_test {
namespace {

namespace fs = std::filesystem;

struct Acknowledged {
  std::array<std::uint8_t, 16> id;
  std::uint8_t kind;
};
using Operation = std::pair<RequestId, EntryKind>;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Submits for ever, and writes each operation to the pipe once it is durable.
[[noreturn]] void submit_for_ever(LedgerStore& store, const Clock& clock, int pipe,
                                  std::uint64_t seed) {
  std::mutex mutex;
  std::vector<Acknowledged> submitted;
  std::size_t told = 0;
  const auto submitter = store.make_submitter(
      [&](std::uint64_t ticket) {
        const std::lock_guard lock(mutex);
        const std::size_t bytes = (ticket - told) * sizeof(Acknowledged);
        if (::write(pipe, submitted.data() + told, bytes) != static_cast<ssize_t>(bytes))
          ::_exit(3);
        told = ticket;
      },
      [](std::uint64_t, const Refused&) { ::_exit(4); });
  UuidGenerator ids(clock, seed);
  Random random(seed);
  for (;;) {
    const RequestId id = ids.next();
    for (const EntryKind kind : {EntryKind::reserve, EntryKind::settle}) {
      {
        const std::lock_guard lock(mutex);
        submitted.push_back({id.bytes, static_cast<std::uint8_t>(kind)});
        if (submitted.size() - told > 2'000) submitter->hasten();
      }
      MeteringOperation operation = sample_settlement(id);
      if (kind == EntryKind::reserve) operation = sample_reservation(id);
      while (!submitter->submit(operation, random.below(3) == 0)) std::this_thread::yield();
    }
  }
}

// Runs a child on a lossy disk until it has acknowledged so much (then it is killed) or ends.
struct Run {
  std::vector<Operation> acknowledged;
  int status = 0;
};
Run run_lossy(const std::string& folder, std::uint64_t seed, std::size_t acknowledgements,
              std::int64_t syncs_until_error) {
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  const pid_t child = start_child("submit on a lossy disk",
                                  {{"OUTLAST_TEST_FOLDER", folder},
                                   {"OUTLAST_TEST_SEED", std::to_string(seed)},
                                   {"OUTLAST_TEST_SYNCS", std::to_string(syncs_until_error)},
                                   {"OUTLAST_TEST_PIPE", std::to_string(pipe[1])}});
  ::close(pipe[1]);
  std::string bytes;
  for (char buffer[65'536];;) {
    pollfd ready{pipe[0], POLLIN, 0};
    REQUIRE(::poll(&ready, 1, 60'000) == 1);
    const ssize_t size = ::read(pipe[0], buffer, sizeof(buffer));
    if (size <= 0) break;
    bytes.append(buffer, static_cast<std::size_t>(size));
    if (bytes.size() >= acknowledgements * sizeof(Acknowledged)) ::kill(child, SIGKILL);
  }
  ::close(pipe[0]);
  Run run;
  run.status = wait_for_child(child);
  for (std::size_t at = 0; at + sizeof(Acknowledged) <= bytes.size(); at += sizeof(Acknowledged)) {
    Acknowledged one;
    std::memcpy(&one, bytes.data() + at, sizeof(one));
    run.acknowledged.emplace_back(RequestId{one.id}, static_cast<EntryKind>(one.kind));
  }
  return run;
}

// Files whose names were not synced may be gone.
void lose_names(const std::string& names_file, Random& random) {
  std::ifstream names(names_file);
  for (std::string name; std::getline(names, name);) {
    if (random.below(2) == 0) fs::remove(name);
  }
  fs::remove(names_file);
}

void require_all(const std::string& folder, const std::map<Operation, int>& acknowledged) {
  const SystemClock clock;
  const auto store = open_store(folder, clock);
  std::map<Operation, int> seen = acknowledged;
  for (const StoredEntry& entry : entries_of(*store)) {
    const auto at = seen.find({request_id_of(entry.body), entry.kind()});
    if (at != seen.end()) ++at->second;
  }
  for (const auto& [operation, count] : seen) REQUIRE(count == 1);
  require_whole(*store);
}

// One ledger through several power cuts.
void lose_power(std::uint64_t first_seed, std::uint64_t seeds) {
  const TemporaryFolder folder;
  const std::string ledger = folder.path() + "/ledger";
  Random random(first_seed);
  std::map<Operation, int> acknowledged;
  for (std::uint64_t seed = first_seed; seed < first_seed + seeds; ++seed) {
    const Run run = run_lossy(ledger, seed, 1 + random.below(4'000), -1);
    INFO("seed " << seed);
    REQUIRE(WIFSIGNALED(run.status));
    for (const Operation& operation : run.acknowledged) acknowledged[operation] = 0;
    lose_names(ledger + ".names", random);
    require_all(ledger, acknowledged);
  }
  CHECK(acknowledged.size() > 100 * seeds);
}

}  // namespace

// Not a test: the process that loses power.
TEST_CASE("submit on a lossy disk", "[.child]") {
  const std::string folder = variable("OUTLAST_TEST_FOLDER");
  if (folder.empty()) return;
  LossyOptions lossy;
  lossy.seed = std::stoull(variable("OUTLAST_TEST_SEED"));
  lossy.names_file = folder + ".names";
  lossy.syncs_until_error = std::stoll(variable("OUTLAST_TEST_SYNCS"));
  const auto env = rocksdb::NewCompositeEnv(std::make_shared<LossyFileSystem>(lossy));
  const SystemClock clock;
  LedgerOptions options;
  options.path = folder;
  options.free_bytes_min = 0;
  options.free_fraction_min = 0;
  options.env = env.get();
  const auto store = LedgerStore::open(options, clock);
  if (!store) {
    std::fprintf(stderr, "%s\n", store.error().message.c_str());
    ::_exit(lossy.syncs_until_error >= 0 ? 70 : 5);  // a start whose sync fails is refused
  }
  submit_for_ever(**store, clock, std::stoi(variable("OUTLAST_TEST_PIPE")), lossy.seed);
}

TEST_CASE("a power cut loses nothing that was acknowledged, at any of many moments", "[ledger]") {
  lose_power(1, 25);
}

TEST_CASE("a power cut loses nothing that was acknowledged, at hundreds of moments",
          "[ledger][.slow]") {
  for (std::uint64_t ledger = 0; ledger < 30; ++ledger) lose_power(1'000 + 10 * ledger, 10);
}

TEST_CASE("after a failed sync the process ends with 70 and acknowledges nothing more",
          "[ledger]") {
  Random random(5);
  for (int round = 0; round < 8; ++round) {
    const TemporaryFolder folder;
    const std::string ledger = folder.path() + "/ledger";
    const Run run = run_lossy(ledger, 1, SIZE_MAX / 32,
                              static_cast<std::int64_t>(40 + random.below(200)));
    REQUIRE(WIFEXITED(run.status));
    CHECK(WEXITSTATUS(run.status) == 70);
    std::map<Operation, int> acknowledged;
    for (const Operation& operation : run.acknowledged) acknowledged[operation] = 0;
    require_all(ledger, acknowledged);
  }
}

TEST_CASE("a full file system of 16 MB refuses new requests, writes what ends others, and resumes",
          "[ledger]") {
  const TemporaryFolder mount;
  if (::mount("tmpfs", mount.path().c_str(), "tmpfs", 0, "size=16m") != 0) {
    WARN("skipped: a file system of 16 MB needs the right to mount (run as root)");
    return;
  }
  constexpr std::size_t requests_at_once = 1'000;
  {
    const SystemClock clock;
    LedgerOptions options;
    options.path = mount.path() + "/ledger";
    options.free_bytes_min = 3U << 20;
    options.free_fraction_min = 0;
    auto store = LedgerStore::open(options, clock);
    INFO((store ? std::string() : store.error().message));
    REQUIRE(store);
    const std::string filler = mount.path() + "/filler";
    {
      const std::string block(1U << 20, 'x');
      std::ofstream file(filler, std::ios::binary);
      while (disk_space_of(mount.path())->free_bytes > 6U << 20) file << block << std::flush;
    }
    WaitingSubmitter lane(**store);
    UuidGenerator ids(clock, 1);
    std::deque<RequestId> open;
    std::optional<Error> refused;
    while (!refused) {
      const RequestId id = ids.next();
      const auto ticket = lane.submitter().submit(sample_reservation(id), true);
      if (!ticket) {
        refused = ticket.error();
        continue;
      }
      open.push_back(id);
      if (open.size() < requests_at_once) continue;
      lane.submit(sample_settlement(open.front()), true);
      open.pop_front();
      lane.wait();
    }
    CHECK(is(*refused, LedgerError::disk_full));
    CHECK((*store)->status().disk_full);
    for (const RequestId& id : open) lane.submit(sample_settlement(id), false);
    lane.submitter().hasten();
    lane.wait();
    CHECK(lane.refusals().empty());
    CHECK((*store)->status().open_reservations == 0);
    fs::remove(filler);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    const RequestId id = ids.next();
    while (!lane.submitter().submit(sample_reservation(id), true))
      REQUIRE(std::chrono::steady_clock::now() < deadline);
    require_whole(**store);
    store->reset();
    require_whole(*open_store(options.path, clock));
  }
  CHECK(::umount(mount.path().c_str()) == 0);
}

}  // namespace outlast::storage::power_loss_test
