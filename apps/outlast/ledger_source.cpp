#include "apps/outlast/ledger_source.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/folder_ledger.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/terminal.hpp"

namespace outlast::apps {
namespace {

constexpr std::uint64_t node_page_max = 10'000;  // of the admin interface

struct NodeShards {
  LedgerShards shards;
  std::map<std::string, std::uint64_t> entries;  // of those that are here
};

// Of what `GET cluster` answers: a replica whose entries are known is one, others are to come or were not heard of.
NodeShards shards_in(const Json& cluster) {
  NodeShards found;
  const std::string here = text_of(cluster, "node");
  for (const Json& shard : member_of(cluster, "shards")) {
    LedgerShards::Elsewhere elsewhere{text_of(shard, "shard"), {}};
    for (const Json& replica : member_of(shard, "replicas")) {
      if (!member_of(replica, "entries").is_number_unsigned()) continue;
      const std::string node = text_of(replica, "node");
      if (node == here) found.entries[elsewhere.shard] = count_of(replica, "entries");
      else elsewhere.nodes.push_back(node);
    }
    if (found.entries.contains(elsewhere.shard)) found.shards.here.push_back(elsewhere.shard);
    else found.shards.elsewhere.push_back(std::move(elsewhere));
  }
  return found;
}

Result<NodeShards> read_shards(AdminApi& api) {
  const auto answer = api.call("GET", "status");
  if (!answer) return fail(answer.error());
  const auto status = parse_object(answer->body, "the node's status");
  if (!status) return fail(status.error());
  if (text_of(*status, "cluster").empty())
    return NodeShards{{{""}, {}}, {{"", count_of(member_of(*status, "ledger"), "entries")}}};
  const auto cluster_answer = api.call("GET", "cluster");
  if (!cluster_answer) return fail(cluster_answer.error());
  const auto cluster = parse_object(cluster_answer->body, "the cluster's status");
  if (!cluster) return fail(cluster.error());
  return shards_in(*cluster);
}

class NodeLedger final : public LedgerSource {
 public:
  explicit NodeLedger(AdminApi api) : api_(std::move(api)) {}

  Result<LedgerShards> shards() override {
    auto found = read_shards(api_);
    if (!found) return fail(found.error());
    entries_ = std::move(found->entries);
    return std::move(found->shards);
  }

  Result<std::uint64_t> entries(const std::string& shard) override { return entries_[shard]; }

  Result<std::uint64_t> read(const std::string& shard, std::uint64_t from, std::uint64_t limit,
                             const std::function<void(std::string_view)>& visit) override {
    const std::string path = "ledger/entries?from=" + std::to_string(from) +
                             "&limit=" + std::to_string(std::min(limit, node_page_max)) +
                             (shard.empty() ? "" : "&shard=" + url_encoded(shard));
    const auto answer = api_.call("GET", path);
    if (!answer) return fail(answer.error());
    std::uint64_t count = 0;
    for (std::size_t at = 0; at < answer->body.size();) {
      const auto end = std::min(answer->body.find('\n', at), answer->body.size());
      if (end > at) {
        visit(std::string_view(answer->body).substr(at, end - at));
        ++count;
      }
      at = end + 1;
    }
    return count;
  }

  Result<std::string> verify(const std::string& shard) override {
    return body_of(api_.call("POST", "ledger/verify" + (shard.empty() ? "" : "?shard=" + url_encoded(shard)), "{}"));
  }

  Result<std::string> heads() override { return body_of(api_.call("GET", "ledger/heads")); }

  Result<std::string> usage(const storage::UsageQuery& query) override {
    return body_of(api_.call("GET", usage_path(query)));
  }

  Result<std::string> usage_focus(const storage::UsageQuery& query) override {
    return body_of(api_.call("GET", usage_path(query) + "&format=focus"));
  }

  Result<std::string> reconcile(const ReconcileQuery& query, const std::string& csv) override {
    std::string path = "reconcile?provider=" + url_encoded(query.provider);
    for (const ColumnTitle& title : query.map) {
      path += "&map=" + url_encoded(std::string(invoice_column_names[static_cast<std::size_t>(
                                        title.column)]) +
                                    "=" + title.title);
    }
    for (const auto& [theirs, ours] : query.models)
      path += "&model=" + url_encoded(theirs + "=" + ours);
    path += "&key_is=" + std::string(name_of(query.key_is));
    path += "&tolerance=" + url_encoded(tolerance_text(query.tolerance_ppm));
    path += "&file=" + url_encoded(query.file);
    return body_of(api_.call("POST", path, csv));
  }

  Result<std::string> reprice(const RepriceQuery& query) override {
    std::string path = "reprice?file=" + url_encoded(query.file);
    if (!query.version.empty()) path += "&version=" + url_encoded(query.version);
    append_times(path, query.since_ms, query.until_ms);
    return body_of(api_.call("POST", path, query.toml));
  }

 private:
  static void append_times(std::string& path, const std::optional<std::int64_t>& since_ms,
                           const std::optional<std::int64_t>& until_ms) {
    if (since_ms) path += "&since=" + std::to_string(*since_ms);
    if (until_ms) path += "&until=" + std::to_string(*until_ms);
  }

  static std::string usage_path(const storage::UsageQuery& query) {
    std::string path = "usage?by=";
    for (const auto dimension : query.by) {
      if (!path.ends_with('=')) path += ',';
      path += name_of(dimension);
    }
    append_times(path, query.since_ms, query.until_ms);
    if (query.every) path += "&every=" + std::string(name_of(*query.every));
    for (const storage::UsageFilter& filter : query.where) {
      path += "&where=" + url_encoded(std::string(name_of(filter.dimension)) + "=" + filter.value);
    }
    if (query.top > 0) path += "&top=" + std::to_string(query.top);
    if (query.sort) {
      path += "&sort=";
      path += storage::usage_sort_names[static_cast<std::size_t>(*query.sort)];
    }
    return path;
  }

  static Result<std::string> body_of(Result<HttpAnswer> answer) {
    if (!answer) return fail(answer.error());
    return std::move(answer->body);
  }

  AdminApi api_;
  std::map<std::string, std::uint64_t> entries_;  // by shard, when shards() was asked
};

bool node_file_exists(const std::string& data) {
  std::error_code error;
  return std::filesystem::exists(data + "/node.json", error);
}

std::string comma_list(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : ", ") + word;
  return printable(list);
}

}  // namespace

Result<LedgerShards> shards_of_node(AdminApi& api) {
  auto found = read_shards(api);
  if (!found) return fail(found.error());
  return std::move(found->shards);
}

Result<LedgerShards> wanted_shards(Result<LedgerShards> shards, const std::string& wanted) {
  if (!shards || wanted.empty()) return shards;
  if (!shards->in_cluster())
    return fail(CliError::usage, "a node on its own has one ledger; leave out --shard");
  const auto& here = shards->here;
  if (std::find(here.begin(), here.end(), wanted) != here.end()) return LedgerShards{{wanted}, {}};
  for (const LedgerShards::Elsewhere& elsewhere : shards->elsewhere) {
    if (elsewhere.shard != wanted) continue;
    return fail(CliError::not_found,
                "this node has no replica of shard " + printable(wanted) +
                    (elsewhere.nodes.empty() ? ", and was told of none"
                                             : "; ask a node that has one: " + comma_list(elsewhere.nodes)));
  }
  return fail(CliError::not_found,
              "there is no shard '" + printable(wanted) + "' here; there are " + comma_list(here));
}

std::string words_of(const LedgerShards::Elsewhere& elsewhere) {
  return "shard " + printable(elsewhere.shard) + " (" + (elsewhere.nodes.empty() ? "nobody" : comma_list(elsewhere.nodes)) + ")";
}

void note_elsewhere(const LedgerShards& shards) {
  std::string text;
  for (const LedgerShards::Elsewhere& elsewhere : shards.elsewhere) text += (text.empty() ? "" : ", ") + words_of(elsewhere);
  if (!text.empty()) std::fprintf(stderr, "outlast: not at this node: %s\n", text.c_str());
}

Result<std::unique_ptr<LedgerSource>> open_ledger_source(const GlobalOptions& options) {
  const bool folder_possible = !options.data.empty() && options.admin.empty();
  if (folder_possible && !node_file_exists(options.data)) return open_folder_ledger(options.data);
  auto api = AdminApi::find(options);
  if (!api) return fail(api.error());
  if (folder_possible) {
    const auto answer = api->call("GET", "status");
    if (!answer && is(answer.error(), CliError::unreachable))
      return open_folder_ledger(options.data);
  }
  return std::make_unique<NodeLedger>(std::move(*api));
}

}  // namespace outlast::apps
