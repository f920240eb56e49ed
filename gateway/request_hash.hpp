// Keyed hashes of requests, to know a conversation or a request again without keeping it. Keyed, so that nobody can
// make two of them collide; the key is the node's, so that they are the same after a restart. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "gateway/dialect.hpp"

namespace outlast::gateway {

using RequestHashKey = std::array<std::uint64_t, 2>;

// SipHash-2-4 (Aumasson, Bernstein 2012).
std::uint64_t sip_hash(const RequestHashKey& key, std::string_view bytes);

// Over the raw bytes of the system message and of the first user message: the same for every request of one
// conversation, as agents send it. 0 where there is no user message.
std::uint64_t conversation_hash(const RequestHashKey& key, const CallerRequest& request);
// Over all of it. Never 0.
std::uint64_t request_hash(const RequestHashKey& key, const CallerRequest& request);

}  // namespace outlast::gateway
