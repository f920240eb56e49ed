#include "cluster/message_room.hpp"

#include <type_traits>
#include <variant>

namespace outlast::cluster {
namespace {

constexpr std::size_t item_bytes = 192;  // a struct of numbers and an id, with what the allocator adds

template <class Body>
std::size_t body_bytes(const Body& body) {
  if constexpr (std::is_same_v<Body, shard::Operations>) {
    std::size_t bytes = 0;
    for (const shard::Operation& operation : body.operations) bytes += sizeof(operation) + shard::size_of(operation);
    return bytes;
  } else if constexpr (std::is_same_v<Body, shard::Acknowledgement>) {
    std::size_t bytes = body.waiting.size() * sizeof(std::uint64_t);
    for (const shard::Refusal& refusal : body.refusals) bytes += item_bytes + refusal.message.size();
    return bytes;
  } else if constexpr (std::is_same_v<Body, shard::EndHolder>) {
    return body.why.size();
  } else if constexpr (requires { body.budgets.size(); }) {
    return body.budgets.size() * item_bytes;
  } else if constexpr (requires { body.grants.size(); }) {
    return body.grants.size() * item_bytes;
  } else if constexpr (requires { body.shards.size(); }) {
    return body.shards.size() * sizeof(body.shards[0]);
  } else if constexpr (std::is_same_v<Body, shard::AllotmentDemand>) {
    return body.asks.size() * item_bytes;
  } else if constexpr (std::is_same_v<Body, shard::AllotmentTerms>) {
    return body.terms.size() * item_bytes;
  } else {
    return 0;
  }
}

}  // namespace

std::size_t size_of(const shard::Message& message) {
  return sizeof(message) + std::visit([]<class Body>(const Body& body) { return body_bytes(body); }, message.body);
}

}  // namespace outlast::cluster
