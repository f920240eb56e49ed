#include "apps/outlast/admin_json.hpp"

namespace outlast::apps {

Result<Json> call_admin(const GlobalOptions& global, const std::string& method, const std::string& path,
                        const std::string& body) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call(method, path, body);
  if (!answer) return fail(answer.error());
  return parse_object(answer->body, "the node's answer");
}

}  // namespace outlast::apps
