#include "apps/outlastd/certificate_ends.hpp"

#include "core/log.hpp"
#include "http/certificates.hpp"
#include "storage/durable_file.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t pem_bytes_max = 1U << 20;
constexpr std::int64_t day_ms = 86'400'000;
constexpr std::int64_t warned_days = 30;

}  // namespace

std::vector<CertificateEnd> certificate_ends(const NodeConfig& config) {
  std::vector<CertificateEnd> ends;
  for (const std::string& file : {config.tls_cert, config.cluster.etcd_cert, config.cluster.etcd_ca}) {
    if (file.empty()) continue;
    const auto pem = storage::read_whole_file(file, pem_bytes_max);
    const auto end_ms = pem ? http::certificates_end_ms(*pem) : fail(pem.error());
    if (end_ms) ends.push_back({file, *end_ms});
  }
  return ends;
}

void warn_of_certificates(const NodeConfig& config, std::int64_t now_ms) {
  for (const CertificateEnd& one : certificate_ends(config)) {
    const std::int64_t days = (one.end_ms - now_ms) / day_ms;
    if (days < warned_days) log::warning("certificate_ends", {{"file", one.file}, {"days_left", days}, {"effect", "no connection that needs it, from then on"}});
  }
}

}  // namespace outlast::apps
