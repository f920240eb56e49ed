#include "apps/outlast-sim/request_fields.hpp"

#include <algorithm>
#include <utility>

namespace outlast::sim {
namespace {

std::uint64_t fnv1a(std::string_view text, std::uint64_t hash = 0xcbf29ce484222325ULL) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

}  // namespace

tl::unexpected<ApiError> invalid(std::string message, std::string param, std::string code) {
  return tl::unexpected(ApiError{400, "invalid_request_error", std::move(code), std::move(param),
                                 std::move(message)});
}

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool is_true(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

bool known_model(const std::vector<std::string>& models, const std::string& model) {
  return std::find(models.begin(), models.end(), model) != models.end();
}

tl::expected<Json, ApiError> read_common(std::string_view body, SimRequest& request,
                                         std::initializer_list<const char*> hash_parts) {
  Json root = Json::parse(body, nullptr, false);
  if (root.is_discarded()) return invalid("We could not parse the JSON body of your request.");
  if (!root.is_object()) return invalid("The JSON body must be an object.");
  request.model = text_of(root, "model");
  if (request.model.empty()) return invalid("you must provide a model parameter", "model");
  if (const auto stream = root.find("stream");
      stream != root.end() && !stream->is_null() && !stream->is_boolean()) {
    return invalid("Invalid type for 'stream': expected a boolean.", "stream");
  }
  request.stream = is_true(root, "stream");
  const auto messages = root.find("messages");
  if (messages == root.end()) return invalid("Missing required parameter: 'messages'.", "messages");
  if (!messages->is_array() || messages->empty()) {
    return invalid("messages: at least one message is required", "messages");
  }
  for (const Json& message : *messages) {
    if (!message.is_object())
      return invalid("messages: every message must be an object", "messages");
  }
  request.content_hash = fnv1a(request.model);
  for (const char* part : hash_parts) {
    if (const auto found = root.find(part); found != root.end()) {
      request.content_hash = fnv1a(found->dump(), request.content_hash);
    }
  }
  return root;
}

bool read_bound(const Json& root, const char* key, std::uint64_t& bound) {
  const auto found = root.find(key);
  if (found == root.end() || found->is_null()) return true;
  if (!found->is_number_unsigned() || found->get<std::uint64_t>() == 0) return false;
  const auto value = found->get<std::uint64_t>();
  bound = bound == 0 ? value : std::min(bound, value);
  return true;
}

std::uint64_t count_tokens(std::string_view text) {
  std::uint64_t tokens = 0;
  bool inside = false;
  for (const char c : text) {
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    tokens += !space && !inside ? 1 : 0;
    inside = !space;
  }
  return tokens;
}

}  // namespace outlast::sim
