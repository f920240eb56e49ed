#include "apps/outlast-sim/stats.hpp"

#include <utility>

#include "core/json_writer.hpp"

namespace outlast::sim {

void SimStats::count_request(const http::Request& request,
                             std::shared_ptr<const std::string> body) {
  requests_.fetch_add(1, relaxed);
  const std::lock_guard lock(mutex_);
  last_body_ = std::move(body);
  last_header_names_.clear();
  for (const http::HeaderField& field : request.headers) {
    last_header_names_.append(field.name).push_back('\n');
  }
}

std::string SimStats::describe(const Connections& connections) const {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("requests").number(requests_.load(relaxed));
  json.key("completed")
      .number(completed_.load(relaxed))
      .key("streams")
      .number(streams_.load(relaxed));
  json.key("active")
      .number(active_.load(relaxed))
      .key("cancelled")
      .number(cancelled_.load(relaxed));
  json.key("faults").number(faults_.load(relaxed));
  json.key("statuses").begin_object();
  for (std::size_t status = 0; status < statuses_.size(); ++status) {
    const std::uint64_t count = statuses_[status].load(relaxed);
    if (count != 0) json.key(std::to_string(status)).number(count);
  }
  json.end_object().key("connections").begin_object();
  json.key("accepted")
      .number(connections.accepted)
      .key("open")
      .number(connections.open)
      .end_object();
  const std::lock_guard lock(mutex_);
  json.key("last").begin_object().key("body").string(last_body_ ? std::string_view(*last_body_)
                                                                : "");
  json.key("header_names").begin_array();
  for (std::string_view names = last_header_names_; !names.empty();) {
    const auto end = names.find('\n');
    json.string(names.substr(0, end));
    names.remove_prefix(end + 1);
  }
  json.end_array().end_object().end_object();
  return out;
}

}  // namespace outlast::sim
