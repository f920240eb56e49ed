// write_durably(): waits, on a detached actor's own thread, until the ledger's committer has called back.
#pragma once

#include <chrono>
#include <future>
#include <memory>
#include <utility>

#include "actors/messages.hpp"

namespace outlast::actors {

inline constexpr auto durable_timeout = std::chrono::seconds(8);  // below request_timeout, so that the reason gets through

// `write` takes the call-back.
template <class Write>
Result<void> write_durably(Write write) {
  auto promise = std::make_shared<std::promise<Result<void>>>();
  auto written = promise->get_future();
  write([promise](Result<void> result) { promise->set_value(std::move(result)); });
  if (written.wait_for(durable_timeout) != std::future_status::ready) {
    return fail(ActorError::timed_out, "the ledger has not written within 8 s; the change may still become durable");
  }
  return written.get();
}

}  // namespace outlast::actors
