// outlast cluster certificates
#include "apps/outlast/cluster_certificates.hpp"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/terminal.hpp"
#include "http/certificates.hpp"
#include "storage/durable_file.hpp"

namespace outlast::apps {
namespace {

constexpr unsigned private_mode = 0600;
constexpr std::size_t pem_bytes_max = 65'536;
constexpr std::size_t name_bytes_max = 48;  // with "node " before it, it fits a common name

Result<void> check_file_name(const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  };
  if (!name.empty() && name.size() <= name_bytes_max && name.front() != '.' && name.front() != '-' &&
      std::all_of(name.begin(), name.end(), fits)) {
    return {};
  }
  return fail(CliError::usage, "'" + printable(name) + "' is no name of a machine or node; it has 1 to " +
                                   std::to_string(name_bytes_max) + " of the letters a-z, A-Z, 0-9, -, _ and .");
}

Result<void> write_pair(const std::string& stem, const http::CertificatePair& pair) {
  // The key first: a certificate without its key would be worth nothing, and stop the next attempt.
  auto written = storage::write_file_durably(stem + ".key", pair.key, private_mode);
  if (written) written = storage::write_file_durably(stem + ".crt", pair.certificate, private_mode);
  if (!written) return fail(CliError::failed, written.error().message);
  return {};
}

Result<http::CertificateAuthority> load_authority(const std::string& stem) {
  auto certificate = storage::read_whole_file(stem + ".crt", pem_bytes_max);
  if (!certificate) return fail(CliError::failed, certificate.error().message);
  auto key = storage::read_whole_file(stem + ".key", pem_bytes_max);
  if (!key) {
    return fail(CliError::failed, key.error().message + "; only who has the authority's key can sign for more machines");
  }
  auto authority = http::CertificateAuthority::load({std::move(*certificate), std::move(*key)});
  if (!authority) return fail(CliError::failed, stem + ".crt: " + authority.error().message);
  return authority;
}

Result<http::CertificateAuthority> new_authority() {
  auto authority = http::CertificateAuthority::make("Outlast cluster authority");
  if (!authority) return fail(CliError::failed, authority.error().message);
  return authority;
}

Result<void> make_folder(const std::string& folder) {
  std::error_code error;
  if (std::filesystem::exists(folder, error)) return {};
  if (!std::filesystem::create_directories(folder, error)) {
    return fail(CliError::failed, folder + " cannot be made: " + error.message());
  }
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
  return {};
}

http::CertificateRequest request_for(const EtcdHost& host) {
  http::CertificateRequest request;
  request.common_name = etcd_common_name;
  // etcd's JSON gateway asks its own member, as a client: such a certificate is for both.
  request.server = true;
  request.hosts = host.addresses.empty() ? std::vector<std::string>{host.name} : host.addresses;
  for (const char* local : {"localhost", "127.0.0.1"}) {
    if (std::find(request.hosts.begin(), request.hosts.end(), local) == request.hosts.end()) request.hosts.emplace_back(local);
  }
  return request;
}

struct Wanted {
  std::string stem;
  http::CertificateRequest request;
  std::string who;
};

Result<std::vector<Wanted>> wanted_of(const CertificatePlan& plan) {
  std::vector<Wanted> wanted;
  std::set<std::string> stems;
  for (const EtcdHost& host : plan.hosts) {
    if (auto good = check_file_name(host.name); !good) return fail(good.error());
    wanted.push_back({plan.folder + "/etcd-" + host.name, request_for(host), "etcd member " + host.name});
  }
  for (const std::string& node : plan.nodes) {
    if (auto good = check_file_name(node); !good) return fail(good.error());
    http::CertificateRequest request;
    request.common_name = "node " + node;
    wanted.push_back({plan.folder + "/node-" + node, request, "node " + node});
  }
  for (const Wanted& one : wanted) {
    if (!stems.insert(one.stem).second) return fail(CliError::usage, one.who + " is named twice");
    for (const char* ending : {".crt", ".key"}) {
      std::error_code error;
      if (std::filesystem::exists(one.stem + ending, error)) {
        return fail(CliError::failed, one.stem + ending +
                                          " is there already and is not overwritten; remove it to make another, or name "
                                          "only machines that are new");
      }
    }
  }
  return wanted;
}

struct CertificateOptions {
  std::string folder;
  std::vector<std::string> hosts;
  std::vector<std::string> nodes;
};

void print_files(const GlobalOptions& global, const std::vector<CertificateFile>& files) {
  if (global.json) {
    Json list = Json::array();
    for (const CertificateFile& file : files) list.push_back({{"path", file.path}, {"who", file.who}});
    print(Json{{"files", list}}.dump() + "\n");
    return;
  }
  Table table({{"FILE"}, {"WHO NEEDS IT"}});
  for (const CertificateFile& file : files) table.add({printable(file.path), file.who});
  print(table.text());
}

Result<void> run_certificates(const GlobalOptions& global, const CertificateOptions& options) {
  CertificatePlan plan{options.folder, {}, options.nodes};
  for (const std::string& text : options.hosts) {
    auto host = parse_etcd_host(text);
    if (!host) return fail(host.error());
    plan.hosts.push_back(std::move(*host));
  }
  if (plan.hosts.empty() && plan.nodes.empty()) {
    return fail(CliError::usage, "name the machines: --host NAME[=ADDRESS,…] for each etcd member, --node NAME for each node");
  }
  const auto files = make_certificates(plan);
  if (!files) return fail(files.error());
  print_files(global, *files);
  return {};
}

}  // namespace

Result<EtcdHost> parse_etcd_host(const std::string& text) {
  const auto equals = text.find('=');
  EtcdHost host{text.substr(0, equals), {}};
  if (equals == std::string::npos) return host;
  for (std::size_t at = equals + 1; at <= text.size();) {
    const auto end = std::min(text.find(',', at), text.size());
    if (end == at) return fail(CliError::usage, "'" + printable(text) + "' has an empty address; write NAME=ADDRESS,ADDRESS");
    host.addresses.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return host;
}

Result<std::vector<CertificateFile>> make_certificates(const CertificatePlan& plan) {
  const auto wanted = wanted_of(plan);
  if (!wanted) return fail(wanted.error());
  const std::string authority_stem = plan.folder + "/ca";
  std::error_code error;
  const bool has_one = std::filesystem::exists(authority_stem + ".crt", error) ||
                       std::filesystem::exists(authority_stem + ".key", error);
  const auto authority = has_one ? load_authority(authority_stem) : new_authority();
  if (!authority) return fail(authority.error());
  // Everything is signed before anything is written: a wrong address leaves no half of a set behind.
  std::vector<std::pair<std::string, http::CertificatePair>> pairs;
  std::vector<CertificateFile> files;
  files.push_back({authority_stem + ".crt", "every etcd member and every node"});
  files.push_back({authority_stem + ".key", "nobody: keep it offline, it lets machines in"});
  if (!has_one) {
    const auto pem = authority->pem();
    if (!pem) return fail(CliError::failed, pem.error().message);
    pairs.emplace_back(authority_stem, *pem);
  }
  for (const Wanted& one : *wanted) {
    const auto pair = authority->issue(one.request);
    if (!pair) return fail(CliError::usage, one.who + ": " + pair.error().message);
    pairs.emplace_back(one.stem, *pair);
    files.push_back({one.stem + ".crt", one.who});
    files.push_back({one.stem + ".key", one.who});
  }
  if (auto made = make_folder(plan.folder); !made) return fail(made.error());
  for (const auto& [stem, pair] : pairs) {
    if (auto written = write_pair(stem, pair); !written) return fail(written.error());
  }
  return files;
}

void add_cluster_certificates(CommandLine& line, CLI::App& cluster) {
  auto options = std::make_shared<CertificateOptions>();
  CLI::App* command = line.add_command(
      cluster, "certificates", "makes a private authority, and with it the certificates of etcd members and nodes",
      [&line, options] { return run_certificates(line.options, *options); });
  command->add_option("--out", options->folder, "the folder; an authority that is in it signs")->required()->type_name("DIR");
  command->add_option("--host", options->hosts, "a machine of etcd and how others reach it; repeat for each")
      ->type_name("NAME[=ADDRESS,...]")
      ->allow_extra_args(false);
  command->add_option("--node", options->nodes, "a node of the cluster; repeat for each")
      ->type_name("NAME")
      ->allow_extra_args(false);
}

}  // namespace outlast::apps
