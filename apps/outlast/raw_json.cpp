#include "apps/outlast/raw_json.hpp"

#include <nlohmann/json.hpp>

#include "apps/outlast/cli_error.hpp"

namespace outlast::apps {
namespace {

// Builds the tree from the parser's calls. Each returns false to stop.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return add({}) != nullptr; }
  bool boolean(bool value) override {
    return add({RawJson::Kind::boolean, value ? "true" : "false", {}, {}}) != nullptr;
  }
  bool number_integer(number_integer_t value) override { return number(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return number(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { return number(text); }
  bool string(string_t& text) override {
    return add({RawJson::Kind::string, std::move(text), {}, {}}) != nullptr;
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(RawJson::Kind::object); }
  bool start_array(std::size_t) override { return open(RawJson::Kind::array); }
  bool key(string_t& name) override {
    key_ = std::move(name);
    return true;
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    error_ = "is not JSON at byte " + std::to_string(position);
    return false;
  }

  RawJson root;
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  bool number(std::string text) {
    return add({RawJson::Kind::number, std::move(text), {}, {}}) != nullptr;
  }
  RawJson* add(RawJson value) {
    if (open_.empty()) {
      root = std::move(value);
      return &root;
    }
    RawJson& parent = *open_.back();
    if (parent.is(RawJson::Kind::array)) return &parent.elements.emplace_back(std::move(value));
    return &parent.members.emplace_back(std::move(key_), std::move(value)).second;
  }
  bool open(RawJson::Kind kind) {
    if (open_.size() == raw_json_depth_max) {
      error_ = "is nested deeper than " + std::to_string(raw_json_depth_max);
      return false;
    }
    open_.push_back(add({kind, {}, {}, {}}));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::vector<RawJson*> open_;  // a parent does not move while a child is open
  std::string key_;
  std::string error_;
};

}  // namespace

const RawJson& RawJson::operator[](std::string_view name) const {
  static const RawJson absent;
  for (const auto& [key, value] : members) {
    if (key == name) return value;
  }
  return absent;
}

Result<RawJson> parse_raw_json(std::string_view text) {
  Builder builder;
  if (!nlohmann::json::sax_parse(text, &builder)) return fail(CliError::failed, builder.error());
  return std::move(builder.root);
}

}  // namespace outlast::apps
