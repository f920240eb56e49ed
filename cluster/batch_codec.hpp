// BatchCodec: a batch of a shared log as the bytes of one value: a header, then the records compressed, each with a
// checksum against damage. (Entries are chained by SHA-256 besides.)
//
//   format      u8   1
//   first_index u64  little-endian, as all
//   next_index  u64
//   epoch       u64
//   size        u32  of the records
//   crc32       u32  of the header before it
//   the records, as one frame of zstd with its checksum
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "cluster/shared_log.hpp"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace outlast::cluster {

// One owner.
class BatchCodec {
 public:
  BatchCodec();
  ~BatchCodec();
  BatchCodec(const BatchCodec&) = delete;
  BatchCodec& operator=(const BatchCodec&) = delete;

  // Replaces `out`. `records` are shared_batch_bytes_max at most.
  void encode(std::uint64_t first_index, std::uint64_t next_index, std::uint64_t epoch, std::string_view records,
              std::string& out);
  // Any bytes give a batch or false. Never more than shared_batch_bytes_max of memory, whatever the bytes say.
  bool decode(std::string_view bytes, SharedBatch& batch);

 private:
  ZSTD_CCtx_s* compressor_;
  ZSTD_DCtx_s* decompressor_;
};

}  // namespace outlast::cluster
