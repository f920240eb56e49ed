// The admin calls for a ledger's signed heads and backups.
#include <utility>

#include <caf/typed_event_based_actor.hpp>
#include <nlohmann/json.hpp>

#include "actors/ask.hpp"
#include "apps/outlastd/admin_api.hpp"
#include "apps/report/ledger_json.hpp"

namespace outlast::apps {

struct BackupWanted {
  std::string folder;
  std::uint32_t keep = storage::backups_kept_default;
};
using BackupReply = Result<storage::BackupReport>;

}  // namespace outlast::apps

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::apps::BackupWanted)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::apps::BackupReply)

namespace outlast::apps {
namespace {

constexpr auto backup_timeout = std::chrono::hours(12);  // it copies what the ledger has

using Backer = caf::typed_actor<caf::replies_to<BackupWanted>::with<BackupReply>>;

// On a thread of its own, which the end of the actor system waits for.
Backer::behavior_type backer(Backer::pointer self, const storage::LedgerStore* ledger) {
  return {[self, ledger](const BackupWanted& wanted) -> BackupReply {
    self->quit();
    return ledger->backup(wanted.folder, wanted.keep);
  }};
}

Result<BackupWanted> read_backup_wanted(std::string_view body) {
  const auto parsed = nlohmann::json::parse(body, nullptr, false);
  const bool good = parsed.is_object() && parsed.contains("folder") &&
                    parsed["folder"].is_string() &&
                    (!parsed.contains("keep") || parsed["keep"].is_number_unsigned());
  BackupWanted wanted;
  const std::uint64_t keep =
      good ? parsed.value("keep", std::uint64_t{storage::backups_kept_default}) : 0;
  if (!good || keep < 1 || keep > storage::backups_kept_max) {
    return fail(storage::LedgerError::invalid,
                R"(send {"folder": "/an/absolute/path", "keep": 7}; keep is 1 to 10000)");
  }
  wanted.folder = parsed["folder"].get<std::string>();
  wanted.keep = static_cast<std::uint32_t>(keep);
  return wanted;
}

}  // namespace

AdminApi::Answer AdminApi::ledger_heads() const {
  const auto heads = daemon_.ledger().signed_heads();
  if (!heads) {
    return {admin_status_of(heads.error()),
            admin_error_body(heads.error().message, heads.error().module)};
  }
  return {200, heads_json(*heads)};
}

boost::asio::awaitable<AdminApi::Answer> AdminApi::backup(std::string_view body) {
  auto wanted = read_backup_wanted(body);
  BackupReply report = fail(storage::LedgerError::invalid, "");
  if (wanted) {
    const Backer actor = daemon_.system().spawn<caf::detached>(backer, &daemon_.ledger());
    auto reply = co_await actors::ask<BackupReply>(loop_, daemon_.system(), actor, backup_timeout,
                                                   std::move(*wanted));
    if (reply) report = std::move(*reply);
    else report = fail(reply.error());
  } else {
    report = fail(wanted.error());
  }
  if (!report) {
    co_return Answer{admin_status_of(report.error()),
                     admin_error_body(report.error().message, report.error().module)};
  }
  co_return Answer{200, backup_json(*report)};
}

}  // namespace outlast::apps
