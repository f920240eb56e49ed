// EtcdLog: a SharedLog in etcd. An append is one transaction, which compares the owner's epoch and the tail, and puts
// the batch and the new tail: order, fence and durability at once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/batch_codec.hpp"
#include "cluster/etcd_client.hpp"
#include "cluster/etcd_keys.hpp"
#include "cluster/shared_log.hpp"

namespace outlast::cluster {

class EtcdLog final : public SharedLog {
 public:
  // Rows of one answer; fewer when they are large.
  static constexpr std::uint64_t page_batches_max = 128;
  static constexpr std::size_t page_bytes_aim = 4U << 20;

  EtcdLog(EtcdClient& client, EtcdKeys keys, ShardId shard);

  Result<void> append(std::uint64_t epoch, std::uint64_t next_index, const storage::LogBatch& batch) override;
  [[nodiscard]] std::string_view last_append() const override { return appended_; }
  Result<SharedTail> tail() override;
  Result<void> read(std::uint64_t from, const std::function<bool(const SharedBatch&)>& visit) override;
  Result<void> trim(std::uint64_t below) override;

 private:
  struct Page {
    std::vector<EtcdRow> rows;
    std::uint64_t next_index = 0;  // the tail's
  };
  [[nodiscard]] Failure corrupt(const std::string& what) const;
  [[nodiscard]] Failure trimmed(std::uint64_t from, std::uint64_t begin) const;
  Result<Page> read_page(std::uint64_t from);
  Result<std::uint64_t> parse_tail(const EtcdRangeAnswer& answer) const;
  Result<SharedBatch> decode(const EtcdRow& row);

  EtcdClient& client_;
  const EtcdKeys keys_;
  const ShardId shard_;
  BatchCodec codec_;
  std::string appended_;
  std::uint64_t page_batches_ = 4;
};

}  // namespace outlast::cluster
