// ask(): a request to an actor as an awaitable of an Asio loop. The answer arrives on that loop.
#pragma once

#include <chrono>
#include <memory>
#include <tuple>
#include <utility>

#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <caf/actor_system.hpp>
#include <caf/event_based_actor.hpp>

#include "actors/interfaces.hpp"

namespace outlast::actors {

// `Reply` is the actor's answer to the message, e.g. ask<Done>(…). A dead actor or a time-out is an ActorError.
template <class Reply, class Handle, class... Message>
boost::asio::awaitable<Result<Reply>> ask(boost::asio::io_context& context, caf::actor_system& system, Handle actor,
                                          std::chrono::milliseconds timeout, Message... message) {
  auto initiate = [&context, &system, actor, timeout](auto handler, auto... parts) {
    using Handler = decltype(handler);
    auto shared = std::make_shared<Handler>(std::move(handler));
    // The work guard keeps the loop alive until the answer is there.
    auto work = std::make_shared<boost::asio::executor_work_guard<boost::asio::io_context::executor_type>>(
        context.get_executor());
    const auto complete = [&context, shared, work](Result<Reply> reply) {
      boost::asio::post(context, [shared, work, reply = std::move(reply)]() mutable {
        auto taken = std::move(*shared);
        work->reset();
        taken(std::move(reply));
      });
    };
    system.spawn([actor, timeout, complete, parts...](caf::event_based_actor* self) {
      self->request(actor, timeout, parts...)
          .then([complete](const Reply& reply) { complete(Result<Reply>(reply)); },
                [complete, self](const caf::error& error) {
                  complete(Result<Reply>(fail(ActorError::unavailable,
                                              "the node's actor did not answer: " + self->system().render(error))));
                });
    });
  };
  co_return co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void(Result<Reply>)>(
      initiate, boost::asio::use_awaitable, std::move(message)...);
}

}  // namespace outlast::actors
