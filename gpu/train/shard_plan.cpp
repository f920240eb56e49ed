#include "gpu/train/shard_plan.hpp"

#include <algorithm>

#include "core/check.hpp"

namespace outlast::gpu {

ShardPlan::ShardPlan(const ParameterLayout& layout, std::size_t layers, std::size_t rank, std::size_t ranks) : rank_(rank), ranks_(ranks) {
  check(rank < ranks, "a rank is one of the ranks");
  std::vector<std::size_t> begins{0};
  if (ranks > 1) {
    check(layout.layer_begins().size() == layers + 1, "a plan is of the model's layers");
    begins.insert(begins.end(), layout.layer_begins().begin(), layout.layer_begins().end());
  }
  begins.push_back(layout.count());
  for (std::size_t i = 0; i + 1 < begins.size(); ++i) {
    const Part whole{begins[i], begins[i + 1] - begins[i]};
    Part own = part_of(whole.count, rank, ranks);
    own.begin += whole.begin;
    buckets_.push_back({whole, own, shard_count_});
    shard_count_ += own.count;
  }
}

std::vector<ShardPlan::Overlap> ShardPlan::overlaps(const Part& piece) const {
  std::vector<Overlap> found;
  for (const Bucket& bucket : buckets_) {
    const std::size_t begin = std::max(bucket.own.begin, piece.begin);
    const std::size_t end = std::min(bucket.own.begin + bucket.own.count, piece.begin + piece.count);
    if (begin < end) found.push_back({bucket.shard + begin - bucket.own.begin, begin - piece.begin, end - begin});
  }
  return found;
}

}  // namespace outlast::gpu
