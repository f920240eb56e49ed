// CSV as RFC 4180 describes it, read without trust and written.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace outlast::apps {

inline constexpr std::size_t csv_cells_max = 256;  // of a line
inline constexpr std::size_t csv_cell_bytes_max = 4'096;

// One line, with its line break.
std::string csv_line(const std::vector<std::string>& cells);

// Reads records one after another. One owner.
class CsvReader {
 public:
  // Both outlive the reader; `file` is for messages. A byte order mark is skipped.
  CsvReader(std::string_view text, std::string_view file);

  // False at the end. Empty lines are skipped. Errors name line and column: a quote that is not
  // closed or stands in the middle of a cell, control characters, cells beyond the limits.
  Result<bool> next(std::vector<std::string>& cells);
  // Of the record that was read last: the line that it begins on, from 1.
  [[nodiscard]] std::size_t line() const { return record_line_; }
  // "FILE: line 3, column 2: …".
  [[nodiscard]] Error error(std::size_t line, std::size_t column, std::string_view what) const;

 private:
  Result<void> take_cell(std::string& cell, std::size_t column);

  std::string_view rest_;
  std::string_view file_;
  std::size_t line_ = 1;
  std::size_t record_line_ = 0;
};

}  // namespace outlast::apps
