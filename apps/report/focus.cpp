#include "apps/report/focus.hpp"

#include <algorithm>

#include "apps/report/csv.hpp"
#include "apps/report/iso_time.hpp"
#include "apps/report/report_error.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

using storage::UsageDimension;
using storage::UsageEvery;

enum Dimension { organisation, team, user, key, route, model, provider, deployment };
const std::vector<UsageDimension> focus_dimensions = {
    UsageDimension::organisation, UsageDimension::team,      UsageDimension::user,
    UsageDimension::key,          UsageDimension::route,     UsageDimension::model_served,
    UsageDimension::provider,     UsageDimension::deployment};

// The mandatory columns of 1.2 and those of its conditional ones that can be told, each in the
// order of the alphabet; then our own, which begin with x_.
const std::vector<std::string> titles = {
    "BilledCost",          "BillingAccountId",   "BillingAccountName", "BillingCurrency",
    "BillingPeriodEnd",    "BillingPeriodStart", "ChargeCategory",     "ChargeClass",
    "ChargeDescription",   "ChargeFrequency",    "ChargePeriodEnd",    "ChargePeriodStart",
    "ConsumedQuantity",    "ConsumedUnit",       "ContractedCost",     "ContractedUnitPrice",
    "EffectiveCost",       "InvoiceIssuerName",  "ListCost",           "ListUnitPrice",
    "PricingCategory",     "PricingQuantity",    "PricingUnit",        "ProviderName",
    "PublisherName",       "ResourceId",         "ResourceName",       "ResourceType",
    "ServiceCategory",     "ServiceName",        "ServiceSubcategory", "SkuId",
    "SkuPriceId",          "SubAccountId",       "SubAccountName",     "Tags",
    "x_Requests",          "x_Attempts",         "x_FailedAttempts",   "x_InputTokens",
    "x_CachedInputTokens", "x_OutputTokens",     "x_UnpricedRequests", "x_EstimatedRequests"};

// "0.001234" of 1,234 tokens, in millions.
std::string in_millions(std::uint64_t tokens) {
  constexpr std::uint64_t million = 1'000'000;
  std::string fraction = std::to_string(tokens % million);
  fraction.insert(0, 6 - fraction.size(), '0');
  return std::to_string(tokens / million) + "." + fraction;
}

std::uint64_t tokens_of(const storage::UsageTotals& totals, std::string_view prefix) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < usage_bucket_count; ++i) {
    if (usage_buckets[i].name.starts_with(prefix)) sum += totals.tokens[i];
  }
  return sum;
}

std::string tags_json(const std::vector<std::string>& group) {
  std::string text;
  JsonWriter json(text);
  json.begin_object();
  json.key("organisation").string(group[organisation]).key("team").string(group[team]);
  json.key("user").string(group[user]).key("key").string(group[key]);
  json.key("route").string(group[route]).end_object();
  return text;
}

std::vector<std::string> line_of(const storage::UsageRow& row, UsageEvery every) {
  const auto& group = row.group;
  const storage::UsageTotals& totals = row.totals;
  // Attempts in doubt name no provider; the columns may not be empty.
  const auto or_unknown = [](const std::string& name) { return name.empty() ? "unknown" : name; };
  const std::int64_t month = bucket_start_ms(UsageEvery::month, row.start_ms);
  const std::string cost = totals.cost.to_usd();
  const std::string provider_name = or_unknown(group[provider]);
  const std::string model_name = or_unknown(group[model]);
  const std::uint64_t tokens = tokens_of(totals, "");
  const auto count = [](std::uint64_t value) { return std::to_string(value); };
  return {cost,
          or_unknown(group[organisation]),
          or_unknown(group[organisation]),
          "USD",
          iso_time(bucket_end_ms(UsageEvery::month, month)),
          iso_time(month),
          "Usage",
          "",
          "Tokens of " + model_name + " asked for as " + or_unknown(group[route]),
          "Usage-Based",
          iso_time(bucket_end_ms(every, row.start_ms)),
          iso_time(row.start_ms),
          count(tokens),
          "Tokens",
          cost,
          "",
          cost,
          provider_name,
          cost,
          "",
          "Standard",
          in_millions(tokens),
          "1000000 Tokens",
          provider_name,
          provider_name,
          group[deployment],
          group[deployment],
          group[deployment].empty() ? "" : "Model deployment",
          "AI and Machine Learning",
          model_name,
          "Generative AI",
          provider_name + "/" + model_name,
          "",
          group[organisation] + "/" + group[team],
          group[team],
          tags_json(group),
          count(totals.requests),
          count(totals.attempts),
          count(totals.failed_attempts),
          count(tokens_of(totals, "input")),
          count(tokens_of(totals, "input_cache_read")),
          count(tokens_of(totals, "output")),
          count(totals.unpriced),
          count(totals.estimated)};
}

}  // namespace

Result<storage::UsageQuery> focus_query(storage::UsageQuery query) {
  if (!query.by.empty() || query.top > 0 || query.sort) {
    return fail(ReportError::malformed,
                "FOCUS rows have their own groups and order; leave out by, top and sort");
  }
  const auto labels = [](const storage::UsageFilter& filter) {
    return filter.dimension == UsageDimension::tag || filter.dimension == UsageDimension::session;
  };
  if (std::count_if(query.where.begin(), query.where.end(), labels) > 1) {
    return fail(ReportError::malformed,
                "FOCUS rows may be of one tag or session only: with two, a charge would stand "
                "there twice");
  }
  query.by = focus_dimensions;
  if (!query.every) query.every = UsageEvery::day;
  return query;
}

std::string focus_csv(const storage::UsageReport& report) {
  std::string csv = csv_line(titles);
  for (const storage::UsageRow& row : report.rows) {
    if (row.totals.attempts == 0) continue;  // voided: nobody was asked, nothing is charged
    csv += csv_line(line_of(row, report.every.value_or(UsageEvery::day)));
  }
  return csv;
}

}  // namespace outlast::apps
