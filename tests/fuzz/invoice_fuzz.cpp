// Any bytes are an invoice or an error that names its place.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "apps/report/invoice.hpp"
#include "core/check.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace outlast::apps;
  const std::string_view csv(reinterpret_cast<const char*>(data), size);
  const auto invoice = read_invoice(csv, "f", {}, {});
  if (invoice) outlast::check(!invoice->rows.empty(), "an invoice has lines");
  else outlast::check(invoice.error().message.starts_with("f: line "), "an error names its place");
  return 0;
}
