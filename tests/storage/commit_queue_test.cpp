#include "storage/commit_queue.hpp"

#include <catch2/catch.hpp>

#include <atomic>
#include <thread>

namespace outlast::storage::commit_queue_test {
namespace {

using namespace std::chrono_literals;

Submission operation(std::uint64_t ticket) {
  Submission submission;
  submission.ticket = ticket;
  return submission;
}

}  // namespace

TEST_CASE("operations come out in the order in which they went in", "[ledger]") {
  CommitQueue queue(100, 1ms);
  for (std::uint64_t i = 1; i <= 5; ++i) REQUIRE(queue.push(operation(i), i == 5));
  std::vector<Submission> batch;
  REQUIRE(queue.take(batch));
  REQUIRE(batch.size() == 5);
  for (std::uint64_t i = 1; i <= 5; ++i) CHECK(batch[i - 1].ticket == i);
  CHECK(queue.size() == 0);
}

TEST_CASE("a full queue refuses new requests, then what ends them, never a farewell", "[ledger]") {
  CommitQueue queue(2, 1ms);
  const auto ending = [] {
    Submission submission;
    submission.operation = Settlement{};
    return submission;
  };
  REQUIRE(queue.push(operation(1), false));
  REQUIRE(queue.push(operation(2), false));
  CHECK(is(queue.push(operation(3), true).error(), LedgerError::overloaded));
  CHECK(queue.push(ending(), false));
  CHECK(queue.push(ending(), false));
  CHECK(is(queue.push(ending(), false).error(), LedgerError::overloaded));
  Submission farewell;
  farewell.farewell = std::make_shared<Recipient>();
  CHECK(queue.push(std::move(farewell), false));
}

TEST_CASE("what waits lazily is due at once when someone comes to wait for it", "[ledger]") {
  CommitQueue queue(10, 1h);
  REQUIRE(queue.push(operation(1), false));
  std::vector<Submission> batch;
  std::thread committer([&queue, &batch] { queue.take(batch); });
  queue.hasten();
  committer.join();
  CHECK(batch.size() == 1);
}

TEST_CASE("a stopped queue takes nothing in and gives out what it holds", "[ledger]") {
  CommitQueue queue(10, 1h);
  REQUIRE(queue.push(operation(1), false));
  queue.stop();
  CHECK(is(queue.push(operation(2), true).error(), LedgerError::stopped));
  std::vector<Submission> batch;
  CHECK(queue.take(batch));
  CHECK(batch.size() == 1);
  batch.clear();
  CHECK_FALSE(queue.take(batch));
}

TEST_CASE(
    "an operation that nobody waits for is due after the lazy time, with an urgent one at once",
    "[ledger]") {
  CommitQueue patient(10, 1h);
  REQUIRE(patient.push(operation(1), false));
  std::vector<Submission> batch;
  std::thread committer([&patient, &batch] { patient.take(batch); });
  REQUIRE(patient.push(operation(2), true));  // ends the wait of an hour
  committer.join();
  CHECK(batch.size() == 2);

  CommitQueue lazy(10, 2ms);
  REQUIRE(lazy.push(operation(1), false));
  std::vector<Submission> late;
  const auto start = std::chrono::steady_clock::now();
  REQUIRE(lazy.take(late));
  CHECK(std::chrono::steady_clock::now() - start >= 2ms);
  CHECK(late.size() == 1);
}

TEST_CASE("many threads submit and every operation comes out once, in the order of its thread",
          "[ledger]") {
  constexpr std::uint64_t each = 20'000;
  CommitQueue queue(1'000'000, 1ms);
  std::vector<std::thread> lanes;
  std::vector<Recipient> recipients(3);
  std::atomic<bool> refused{false};
  for (Recipient& recipient : recipients) {
    lanes.emplace_back([&queue, &recipient, &refused] {
      for (std::uint64_t i = 1; i <= each; ++i) {
        Submission submission = operation(i);
        submission.recipient = &recipient;
        if (!queue.push(std::move(submission), i % 3 == 0 || i == each)) refused = true;
      }
    });
  }
  std::uint64_t taken = 0;
  std::vector<Submission> batch;
  while (taken < each * recipients.size() && queue.take(batch)) {
    for (const Submission& submission : batch) {
      REQUIRE(submission.ticket == submission.recipient->batch_ticket + 1);
      submission.recipient->batch_ticket = submission.ticket;
    }
    taken += batch.size();
    batch.clear();
  }
  for (std::thread& lane : lanes) lane.join();
  CHECK(taken == each * recipients.size());
  CHECK_FALSE(refused);
}

}  // namespace outlast::storage::commit_queue_test
