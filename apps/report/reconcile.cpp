#include "apps/report/reconcile.hpp"

#include <algorithm>
#include <charconv>
#include <set>

#include "apps/report/iso_time.hpp"
#include "apps/report/report_error.hpp"
#include "apps/report/usage_words.hpp"

namespace outlast::apps {
namespace {

constexpr __int128 million = 1'000'000;

// Which class of invoices a bucket of ours is charged as.
TokenClass class_of(std::string_view bucket) {
  if (bucket == "input_cache_read") return TokenClass::cache_read;
  if (bucket.starts_with("input_cache_write")) return TokenClass::cache_write;
  return bucket.starts_with("input") ? TokenClass::input : TokenClass::output;
}

std::uint64_t& of(TokenClasses& tokens, TokenClass token_class) {
  return tokens[static_cast<std::size_t>(token_class)];
}
std::uint64_t of(const TokenClasses& tokens, TokenClass token_class) {
  return tokens[static_cast<std::size_t>(token_class)];
}

std::uint64_t sum_of(const TokenClasses& tokens) {
  std::uint64_t sum = 0;
  for (const std::uint64_t count : tokens) sum += count;
  return sum;
}

__int128 magnitude(__int128 value) { return value < 0 ? -value : value; }

std::string signed_count(__int128 value) {
  return (value > 0 ? "+" : "") + PicoUsd{value}.to_string();
}

// US dollars per million tokens, rounded down to 12 decimals.
std::string price_per_million(PicoUsd cost, std::uint64_t tokens) {
  return "$" + PicoUsd{cost.value * million / tokens}.to_usd();
}

LedgerSide side_of(const storage::UsageTotals& totals, bool input_with_cache) {
  LedgerSide side;
  side.cost = totals.cost;
  side.requests = totals.attempts - totals.failed_attempts;
  side.failed_attempts = totals.failed_attempts;
  side.estimated = totals.estimated;
  side.unpriced = totals.unpriced;
  for (std::size_t i = 0; i < usage_bucket_count; ++i) {
    TokenClass token_class = class_of(usage_buckets[i].name);
    if (input_with_cache && token_class != TokenClass::output) token_class = TokenClass::input;
    of(side.tokens, token_class) += totals.tokens[i];
  }
  return side;
}

// Compares one line that both sides have.
class Comparison {
 public:
  Comparison(const Invoice& invoice, std::uint32_t tolerance_ppm, ReconciledLine& line)
      : invoice_(invoice), tolerance_ppm_(tolerance_ppm), line_(line) {}
  void run();

 private:
  [[nodiscard]] bool close(__int128 a, __int128 b, __int128 slack = 0) const {
    const __int128 difference = magnitude(a - b);
    const __int128 larger = std::max(magnitude(a), magnitude(b));
    return difference <= slack || difference * million <= larger * tolerance_ppm_;
  }
  void add(Difference difference, std::string text) {
    line_.reasons.push_back({difference, std::move(text)});
  }
  void compare_tokens();
  void compare_cost();
  void compare_requests();
  void explain();

  const Invoice& invoice_;
  const __int128 tolerance_ppm_;
  ReconciledLine& line_;
  bool more_there_ = false;  // the invoice has more of something
};

void Comparison::compare_tokens() {
  const TokenClasses& there = line_.invoice->tokens;
  const TokenClasses& here = line_.ledger->tokens;
  const auto gap = [&](TokenClass token_class) {
    return static_cast<__int128>(of(there, token_class)) - of(here, token_class);
  };
  const auto both = [this](TokenClass a, TokenClass b) {
    return invoice_.has_tokens[static_cast<std::size_t>(a)] &&
           invoice_.has_tokens[static_cast<std::size_t>(b)];
  };
  std::set<TokenClass> explained;
  const __int128 uncounted = -gap(TokenClass::cache_read);
  if (both(TokenClass::input, TokenClass::cache_read) && uncounted > 0 &&
      !close(of(there, TokenClass::cache_read), of(here, TokenClass::cache_read)) &&
      close(gap(TokenClass::input), uncounted)) {
    explained = {TokenClass::input, TokenClass::cache_read};
    add(Difference::cache_as_uncached,
        PicoUsd{uncounted}.to_string() +
            " tokens that were read from the cache stand there as uncached input");
    more_there_ = true;
  }
  for (std::size_t i = 0; i < token_class_count; ++i) {
    const auto token_class = static_cast<TokenClass>(i);
    if (!invoice_.has_tokens[i] || explained.contains(token_class) || close(there[i], here[i]))
      continue;
    const __int128 more = gap(token_class);
    more_there_ = more_there_ || more > 0;
    add(Difference::tokens_differ,
        std::string(token_class_names[i]) + " tokens: " + std::to_string(there[i]) + " there, " +
            std::to_string(here[i]) + " here (" + signed_count(more) + ")");
  }
}

void Comparison::compare_cost() {
  if (!invoice_.has_cost) return;
  const PicoUsd there = line_.invoice->cost;
  const PicoUsd here = line_.ledger->cost;
  if (close(there.value, here.value, line_.invoice->rounding.value)) return;
  more_there_ = more_there_ || there > here;
  if (!line_.reasons.empty()) return;  // other tokens cost something else
  const bool tokens_known = std::find(invoice_.has_tokens.begin(), invoice_.has_tokens.end(),
                                      true) != invoice_.has_tokens.end();
  const std::uint64_t tokens = sum_of(line_.ledger->tokens);
  std::string text = "cost: $" + there.to_usd() + " there, $" + here.to_usd() + " here";
  if (tokens_known) text += ", for the same tokens";
  if (tokens > 0) {
    text += "; " + price_per_million(there, tokens) + " there and " +
            price_per_million(here, tokens) + " here per million tokens";
  }
  const std::uint64_t cached = of(line_.ledger->tokens, TokenClass::cache_read);
  if (there > here && cached > 0) {
    text += "; " + std::to_string(cached) +
            " of them were read from the cache here: were they charged in full?";
  }
  add(Difference::price_differs, std::move(text));
}

void Comparison::compare_requests() {
  if (!invoice_.has_requests) return;
  const std::uint64_t there = line_.invoice->requests;
  const std::uint64_t here = line_.ledger->requests;
  if (close(there, here)) return;
  more_there_ = more_there_ || there > here;
  add(Difference::requests_differ,
      "requests: " + std::to_string(there) + " there, " + std::to_string(here) + " here");
}

// What of our own record may be behind it.
void Comparison::explain() {
  if (line_.reasons.empty()) return;
  const LedgerSide& here = *line_.ledger;
  if (here.estimated > 0) {
    add(Difference::estimated, std::to_string(here.estimated) +
                                   " requests are estimated here, since the provider reported no "
                                   "usage");
  }
  if (here.failed_attempts > 0 && more_there_) {
    add(Difference::failed_billed, std::to_string(here.failed_attempts) +
                                       " attempts failed here; the provider may have charged them");
  }
  if (here.unpriced > 0 && invoice_.has_cost) {
    add(Difference::unpriced, std::to_string(here.unpriced) +
                                  " requests have no known price here; add their model to the "
                                  "price book");
  }
}

void Comparison::run() {
  compare_tokens();
  compare_cost();
  compare_requests();
  explain();
}

// By how much the invoice is above the ledger: in money where it has some, else in tokens.
__int128 excess_of(const Invoice& invoice, const ReconciledLine& line) {
  if (invoice.has_cost) {
    return (line.invoice ? line.invoice->cost.value : 0) -
           (line.ledger ? line.ledger->cost.value : 0);
  }
  __int128 excess = 0;
  for (std::size_t i = 0; i < token_class_count; ++i) {
    if (!invoice.has_tokens[i]) continue;
    if (line.invoice) excess += line.invoice->tokens[i];
    if (line.ledger) excess -= line.ledger->tokens[i];
  }
  return excess;
}

// What one day has too much and the next too little was counted in another time zone.
void find_day_shifts(const Invoice& invoice, std::vector<ReconciledLine>& lines) {
  constexpr __int128 cancels_percent = 10;  // what may be left of the larger of the two
  std::map<std::pair<std::string_view, std::string_view>, std::vector<ReconciledLine*>> series;
  for (ReconciledLine& line : lines) series[{line.model, line.key}].push_back(&line);
  for (auto& [name, days] : series) {
    std::vector<std::string> texts(days.size());
    for (std::size_t i = 0; i + 1 < days.size(); ++i) {
      ReconciledLine& before = *days[i];
      ReconciledLine& after = *days[i + 1];
      if (after.day != before.day + 1 || before.agrees() || after.agrees()) continue;
      const __int128 a = excess_of(invoice, before);
      const __int128 b = excess_of(invoice, after);
      const bool opposite = (a > 0) != (b > 0) && a != 0 && b != 0;
      if (!opposite ||
          magnitude(a + b) * 100 > std::max(magnitude(a), magnitude(b)) * cancels_percent)
        continue;
      texts[i] = texts[i + 1] = "what differs on " + iso_day(before.day) + " is there on " +
                                iso_day(after.day) +
                                " the other way round: the provider counts days in another time "
                                "zone";
    }
    for (std::size_t i = 0; i < days.size(); ++i) {
      if (!texts[i].empty()) days[i]->reasons.push_back({Difference::day_shift, texts[i]});
    }
  }
}

}  // namespace

std::optional<std::uint32_t> parse_tolerance(std::string_view text) {
  constexpr std::size_t decimals = 4;  // of a percentage: a part per million
  if (!text.ends_with('%')) return std::nullopt;
  text.remove_suffix(1);
  const std::size_t point = text.find('.');
  std::string digits(text.substr(0, point));
  const std::string fraction(point == text.npos ? "" : text.substr(point + 1));
  if (digits.empty() || fraction.size() > decimals || (point != text.npos && fraction.empty()))
    return std::nullopt;
  digits += fraction + std::string(decimals - fraction.size(), '0');
  std::uint32_t value = 0;
  const auto end = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (end.ec != std::errc{} || end.ptr != digits.data() + digits.size() || value > million)
    return std::nullopt;
  return value;
}

std::string tolerance_text(std::uint32_t ppm) {
  constexpr std::uint32_t ppm_per_percent = 10'000;
  std::string fraction = std::to_string(ppm % ppm_per_percent);
  fraction.insert(0, 4 - fraction.size(), '0');
  return std::to_string(ppm / ppm_per_percent) + "." + fraction + "%";
}

std::string tolerance_advice(std::string_view text) {
  return "'" + std::string(text) + "' is not a tolerance; write a percentage with at most 4 " +
         "decimals, e.g. 1% or 0.25%";
}

Result<std::pair<std::string, std::string>> parse_model_name(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == 0 || equals == text.npos || equals + 1 == text.size()) {
    return fail(ReportError::malformed, "'" + std::string(text) +
                                            "' names no model; write THEIRS=OURS, e.g. "
                                            "claude-fable-5-20261101=claude-fable-5");
  }
  return std::pair(std::string(text.substr(0, equals)), std::string(text.substr(equals + 1)));
}

Result<storage::UsageDimension> read_key_dimension(std::string_view word) {
  using storage::UsageDimension;
  const auto dimension = read_usage_dimension(word);
  if (!dimension) return dimension;
  // Of these, each attempt has exactly one.
  for (const auto possible :
       {UsageDimension::key, UsageDimension::user, UsageDimension::team,
        UsageDimension::organisation, UsageDimension::deployment, UsageDimension::route}) {
    if (*dimension == possible) return dimension;
  }
  return fail(ReportError::malformed,
              "'" + std::string(word) +
                  "' cannot be what an invoice calls a key or project; write one of key, user, "
                  "team, organisation, deployment, route");
}

storage::UsageQuery reconcile_usage_query(const Invoice& invoice, const ReconcileQuery& query) {
  storage::UsageQuery usage;
  usage.by = {storage::UsageDimension::model_served};
  if (invoice.has_key) usage.by.push_back(query.key_is);
  usage.every = storage::UsageEvery::day;
  usage.where = {{storage::UsageDimension::provider, query.provider}};
  usage.since_ms = std::get<0>(invoice.rows.begin()->first) * report_day_ms;
  usage.until_ms = (std::get<0>(invoice.rows.rbegin()->first) + 1) * report_day_ms;
  return usage;
}

Reconciliation reconcile(const Invoice& invoice, const storage::UsageReport& report,
                         const ReconcileQuery& query) {
  Reconciliation result;
  result.provider = query.provider;
  result.first_day = std::get<0>(invoice.rows.begin()->first);
  result.last_day = std::get<0>(invoice.rows.rbegin()->first);
  result.tolerance_ppm = query.tolerance_ppm;
  result.has_key = invoice.has_key;
  result.has_cost = invoice.has_cost;

  std::map<InvoiceKey, ReconciledLine> lines;
  for (const auto& [key, row] : invoice.rows) {
    lines[key].invoice = row;
    result.invoice_cost += row.cost;
  }
  for (const storage::UsageRow& row : report.rows) {
    const LedgerSide side = side_of(row.totals, invoice.input_with_cache);
    result.ledger_cost += side.cost;
    const InvoiceKey key{row.start_ms / report_day_ms, row.group[0],
                         invoice.has_key ? row.group[1] : std::string()};
    // Attempts that failed and cost nothing are on no invoice.
    if (side.cost == PicoUsd{} && sum_of(side.tokens) == 0 && !lines.contains(key)) continue;
    lines[key].ledger = side;
  }
  for (auto& [key, line] : lines) {
    std::tie(line.day, line.model, line.key) = key;
    if (!line.ledger) {
      line.reasons.push_back(
          {Difference::missing_here, "the ledger has no attempt of this day, model" +
                                         std::string(invoice.has_key ? " and key" : "")});
    } else if (!line.invoice) {
      line.reasons.push_back({Difference::missing_there, "the invoice has no such line"});
    } else {
      Comparison(invoice, query.tolerance_ppm, line).run();
    }
    result.lines.push_back(std::move(line));
  }
  find_day_shifts(invoice, result.lines);
  result.agreeing = static_cast<std::uint64_t>(
      std::count_if(result.lines.begin(), result.lines.end(),
                    [](const ReconciledLine& line) { return line.agrees(); }));
  return result;
}

}  // namespace outlast::apps
