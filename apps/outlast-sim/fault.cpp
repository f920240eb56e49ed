#include "apps/outlast-sim/fault.hpp"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/json_writer.hpp"

namespace outlast::sim {
namespace {

using Json = nlohmann::json;

constexpr std::pair<std::string_view, FaultKind> kinds[] = {
    {"status", FaultKind::status},
    {"error_first_event", FaultKind::error_first_event},
    {"cut", FaultKind::cut},
    {"close", FaultKind::close},
    {"stall", FaultKind::stall},
    {"slow", FaultKind::slow},
    {"wrong_usage", FaultKind::wrong_usage},
    {"missing_usage", FaultKind::missing_usage},
    {"refuse", FaultKind::refuse},
};

bool read_kind(const Json& value, FaultKind& kind) {
  if (!value.is_string()) return false;
  for (const auto& [name, known] : kinds) {
    if (value.get<std::string>() == name) {
      kind = known;
      return true;
    }
  }
  return false;
}

bool read_number(const Json& value, std::uint64_t& number) {
  if (!value.is_number_unsigned()) return false;
  number = value.get<std::uint64_t>();
  return true;
}

bool read_number(const Json& value, std::optional<std::uint64_t>& number) {
  std::uint64_t read = 0;
  if (!read_number(value, read)) return false;
  number = read;
  return true;
}

bool read_string(const Json& value, std::string& text) {
  if (!value.is_string()) return false;
  text = value.get<std::string>();
  return true;
}

bool read_status(const Json& value, unsigned& status) {
  std::uint64_t read = 0;
  if (!read_number(value, read) || read < 400 || read > 599) return false;
  status = static_cast<unsigned>(read);
  return true;
}

bool read_probability(const Json& value, double& probability) {
  if (!value.is_number() || value.get<double>() < 0 || value.get<double>() > 1) return false;
  probability = value.get<double>();
  return true;
}

// False where the field is unknown or its value cannot be.
bool read_field(Fault& fault, const std::string& key, const Json& value) {
  if (key == "kind") return read_kind(value, fault.kind);
  if (key == "status") return read_status(value, fault.status);
  if (key == "retry_after_s") return read_number(value, fault.retry_after_s);
  if (key == "type") return read_string(value, fault.type);
  if (key == "code") return read_string(value, fault.code);
  if (key == "message") return read_string(value, fault.message);
  if (key == "model") return read_string(value, fault.model);
  if (key == "probability") return read_probability(value, fault.probability);
  if (key == "count") return read_number(value, fault.count);
  if (key == "after_tokens") return read_number(value, fault.after_tokens);
  if (key == "stall_ms")
    return read_number(value, fault.stall_ms) && fault.stall_ms <= stall_ms_max;
  if (key == "first_token_ms") return read_number(value, fault.first_token_ms);
  if (key == "tokens_per_s") return read_number(value, fault.tokens_per_s);
  if (key == "factor") return read_number(value, fault.factor);
  if (key == "for_ms") return read_number(value, fault.for_ms);
  return false;
}

tl::expected<Fault, std::string> read_fault(const Json& object) {
  if (!object.is_object()) return tl::unexpected(std::string("a fault must be a JSON object"));
  Fault fault;
  for (const auto& field : object.items()) {
    if (!read_field(fault, field.key(), field.value())) {
      return tl::unexpected("a fault has no field '" + field.key() + "' with the value " +
                            field.value().dump());
    }
  }
  return fault;
}

}  // namespace

tl::expected<std::vector<Fault>, std::string> read_faults(std::string_view json) {
  const Json root = Json::parse(json, nullptr, false);
  if (root.is_discarded()) return tl::unexpected(std::string("the faults are not JSON"));
  const Json list = root.is_array() ? root : Json::array({root});
  if (list.size() > faults_max)
    return tl::unexpected("at most " + std::to_string(faults_max) + " faults");
  std::vector<Fault> faults;
  for (const Json& object : list) {
    auto fault = read_fault(object);
    if (!fault) return tl::unexpected(fault.error());
    faults.push_back(std::move(*fault));
  }
  return faults;
}

tl::expected<std::vector<Fault>, std::string> read_fault_flag(std::string_view text) {
  if (text.starts_with('{') || text.starts_with('[')) return read_faults(text);
  Json object = Json::object();
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find(','));
    text.remove_prefix(std::min(pair.size() + 1, text.size()));
    const auto equals = pair.find('=');
    if (equals == std::string_view::npos)
      return tl::unexpected("expected KEY=VALUE, not '" + std::string(pair) + "'");
    const std::string value(pair.substr(equals + 1));
    Json parsed = Json::parse(value, nullptr, false);
    object[std::string(pair.substr(0, equals))] = parsed.is_discarded() ? Json(value) : parsed;
  }
  return read_faults(object.dump());
}

void FaultBoard::replace(std::vector<Fault> faults) {
  const std::lock_guard lock(mutex_);
  faults_ = std::move(faults);
  any_.store(!faults_.empty(), std::memory_order_release);
}

std::optional<Fault> FaultBoard::take(std::string_view model) {
  if (!any_.load(std::memory_order_acquire)) return std::nullopt;
  const std::lock_guard lock(mutex_);
  for (auto fault = faults_.begin(); fault != faults_.end(); ++fault) {
    if (fault->kind == FaultKind::refuse) continue;
    if (!fault->model.empty() && fault->model != model) continue;
    if (fault->probability < 1.0 && random_.fraction() >= fault->probability) continue;
    Fault hit = *fault;
    if (fault->count != 0 && --fault->count == 0) {
      faults_.erase(fault);
      any_.store(!faults_.empty(), std::memory_order_release);
    }
    return hit;
  }
  return std::nullopt;
}

std::string FaultBoard::describe() const {
  const std::lock_guard lock(mutex_);
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("faults").begin_array();
  for (const Fault& fault : faults_) {
    const auto kind = std::find_if(std::begin(kinds), std::end(kinds), [&fault](const auto& known) {
      return known.second == fault.kind;
    });
    json.begin_object().key("kind").string(kind->first).key("count").number(fault.count);
    json.key("probability").real(fault.probability);
    if (fault.kind == FaultKind::status) json.key("status").number(fault.status);
    if (!fault.model.empty()) json.key("model").string(fault.model);
    json.end_object();
  }
  json.end_array().end_object();
  return out;
}

}  // namespace outlast::sim
