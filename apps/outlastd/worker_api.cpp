#include "apps/outlastd/worker_api.hpp"

#include <optional>
#include <utility>

#include "actors/ask.hpp"
#include "apps/outlastd/admin_api.hpp"
#include "apps/outlastd/admin_query.hpp"
#include "core/json_writer.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::apps {
namespace {

namespace asio = boost::asio;

constexpr auto call_timeout = std::chrono::seconds(60);  // beyond what a worker waits for news
constexpr std::int64_t method_max = 65'535;

unsigned worker_status_of(const Error& error) {
  using actors::ActorError;
  using gpu::GpuError;
  if (is(error, ActorError::not_found)) return 404;
  if (is(error, ActorError::refused)) return 409;
  if (is(error, GpuError::overloaded) || error.module == "link") return 503;
  if (error.module == "gpu" || error.module == "frame") return 400;
  return admin_status_of(error);
}

WorkerApi::Reply worker_refusal(const Error& error) { return {worker_status_of(error), admin_error_body(error.message, error.module)}; }

asio::awaitable<WorkerApi::Reply> at_once(WorkerApi::Reply reply) { co_return reply; }

}  // namespace

asio::awaitable<WorkerApi::Reply> WorkerApi::handle(std::string method, std::string name, std::string query, std::string body) {
  if (name == "workers" && method == "GET") return at_once(list());
  if (name == "workers/ask" && method == "POST") {
    const auto number = number_parameter(query, "method");
    auto worker = parameter(query, "worker");
    if (!worker || !number || !*number || **number < 0 || **number > method_max)
      return at_once({400, admin_error_body("name worker=NODE/WORKER and method=NUMBER (proto/work_codec.hpp)", "invalid_request")});
    return ask(std::move(*worker), static_cast<std::uint16_t>(**number), std::move(body));
  }
  return at_once({404, admin_error_body("no such path or method; see docs/admin-api.md", "not_found")});
}

WorkerApi::Reply WorkerApi::list() const {
  Reply reply;
  JsonWriter json(reply.body);
  json.begin_object().key("workers").begin_array();
  for (const actors::PlacedWorker& placed : daemon_.workers().workers()) {
    json.begin_object().key("name").string(placed.node + "/" + placed.worker.name).key("node").string(placed.node);
    json.key("device").string(placed.worker.device).key("memory_bytes").number(placed.worker.memory_bytes).key("capabilities").begin_array();
    for (const std::string& capability : placed.worker.capabilities) json.string(capability);
    json.end_array().end_object();
  }
  json.end_array().end_object();
  return reply;
}

asio::awaitable<WorkerApi::Reply> WorkerApi::ask(std::string worker, std::uint16_t method, std::string body) {
  const auto actor = daemon_.workers().worker(worker, call_timeout);
  if (!actor) co_return worker_refusal(actor.error());
  actors::WorkerCall call{method, body.empty() ? FramePtr() : Frame::copy_of(std::as_bytes(std::span(body)))};
  // Named, since gcc 12 frees a temporary of a co_await expression twice.
  auto asked = actors::ask<actors::WorkerReply>(loop_, daemon_.system(), *actor, call_timeout, std::move(call));
  const Result<actors::WorkerReply> reply = co_await std::move(asked);
  if (!reply) co_return worker_refusal(reply.error());
  if (!*reply) co_return worker_refusal(reply->error());
  const FramePtr& frame = (*reply)->body;
  Reply answer;
  answer.type = "application/octet-stream";
  if (frame) answer.body.assign(reinterpret_cast<const char*>(frame->bytes().data()), frame->size());
  co_return answer;
}

}  // namespace outlast::apps
