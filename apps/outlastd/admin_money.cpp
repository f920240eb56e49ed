// The admin interface's calls about budgets and commitments.
#include <algorithm>
#include <utility>

#include "actors/ask.hpp"
#include "apps/outlastd/admin_api.hpp"
#include "apps/outlastd/admin_query.hpp"
#include "apps/report/money_json.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

namespace asio = boost::asio;
using actors::ask;

KnownNames known_names(Daemon& daemon) {
  KnownNames known;
  const auto snapshot = daemon.board().get();
  for (const gateway::Deployment& deployment : snapshot->routing->deployments()) {
    known.providers.push_back(deployment.provider);
    known.models.push_back(deployment.model);
  }
  for (const VirtualKey& key : daemon.ledger().keys()) known.keys.push_back(key.id);
  return known;
}

std::string id_body(const std::string& id, std::string_view done) {
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("id").string(id);
  if (!done.empty()) json.key(done).boolean(true);
  json.end_object();
  return body;
}

}  // namespace

// Sends an actor's message to the accountant; the reply's error becomes the answer's.
template <class Reply, class Message>
asio::awaitable<Result<Reply>> AdminApi::ask_accountant(Message message) {
  const auto actors = co_await children();
  if (!actors) co_return fail(actors.error());
  auto reply = co_await ask<Reply>(loop_, daemon_.system(), actors->accountant, actors::request_timeout,
                                   std::move(message));
  co_return reply;
}

asio::awaitable<AdminApi::Answer> AdminApi::money(const http::Request& request, std::string_view name) {
  const bool get = request.method == "GET";
  const bool post = request.method == "POST";
  const bool erase = request.method == "DELETE";
  if (name == "budgets" && get) return list_budgets();
  if (name == "budgets" && post) return set_budget(request.body);
  if (name.starts_with("budgets/") && erase) return end_money(std::string(name.substr(8)), request, true);
  if (name == "commitments" && get) return list_commitments();
  if (name == "commitments" && post) return add_commitment(request.body);
  if (name.starts_with("commitments/") && erase) return end_money(std::string(name.substr(12)), request, false);
  const auto unknown = []() -> asio::awaitable<Answer> {
    co_return Answer{404, admin_error_body("no such path or method; see docs/admin-api.md", "not_found")};
  };
  return unknown();
}

asio::awaitable<AdminApi::Answer> AdminApi::list_budgets() {
  const auto list = co_await ask_accountant<actors::BudgetList>(actors::budgets_atom::value);
  if (!list) co_return error_answer(list.error());
  const auto book = daemon_.ledger().budget_book();
  co_return Answer{200, budgets_json(*list, [&book](const std::string& id) {
                     std::uint64_t refusals = 0;
                     book->by_scope.visit_all([&](const BudgetBook::Entry& entry) {
                       if (entry.budget.id == id) refusals = entry.refusals();
                     });
                     return refusals;
                   })};
}

asio::awaitable<AdminApi::Answer> AdminApi::set_budget(std::string_view body) {
  auto request = read_budget_request(body);
  if (!request) co_return error_answer(request.error());
  if (const auto known = check_known(request->budget.scope, known_names(daemon_)); !known) {
    co_return error_answer(known.error());
  }
  actors::SetBudget message{std::move(request->budget), std::move(request->by)};
  const auto id = flatten(co_await ask_accountant<actors::IdReply>(std::move(message)));
  if (!id) co_return error_answer(id.error());
  co_return Answer{200, id_body(*id, {})};
}

asio::awaitable<AdminApi::Answer> AdminApi::list_commitments() {
  const auto list = co_await ask_accountant<actors::CommitmentList>(actors::bulk_atom::value);
  if (!list) co_return error_answer(list.error());
  co_return Answer{200, commitments_json(*list, daemon_.clock().wall_ms())};
}

asio::awaitable<AdminApi::Answer> AdminApi::add_commitment(std::string_view body) {
  auto request = read_commitment_request(body);
  if (!request) co_return error_answer(request.error());
  if (const auto known = check_known(request->commitment, known_names(daemon_)); !known) {
    co_return error_answer(known.error());
  }
  actors::AddCommitment message{std::move(request->commitment), std::move(request->by)};
  const auto id = flatten(co_await ask_accountant<actors::IdReply>(std::move(message)));
  if (!id) co_return error_answer(id.error());
  co_return Answer{200, id_body(*id, {})};
}

asio::awaitable<AdminApi::Answer> AdminApi::end_money(std::string id, const http::Request& request, bool budget) {
  std::string by = parameter(request.query(), "by").value_or("admin");
  if (by.empty() || by.size() > 128) {
    co_return Answer{400, admin_error_body("'by' has 1 to 128 bytes", "request")};
  }
  Result<bool> done = false;
  if (budget) {
    actors::RemoveBudget message{id, std::move(by)};
    done = flatten(co_await ask_accountant<actors::Done>(std::move(message)));
  } else {
    actors::EndCommitment message{id, std::move(by)};
    done = flatten(co_await ask_accountant<actors::Done>(std::move(message)));
  }
  if (!done) co_return error_answer(done.error());
  co_return Answer{200, id_body(id, budget ? "removed" : "ended")};
}

}  // namespace outlast::apps
