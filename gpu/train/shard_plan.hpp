// ShardPlan: which of a model's numbers a rank steps (ZeRO-1, Rajbhandari et al. 2020). The flat array is cut into buckets, one for
// each layer, and each bucket into parts, one for each rank: so a layer's gradients can travel while those of the layer below are
// computed, and every rank has as much to do. A rank's shard is its parts, one after the other; moments exist only there.
#pragma once

#include <cstddef>
#include <vector>

#include "gpu/collective/collective.hpp"
#include "gpu/model/parameters.hpp"

namespace outlast::gpu {

// Immutable.
class ShardPlan {
 public:
  // Of one rank alone there is one bucket.
  ShardPlan(const ParameterLayout& layout, std::size_t layers, std::size_t rank, std::size_t ranks);

  [[nodiscard]] std::size_t rank() const { return rank_; }
  [[nodiscard]] std::size_t ranks() const { return ranks_; }
  [[nodiscard]] std::size_t shard_count() const { return shard_count_; }

  // Of several ranks, in the order of the flat array: the embedding, the layers, what comes after them. Of an adapter only the layers
  // have numbers.
  struct Bucket {
    Part whole;             // of the flat array
    Part own;               // of the flat array
    std::size_t shard = 0;  // where own begins in the shard
  };
  [[nodiscard]] const std::vector<Bucket>& buckets() const { return buckets_; }
  [[nodiscard]] const Bucket& embedding() const { return buckets_.front(); }
  [[nodiscard]] const Bucket& layer(std::size_t number) const { return buckets_[number + 1]; }
  [[nodiscard]] const Bucket& last() const { return buckets_.back(); }

  // What the rank owns of a piece of the flat array.
  struct Overlap {
    std::size_t shard = 0;  // where it begins in the shard
    std::size_t piece = 0;  // and in the piece
    std::size_t count = 0;
  };
  [[nodiscard]] std::vector<Overlap> overlaps(const Part& piece) const;

 private:
  std::size_t rank_;
  std::size_t ranks_;
  std::size_t shard_count_ = 0;
  std::vector<Bucket> buckets_;
};

}  // namespace outlast::gpu
