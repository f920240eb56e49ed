// Wakeup: a coroutine's wait for whatever concerns its connection next (bytes, a deadline, a
// cancellation). The waiter looks at the connection's state again after each wake-up; there may be
// more wake-ups than reasons.
#pragma once

#include <optional>
#include <utility>

#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace outlast::http {

namespace asio = boost::asio;

// At most one waiter. Owned by one lane.
class Wakeup {
 public:
  asio::awaitable<void> wait() {
    return asio::async_initiate<const asio::use_awaitable_t<>, void()>(Store{this},
                                                                       asio::use_awaitable);
  }
  [[nodiscard]] bool waiting() const { return waiter_.has_value(); }
  // Resumes the waiter, if there is one, before this returns: the last thing that a callback does.
  void notify() {
    if (!waiter_) return;
    auto waiter = std::move(*waiter_);
    waiter_.reset();
    std::move(waiter)();
  }
  // Destroys the waiting coroutine: for when the event that would resume it was destroyed with its
  // io_context.
  void abandon() { const auto waiter = std::exchange(waiter_, std::nullopt); }

 private:
  using Waiter = asio::async_result<asio::use_awaitable_t<>, void()>::handler_type;
  struct Store {
    Wakeup* wakeup;
    void operator()(Waiter waiter) const { wakeup->waiter_.emplace(std::move(waiter)); }
  };
  std::optional<Waiter> waiter_;
};

// Holds a connection for a pending operation of Asio. When the operation is destroyed instead of
// completed (the io_context ends), the coroutine that waits for it is destroyed too, and with it
// the last owner of the connection.
template <class Connection>
class PendingOperation {
 public:
  explicit PendingOperation(std::shared_ptr<Connection> connection)
      : connection_(std::move(connection)) {}
  PendingOperation(PendingOperation&&) noexcept = default;
  PendingOperation(const PendingOperation&) = delete;
  PendingOperation& operator=(const PendingOperation&) = delete;
  ~PendingOperation() {
    if (connection_) connection_->abandon();
  }
  // The operation has completed.
  std::shared_ptr<Connection> take() { return std::move(connection_); }

 private:
  std::shared_ptr<Connection> connection_;
};

}  // namespace outlast::http
