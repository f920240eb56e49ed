#include "cluster/batch_codec.hpp"

#include <zstd.h>

#include <bit>
#include <cstring>

#include "core/check.hpp"
#include "core/crypto.hpp"

namespace outlast::cluster {
namespace {

constexpr std::uint8_t batch_format = 1;
constexpr std::size_t checked_bytes = 1 + 3 * sizeof(std::uint64_t) + sizeof(std::uint32_t);
constexpr std::size_t header_bytes = checked_bytes + sizeof(std::uint32_t);
constexpr int zstd_level = 1;  // the commit waits for it

static_assert(std::endian::native == std::endian::little);

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

template <class T>
T take(std::string_view& bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes.remove_prefix(sizeof(T));
  return value;
}

}  // namespace

BatchCodec::BatchCodec() : compressor_(ZSTD_createCCtx()), decompressor_(ZSTD_createDCtx()) {
  check(compressor_ != nullptr && decompressor_ != nullptr, "zstd has memory for its contexts");
  ZSTD_CCtx_setParameter(compressor_, ZSTD_c_compressionLevel, zstd_level);
  ZSTD_CCtx_setParameter(compressor_, ZSTD_c_checksumFlag, 1);
}

BatchCodec::~BatchCodec() {
  ZSTD_freeCCtx(compressor_);
  ZSTD_freeDCtx(decompressor_);
}

void BatchCodec::encode(std::uint64_t first_index, std::uint64_t next_index, std::uint64_t epoch,
                        std::string_view records, std::string& out) {
  check(records.size() <= shared_batch_bytes_max, "a batch fits a shared log");
  out.clear();
  put(out, batch_format);
  put(out, first_index);
  put(out, next_index);
  put(out, epoch);
  put(out, static_cast<std::uint32_t>(records.size()));
  put(out, crc32(out));
  out.resize(header_bytes + ZSTD_compressBound(records.size()));
  const std::size_t size = ZSTD_compress2(compressor_, out.data() + header_bytes, out.size() - header_bytes,
                                          records.data(), records.size());
  check(ZSTD_isError(size) == 0, "zstd compresses what it has room for");
  out.resize(header_bytes + size);
}

bool BatchCodec::decode(std::string_view bytes, SharedBatch& batch) {
  if (bytes.size() < header_bytes) return false;
  const std::string_view header = bytes.substr(0, checked_bytes);
  if (take<std::uint8_t>(bytes) != batch_format) return false;
  batch.first_index = take<std::uint64_t>(bytes);
  batch.next_index = take<std::uint64_t>(bytes);
  batch.epoch = take<std::uint64_t>(bytes);
  const auto size = take<std::uint32_t>(bytes);
  const auto sum = take<std::uint32_t>(bytes);
  if (sum != crc32(header) || size > shared_batch_bytes_max || batch.next_index <= batch.first_index) return false;
  batch.records.resize(size);
  const std::size_t got =
      ZSTD_decompressDCtx(decompressor_, batch.records.data(), size, bytes.data(), bytes.size());
  return ZSTD_isError(got) == 0 && got == size;
}

}  // namespace outlast::cluster
