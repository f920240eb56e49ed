// What people see: aligned tables, and colours only where there is a terminal to show them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apps/report/csv.hpp"
#include "core/result.hpp"

namespace outlast::apps {

// Writes to stdout; a closed stdout ends the process as it does for every tool in a pipe.
void print(std::string_view text);
// Whether all that was printed by now was written; a reader that went is none's fault. Error: failed.
Result<void> check_printed();

// Whether stdout is a terminal that shows colours: NO_COLOR is unset and TERM is not "dumb".
bool colours_wanted();
bool stdout_is_terminal();

// The same text, marked for a terminal where colours are wanted.
std::string bold(std::string_view text);
std::string dim(std::string_view text);

// Text of other people without control characters, which could steer the terminal. Newlines and
// tabs stay where `keep_lines` says so.
std::string printable(std::string_view text, bool keep_lines = false);

// Columns as wide as their widest cell. One owner.
class Table {
 public:
  enum class Align { left, right };
  struct Column {
    std::string title;
    Align align = Align::left;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // As many cells as there are columns.
  void add(std::vector<std::string> cells);
  [[nodiscard]] std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "2026-11-01T12:00:00Z".
std::string utc_time(std::int64_t unix_ms);

}  // namespace outlast::apps
