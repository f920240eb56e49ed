// The admin interface's reports: usage, reconcile, reprice. They read the ledger for long, so they
// run beside the control thread: usage by the accountant, the others on a thread of their own.
#include <chrono>
#include <utility>

#include "actors/ask.hpp"
#include "apps/outlastd/admin_api.hpp"
#include "apps/outlastd/admin_query.hpp"
#include "apps/report/focus.hpp"
#include "apps/report/report_error.hpp"
#include "apps/report/usage_json.hpp"

namespace outlast::apps {
namespace {

namespace asio = boost::asio;
constexpr auto usage_timeout = std::chrono::minutes(10);

}  // namespace

asio::awaitable<AdminApi::Answer> AdminApi::usage(std::string_view query) {
  const std::string format = parameter(query, "format").value_or("json");
  const bool focus = format == "focus";
  auto parsed = read_usage_query(query);
  if (parsed && format != "json" && !focus)
    parsed = fail(ReportError::malformed, "the parameter 'format' takes json or focus");
  if (parsed && focus) parsed = focus_query(std::move(*parsed));
  if (!parsed) co_return error_answer(parsed.error());
  const auto actors = co_await children();
  if (!actors) co_return error_answer(actors.error());
  auto reply = co_await actors::ask<actors::UsageReply>(loop_, daemon_.system(), actors->accountant,
                                                        usage_timeout, std::move(*parsed));
  if (!reply) co_return error_answer(reply.error());
  const actors::UsageReply& report = *reply;
  if (!report) co_return error_answer(report.error());
  Answer answer;
  if (focus) answer.type = "text/csv; charset=utf-8";
  answer.body = focus ? focus_csv(*report) : usage_json(*report);
  co_return answer;
}

asio::awaitable<AdminApi::Answer> AdminApi::reconcile(std::string_view query, std::string csv) {
  auto parsed = read_reconcile_query(query);
  if (!parsed) co_return error_answer(parsed.error());
  ReportThread::Work work = [this, parsed = std::move(*parsed), csv = std::move(csv)](
                                const std::atomic<bool>&) -> Result<std::string> {
    const auto invoice = read_invoice(csv, parsed.file, parsed.map, parsed.models);
    if (!invoice) return fail(invoice.error());
    const auto report = daemon_.ledger().usage(reconcile_usage_query(*invoice, parsed));
    if (!report) return fail(report.error());
    return reconcile_json(apps::reconcile(*invoice, *report, parsed));
  };
  auto result = co_await reports_.run(std::move(work));
  if (!result) co_return error_answer(result.error());
  co_return Answer{200, std::move(*result)};
}

asio::awaitable<AdminApi::Answer> AdminApi::reprice(std::string_view query, std::string toml) {
  auto parsed = read_reprice_query(query, toml);
  if (!parsed) co_return error_answer(parsed.error());
  ReportThread::Work work =
      [this, parsed = std::move(*parsed)](const std::atomic<bool>& stop) -> Result<std::string> {
    const auto owned = daemon_.ledger().views();
    if (!owned) return fail(owned.error());
    std::vector<const storage::LedgerView*> views;
    for (const auto& view : *owned) views.push_back(view.get());
    const auto report = apps::reprice(views, parsed, stop);
    if (!report) return fail(report.error());
    return reprice_json(*report);
  };
  auto result = co_await reports_.run(std::move(work));
  if (!result) co_return error_answer(result.error());
  co_return Answer{200, std::move(*result)};
}

}  // namespace outlast::apps
