// TableReader: takes known keys out of a TOML table and turns everything else into errors that name
// file, line, key, what is wrong and what would be right. All errors are collected, so that one run
// shows them all.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <toml++/toml.h>

namespace outlast::apps {

// Errors of one file. One owner.
class ConfigErrors {
 public:
  explicit ConfigErrors(std::string file) : file_(std::move(file)) {}

  // `what` says what is wrong and what would be right.
  void add(std::uint32_t line, std::string_view key, std::string_view what);
  [[nodiscard]] bool empty() const { return errors_.empty(); }
  // One error per line, in the order of the file's lines.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] const std::string& file() const { return file_; }

 private:
  std::string file_;
  std::vector<std::pair<std::uint32_t, std::string>> errors_;
};

// "FILE:LINE: …" for text that is not TOML.
std::string syntax_error_text(const std::string& file, const toml::parse_error& error);

// Reads one table. Readers of sub-tables refer to the same errors and may not outlive them. One
// owner.
class TableReader {
 public:
  TableReader(const toml::table& table, std::string path, std::uint32_t line, ConfigErrors& errors);

  // Each returns true when the key is there and well-formed; `into` is left alone otherwise. A
  // malformed value is an error; an absent one is an error only for required_*, whose `example` is
  // what to write, `name = "n1"`.
  bool text(std::string_view key, std::string& into);
  bool required_text(std::string_view key, std::string& into, std::string_view example);
  bool boolean(std::string_view key, bool& into);
  bool texts(std::string_view key, std::vector<std::string>& into);
  template <class T>
  bool integer(std::string_view key, T& into, std::uint64_t least, std::uint64_t most) {
    const auto value = integer_between(key, least, most);
    if (value) into = static_cast<T>(*value);
    return value.has_value();
  }
  // A string that is one of `words`; gives its index.
  std::optional<std::size_t> choice(std::string_view key, std::span<const std::string_view> words);

  // A TOML date (its start, UTC) or a date and time with its offset, in milliseconds since 1970.
  bool time_ms(std::string_view key, std::int64_t& into);

  // An empty table stands for an absent one. `advice` is what to write instead of something else.
  TableReader table(std::string_view key, std::string_view advice = {});
  // Of `[[key]]`; empty when absent.
  std::vector<TableReader> tables(std::string_view key);

  // Whether the key is in the file, well-formed or not.
  [[nodiscard]] bool has(std::string_view key) const { return table_->contains(key); }
  [[nodiscard]] bool holds_table(std::string_view key) const {
    return has(key) && table_->get(key)->is_table();
  }
  [[nodiscard]] bool holds_number(std::string_view key) const {
    return has(key) && table_->get(key)->is_number();
  }
  // The key is known, and its value was dealt with elsewhere.
  void ignore(std::string_view key) { known_.push_back(key); }
  // Of the key where it is in the file, else of the table.
  [[nodiscard]] std::uint32_t line_of(std::string_view key) const;
  [[nodiscard]] std::uint32_t line() const { return line_; }
  void error(std::string_view key, std::string_view what);
  // Reports keys that nobody asked for. Call it once, after the last read.
  void refuse_unknown_keys();

 private:
  const toml::node* find(std::string_view key);
  std::optional<std::uint64_t> integer_between(std::string_view key, std::uint64_t least,
                                               std::uint64_t most);
  [[nodiscard]] std::string path_of(std::string_view key) const;

  const toml::table* table_;
  std::string path_;  // "" for the root, "provider", "deployment.timeouts"
  std::uint32_t line_;
  ConfigErrors* errors_;
  std::vector<std::string_view> known_;  // literals given by the caller
};

}  // namespace outlast::apps
