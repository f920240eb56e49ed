// The admin calls for a ledger: its entries, verification, signed heads and backups.
#include <algorithm>
#include <optional>
#include <utility>

#include <caf/typed_event_based_actor.hpp>
#include <nlohmann/json.hpp>

#include "actors/ask.hpp"
#include "apps/outlastd/admin_api.hpp"
#include "apps/outlastd/admin_query.hpp"
#include "apps/report/ledger_json.hpp"
#include "apps/report/usage_json.hpp"
#include "storage/entry_json.hpp"

namespace outlast::apps {

struct BackupWanted {
  std::string folder;
  std::uint32_t keep = storage::backups_kept_default;
  std::optional<std::string> shard;
};
using BackupReply = Result<storage::BackupReport>;

}  // namespace outlast::apps

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::apps::BackupWanted)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::apps::BackupReply)

namespace outlast::apps {
namespace {

namespace asio = boost::asio;

constexpr std::uint64_t entries_per_answer_max = 10'000;
constexpr auto report_timeout = std::chrono::minutes(10);  // verify reads the whole ledger
constexpr auto backup_timeout = std::chrono::hours(12);    // it copies what the ledger has
constexpr std::string_view say_which =
    "say which ledger: shard control, 0 and so on; 'outlast cluster status' lists them";

using ShardVerifier = caf::typed_actor<caf::replies_to<actors::verify_atom>::with<actors::VerifyReply>>;

// On a thread of its own, which the end of the actor system waits for, as the next ones.
ShardVerifier::behavior_type shard_verifier(ShardVerifier::pointer self, const cluster::ClusterLedger* ledger,
                                            cluster::ShardId shard) {
  return {[self, ledger, shard](actors::verify_atom) -> actors::VerifyReply {
    self->quit();
    return ledger->verify_shard(shard);
  }};
}

using Backer = caf::typed_actor<caf::replies_to<BackupWanted>::with<BackupReply>>;

Backer::behavior_type backer(Backer::pointer self, const storage::LedgerStore* ledger) {
  return {[self, ledger](const BackupWanted& wanted) -> BackupReply {
    self->quit();
    return ledger->backup(wanted.folder, wanted.keep);
  }};
}

Backer::behavior_type shard_backer(Backer::pointer self, const cluster::ClusterLedger* ledger, cluster::ShardId shard,
                                   const std::string& data) {
  return {[self, ledger, shard, data](const BackupWanted& wanted) -> BackupReply {
    self->quit();
    if (const auto good = storage::check_backup_folder(wanted.folder, data); !good) return fail(good.error());
    return ledger->backup_shard(shard, wanted.folder, wanted.keep);
  }};
}

Result<BackupWanted> read_backup_wanted(std::string_view body) {
  const auto parsed = nlohmann::json::parse(body, nullptr, false);
  const bool good = parsed.is_object() && parsed.contains("folder") &&
                    parsed["folder"].is_string() &&
                    (!parsed.contains("shard") || parsed["shard"].is_string()) &&
                    (!parsed.contains("keep") || parsed["keep"].is_number_unsigned());
  BackupWanted wanted;
  const std::uint64_t keep =
      good ? parsed.value("keep", std::uint64_t{storage::backups_kept_default}) : 0;
  if (!good || keep < 1 || keep > storage::backups_kept_max) {
    return fail(storage::LedgerError::invalid,
                R"(send {"folder": "/an/absolute/path", "keep": 7}; keep is 1 to 10000; in a cluster, also "shard": "0")");
  }
  wanted.folder = parsed["folder"].get<std::string>();
  wanted.keep = static_cast<std::uint32_t>(keep);
  if (parsed.contains("shard")) wanted.shard = parsed["shard"].get<std::string>();
  return wanted;
}

}  // namespace

Result<std::optional<cluster::ShardId>> AdminApi::read_shard(const std::optional<std::string>& shard) const {
  if (!shard) return std::optional<cluster::ShardId>{};
  if (daemon_.cluster() == nullptr)
    return fail(storage::LedgerError::invalid, "a node on its own has one ledger; leave out shard");
  cluster::ShardId id = 0;
  if (!cluster::parse_shard_label(*shard, id)) return fail(storage::LedgerError::invalid, std::string(say_which));
  const cluster::ShardId shards = daemon_.cluster()->node().shards();
  if (id != cluster::control_shard && id >= shards) {
    return fail(storage::LedgerError::invalid, "there is no shard " + *shard + "; the cluster's are control and 0 to " +
                                                   std::to_string(shards - 1));
  }
  return std::optional(id);
}

asio::awaitable<AdminApi::Answer> AdminApi::entries(std::string_view query) {
  const auto from = number_parameter(query, "from");
  if (!from) co_return error_answer(from.error());
  const auto limit = number_parameter(query, "limit");
  if (!limit) co_return error_answer(limit.error());
  const auto shard = read_shard(parameter(query, "shard"));
  if (!shard) co_return error_answer(shard.error());
  // An index counts within its shard, so a page of all of them would say nothing of where the next one begins.
  if (daemon_.cluster() != nullptr && !*shard)
    co_return error_answer(fail(storage::LedgerError::invalid, std::string(say_which)).value());
  const std::string label = *shard ? cluster::label_of_shard(**shard) : std::string();
  std::uint64_t left = std::min<std::uint64_t>(static_cast<std::uint64_t>(limit->value_or(1000)), entries_per_answer_max);
  std::uint64_t next = static_cast<std::uint64_t>(from->value_or(0));
  Answer answer;
  answer.type = "application/x-ndjson";
  const auto visit = [&](const storage::StoredEntry& entry) {
    if (left == 0) return false;
    storage::append_entry_json(answer.body, entry, label);
    answer.body += '\n';
    next = entry.header.index + 1;
    return --left > 0;
  };
  const auto read = *shard ? daemon_.cluster()->node().ledger().read_shard(**shard, next, visit)
                           : daemon_.ledger().read(next, visit);
  if (!read) co_return error_answer(read.error());
  answer.next_index = std::to_string(next);
  co_return answer;
}

asio::awaitable<Result<storage::VerifyReport>> AdminApi::verify_ledger(std::optional<cluster::ShardId> shard) {
  if (shard) {
    const ShardVerifier actor =
        daemon_.system().spawn<caf::detached>(shard_verifier, &daemon_.cluster()->node().ledger(), *shard);
    auto reply = co_await actors::ask<actors::VerifyReply>(loop_, daemon_.system(), actor, report_timeout,
                                                           actors::verify_atom::value);
    co_return flatten(std::move(reply));
  }
  const auto actors = co_await children();
  if (!actors) co_return fail(actors.error());
  auto reply = co_await actors::ask<actors::VerifyReply>(loop_, daemon_.system(), actors->accountant, report_timeout,
                                                         actors::verify_atom::value);
  co_return flatten(std::move(reply));
}

asio::awaitable<AdminApi::Answer> AdminApi::verify(std::string_view query) {
  const auto shard = read_shard(parameter(query, "shard"));
  if (!shard) co_return error_answer(shard.error());
  const auto report = co_await verify_ledger(*shard);
  if (!report) co_return error_answer(report.error());
  co_return Answer{200, verify_json(*report)};
}

AdminApi::Answer AdminApi::ledger_heads() const {
  if (daemon_.cluster() != nullptr) return {409, admin_error_body(no_heads_in_cluster, "cluster")};
  const auto heads = daemon_.ledger().signed_heads();
  if (!heads) return error_answer(heads.error());
  return {200, heads_json(*heads)};
}

asio::awaitable<AdminApi::Answer> AdminApi::backup(std::string_view body) {
  auto wanted = read_backup_wanted(body);
  if (!wanted) co_return error_answer(wanted.error());
  const auto shard = read_shard(wanted->shard);
  if (!shard) co_return error_answer(shard.error());
  // Each shard is a ledger of its own, and so has a folder of its own.
  if (daemon_.cluster() != nullptr && !*shard)
    co_return error_answer(fail(storage::LedgerError::invalid, std::string(say_which)).value());
  const Backer actor =
      *shard ? daemon_.system().spawn<caf::detached>(shard_backer, &daemon_.cluster()->node().ledger(), **shard,
                                                     daemon_.config().data)
             : daemon_.system().spawn<caf::detached>(backer, &daemon_.ledger());
  auto reply = co_await actors::ask<BackupReply>(loop_, daemon_.system(), actor, backup_timeout, std::move(*wanted));
  const BackupReply report = flatten(std::move(reply));
  if (!report) co_return error_answer(report.error());
  co_return Answer{200, backup_json(*report)};
}

}  // namespace outlast::apps
