// The decoder of ledger entries: any bytes give an entry or an error. What decodes encodes again to
// an equal entry.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proto/ledger_codec.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace outlast;
  const Result<proto::LedgerEntry> entry =
      proto::decode_ledger_entry(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!entry) return 0;
  std::string frame;
  proto::LedgerEncoder().append(frame, *entry);
  const Result<proto::LedgerEntry> again = proto::decode_ledger_entry(frame);
  if (!again || *again != *entry) std::abort();
  return 0;
}
