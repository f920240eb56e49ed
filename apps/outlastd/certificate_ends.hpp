// When the certificates end that a node's configuration names: those made together end together, and a cluster with them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/config/node_config.hpp"

namespace outlast::apps {

struct CertificateEnd {
  std::string file;
  std::int64_t end_ms = 0;  // since 1970
};

// As the files are now; without those that cannot be read, of which whoever uses them complains.
std::vector<CertificateEnd> certificate_ends(const NodeConfig& config);

// A line in the log for each that ends within a month.
void warn_of_certificates(const NodeConfig& config, std::int64_t now_ms);

}  // namespace outlast::apps
