// MergedTail: the newest entries of several shards in the order of their times: an index counts within its shard. While it
// follows, in the order of their times as far as they have come: a replica may lag. Replicas may come and go meanwhile.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/outlast/ledger_source.hpp"

namespace outlast::apps {

// One owner.
class MergedTail {
 public:
  using LineOf = std::function<std::string(std::string_view json)>;
  struct News {
    std::string lines;
    std::vector<std::string> changes;  // a replica that came, one that went: a sentence each
    bool more = false;                 // has come already
  };

  // `source` outlives it. `line_of`: an entry as it is shown. At most `page` entries are read at once.
  MergedTail(LedgerSource& source, LineOf line_of, std::uint64_t page) : source_(source), line_of_(std::move(line_of)), page_(page) {}

  // The newest `count` entries of these shards, at most a page.
  Result<std::string> newest(const std::vector<std::string>& shards, std::uint64_t count);
  // What came since. `look`: also for replicas that came or went; a shard that cannot be read is looked for anyway. One that comes
  // is shown from where it was left, or else from now on. Errors: of a read that no replica's leaving explains.
  Result<News> next(bool look);

 private:
  struct Place {
    std::string shard;
    std::uint64_t next = 0;
    bool is_here = true;
  };
  struct Line {
    std::int64_t time_ms = 0;
    std::string text;
  };
  Result<std::uint64_t> read_on(Place& place, std::uint64_t limit);
  Result<std::vector<std::string>> look_again();
  std::vector<Place>::iterator place_of(const std::string& shard);
  void sort();
  std::string take_lines();

  LedgerSource& source_;
  const LineOf line_of_;
  const std::uint64_t page_;
  std::vector<Place> places_;
  std::vector<Line> lines_;
};

}  // namespace outlast::apps
