#include "gpu/decode/kv_pages.hpp"

#include "core/check.hpp"

namespace outlast::gpu {

KvPages::KvPages(std::size_t count) : holders_(count) {
  free_.reserve(count);
  for (std::size_t page = count; page-- > 0;) free_.push_back(static_cast<PageId>(page));
}

std::optional<PageId> KvPages::take() {
  if (free_.empty()) return std::nullopt;
  const PageId page = free_.back();
  free_.pop_back();
  check(holders_[page] == 0, "a free page has no holder");
  holders_[page] = 1;
  return page;
}

void KvPages::hold(PageId page) {
  check(page < holders_.size() && holders_[page] > 0, "a page that is held once more is in use");
  ++holders_[page];
}

void KvPages::drop(PageId page) {
  check(page < holders_.size() && holders_[page] > 0, "a page that is dropped is in use");
  if (--holders_[page] == 0) free_.push_back(page);
}

}  // namespace outlast::gpu
