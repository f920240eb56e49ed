// ReportThread: runs what reads the ledger for long, one report after another, beside the control
// thread. Owned by the control thread; its destructor ends the report in work.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "apps/report/report_error.hpp"
#include "core/result.hpp"

namespace outlast::apps {

class ReportThread {
 public:
  static constexpr int waiting_max = 8;
  // Looks at `stop` now and then and gives up when it is set.
  using Work = std::function<Result<std::string>(const std::atomic<bool>& stop)>;

  ReportThread() : pool_(1) {}
  ~ReportThread() {
    stop_ = true;
    pool_.join();
  }
  ReportThread(const ReportThread&) = delete;
  ReportThread& operator=(const ReportThread&) = delete;

  // Errors: the work's, or that too many wait already.
  boost::asio::awaitable<Result<std::string>> run(Work work) {
    namespace asio = boost::asio;
    if (waiting_ >= waiting_max)
      co_return fail(ReportError::busy, "too many reports wait; ask again in a while");
    ++waiting_;
    // Named, since gcc 12 frees a temporary of a co_await expression twice.
    asio::awaitable<Result<std::string>> task = perform(std::move(work));
    auto done = asio::co_spawn(pool_, std::move(task), asio::use_awaitable);
    Result<std::string> result = co_await std::move(done);
    --waiting_;
    co_return result;
  }

 private:
  boost::asio::awaitable<Result<std::string>> perform(Work work) {
    if (stop_) co_return fail(ReportError::stopped, "the node stops; ask again when it is back");
    co_return work(stop_);
  }

  std::atomic<bool> stop_{false};
  int waiting_ = 0;  // the control thread's
  boost::asio::thread_pool pool_;
};

}  // namespace outlast::apps
