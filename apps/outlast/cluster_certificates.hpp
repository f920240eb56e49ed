// The certificates of a cluster's etcd, as files: one authority, a certificate per member, one per node. Shared by
// `outlast cluster certificates` and `outlast cluster demo`.
#pragma once

#include <string>
#include <vector>

#include "core/result.hpp"

namespace outlast::apps {

struct EtcdHost {
  std::string name;                    // of the member and of its files
  std::vector<std::string> addresses;  // DNS names and IP addresses; empty: its name is its address
};

struct CertificatePlan {
  std::string folder;
  std::vector<EtcdHost> hosts;
  std::vector<std::string> nodes;  // names
};

struct CertificateFile {
  std::string path;
  std::string who;   // who needs it
};

// The common name of every member's certificate, and of no other: etcd's peer-cert-allowed-cn.
inline constexpr std::string_view etcd_common_name = "outlast-etcd";

// "NAME" or "NAME=ADDRESS,…". Error: usage.
Result<EtcdHost> parse_etcd_host(const std::string& text);

// Writes ca.crt, ca.key, etcd-NAME.crt and .key, node-NAME.crt and .key, each with mode 0600. Signs with the authority that
// is in the folder, so that machines can be added later; makes one where there is none. Writes nothing when one of the other
// files is there already. Errors: usage, failed.
Result<std::vector<CertificateFile>> make_certificates(const CertificatePlan& plan);

}  // namespace outlast::apps
