#include "apps/config/toml_reader.hpp"

#include <algorithm>
#include <chrono>

#include "apps/config/words.hpp"

namespace outlast::apps {
namespace {

// A date, a float and so on in a reader's words, with its article.
std::string_view kind_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table: return "a table";
    case toml::node_type::array: return "an array";
    case toml::node_type::string: return "a string";
    case toml::node_type::integer: return "an integer";
    case toml::node_type::floating_point: return "a decimal number";
    case toml::node_type::boolean: return "a boolean";
    case toml::node_type::date: return "a date";
    case toml::node_type::time: return "a time";
    case toml::node_type::date_time: return "a date and time";
    case toml::node_type::none: break;
  }
  return "nothing";
}

}  // namespace

void ConfigErrors::add(std::uint32_t line, std::string_view key, std::string_view what) {
  std::string text = file_ + ":" + std::to_string(line) + ": ";
  if (!key.empty()) text.append("key '").append(key).append("': ");
  text.append(what);
  // A value from the file must not forge a line of its own.
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, '?');
  errors_.emplace_back(line, std::move(text));
}

std::string ConfigErrors::text() const {
  auto sorted = errors_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::string all;
  for (const auto& [line, text] : sorted) {
    if (!all.empty()) all += '\n';
    all += text;
  }
  return all;
}

std::string syntax_error_text(const std::string& file, const toml::parse_error& error) {
  ConfigErrors errors(file);
  errors.add(static_cast<std::uint32_t>(error.source().begin.line), "",
             "is not TOML: " + std::string(error.description()));
  return errors.text();
}

TableReader::TableReader(const toml::table& table, std::string path, std::uint32_t line,
                         ConfigErrors& errors)
    : table_(&table), path_(std::move(path)), line_(line), errors_(&errors) {}

std::string TableReader::path_of(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

std::uint32_t TableReader::line_of(std::string_view key) const {
  const auto found = table_->find(key);
  return found == table_->end() ? line_
                                : static_cast<std::uint32_t>(found->first.source().begin.line);
}

void TableReader::error(std::string_view key, std::string_view what) {
  errors_->add(line_of(key), key.empty() ? path_ : path_of(key), what);
}

const toml::node* TableReader::find(std::string_view key) {
  known_.push_back(key);
  return table_->get(key);
}

bool TableReader::text(std::string_view key, std::string& into) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const auto* value = node->as_string();
  if (value == nullptr) {
    error(key, "is " + std::string(kind_of(*node)) + "; write a string in quotes");
    return false;
  }
  into = value->get();
  return true;
}

bool TableReader::required_text(std::string_view key, std::string& into, std::string_view example) {
  if (!has(key)) {
    known_.push_back(key);
    error(key, "is missing; write e.g. " + std::string(example));
    return false;
  }
  if (!text(key, into)) return false;
  if (into.empty()) {
    error(key, "is empty; write e.g. " + std::string(example));
    return false;
  }
  return true;
}

bool TableReader::boolean(std::string_view key, bool& into) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const auto* value = node->as_boolean();
  if (value == nullptr) {
    error(key, "is " + std::string(kind_of(*node)) + "; write true or false");
    return false;
  }
  into = value->get();
  return true;
}

bool TableReader::texts(std::string_view key, std::vector<std::string>& into) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const std::string advice =
      "; write a list of strings, e.g. " + std::string(key) + " = [\"a\", \"b\"]";
  const toml::array* array = node->as_array();
  if (array == nullptr) {
    error(key, "is " + std::string(kind_of(*node)) + advice);
    return false;
  }
  std::vector<std::string> values;
  for (const toml::node& element : *array) {
    const auto* value = element.as_string();
    if (value == nullptr) {
      error(key, "holds " + std::string(kind_of(element)) + advice);
      return false;
    }
    values.push_back(value->get());
  }
  into = std::move(values);
  return true;
}

std::optional<std::uint64_t> TableReader::integer_between(std::string_view key, std::uint64_t least,
                                                          std::uint64_t most) {
  const toml::node* node = find(key);
  if (node == nullptr) return std::nullopt;
  const std::string advice =
      "; write an integer from " + std::to_string(least) + " to " + std::to_string(most);
  const auto* value = node->as_integer();
  if (value == nullptr) {
    error(key, "is " + std::string(kind_of(*node)) + advice);
    return std::nullopt;
  }
  const std::int64_t number = value->get();
  if (number < 0 || static_cast<std::uint64_t>(number) < least ||
      static_cast<std::uint64_t>(number) > most) {
    error(key, std::to_string(number) + " is out of range" + advice);
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(number);
}

std::optional<std::size_t> TableReader::choice(std::string_view key,
                                               std::span<const std::string_view> words) {
  std::string value;
  if (!text(key, value)) return std::nullopt;
  const auto found = std::find(words.begin(), words.end(), value);
  if (found == words.end()) {
    error(key, "'" + value + "' is not known; write one of " + join_words(words));
    return std::nullopt;
  }
  return static_cast<std::size_t>(found - words.begin());
}

bool TableReader::time_ms(std::string_view key, std::int64_t& into) {
  const toml::node* node = find(key);
  if (node == nullptr) return false;
  const std::string example = std::string(key) + " = 2026-01-01 or 2026-01-01T12:00:00Z";
  toml::date date;
  std::int64_t of_day_ms = 0;
  if (const auto* day = node->as_date()) {
    date = day->get();
  } else if (const auto* moment = node->as_date_time()) {
    const toml::date_time& value = moment->get();
    if (!value.offset) {
      error(key, "has no offset from UTC; write " + example);
      return false;
    }
    date = value.date;
    const std::int64_t minutes = value.time.hour * 60 + value.time.minute - value.offset->minutes;
    of_day_ms = (minutes * 60 + value.time.second) * 1'000 + value.time.nanosecond / 1'000'000;
  } else {
    error(key, "is " + std::string(kind_of(*node)) + "; write " + example + ", without quotes");
    return false;
  }
  const std::chrono::sys_days days = std::chrono::year_month_day{
      std::chrono::year{date.year}, std::chrono::month{date.month}, std::chrono::day{date.day}};
  into = days.time_since_epoch().count() * std::int64_t{86'400'000} + of_day_ms;
  return true;
}

TableReader TableReader::table(std::string_view key, std::string_view advice) {
  static const toml::table empty;
  const toml::node* node = find(key);
  const toml::table* table = node == nullptr ? nullptr : node->as_table();
  if (node != nullptr && table == nullptr) {
    const std::string what = "is " + std::string(kind_of(*node)) + "; write ";
    error(key, what + (advice.empty() ? "[" + path_of(key) + "]" : std::string(advice)));
  }
  return {table == nullptr ? empty : *table, path_of(key), line_of(key), *errors_};
}

std::vector<TableReader> TableReader::tables(std::string_view key) {
  std::vector<TableReader> readers;
  const toml::node* node = find(key);
  if (node == nullptr) return readers;
  const std::string advice = "; write [[" + path_of(key) + "]] once for each";
  const toml::array* array = node->as_array();
  if (array == nullptr) {
    error(key, "is " + std::string(kind_of(*node)) + advice);
    return readers;
  }
  for (const toml::node& element : *array) {
    const toml::table* table = element.as_table();
    if (table == nullptr) {
      error(key, "holds " + std::string(kind_of(element)) + advice);
      continue;
    }
    readers.emplace_back(*table, path_of(key),
                         static_cast<std::uint32_t>(table->source().begin.line), *errors_);
  }
  return readers;
}

void TableReader::refuse_unknown_keys() {
  for (const auto& [key, node] : *table_) {
    const std::string_view name = key.str();
    if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
    const std::string_view nearest = nearest_word(name, known_);
    error(name, nearest.empty() ? "is not known; the keys here are " + join_words(known_)
                                : "is not known; did you mean '" + std::string(nearest) + "'?");
  }
}

}  // namespace outlast::apps
