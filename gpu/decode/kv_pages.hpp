// KvPages: which pages of a key-value cache are in use, and by how many. The numbers themselves are a device's (PagedCache).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace outlast::gpu {

using PageId = std::uint32_t;

// One owner.
class KvPages {
 public:
  explicit KvPages(std::size_t count);
  KvPages(const KvPages&) = delete;
  KvPages& operator=(const KvPages&) = delete;

  // A free page, which the caller holds from now on; no value where all are in use.
  std::optional<PageId> take();
  // One more, or one less, that holds a page in use; it is free when none does.
  void hold(PageId page);
  void drop(PageId page);

  [[nodiscard]] std::uint32_t holders(PageId page) const { return holders_[page]; }
  [[nodiscard]] std::size_t count() const { return holders_.size(); }
  [[nodiscard]] std::size_t free() const { return free_.size(); }

 private:
  std::vector<std::uint32_t> holders_;  // by page
  std::vector<PageId> free_;
};

}  // namespace outlast::gpu
