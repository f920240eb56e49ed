// Serves one chat of a client actor on a lane: the call's events take the place of an HTTP response.
#pragma once

#include <memory>

#include "cluster/chat_call.hpp"
#include "gateway/lane.hpp"

namespace outlast::actors {

// Any thread; returns at once.
void serve_message_call(gateway::Lane& lane, std::shared_ptr<cluster::ChatCall> call);

}  // namespace outlast::actors
