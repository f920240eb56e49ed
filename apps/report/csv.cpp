#include "apps/report/csv.hpp"

#include "apps/report/report_error.hpp"

namespace outlast::apps {

std::string csv_line(const std::vector<std::string>& cells) {
  std::string line;
  for (const std::string& cell : cells) {
    if (&cell != &cells.front()) line += ',';
    if (cell.find_first_of(",\"\r\n") == std::string::npos) {
      line += cell;
      continue;
    }
    line += '"';
    for (const char c : cell) {
      if (c == '"') line += '"';
      line += c;
    }
    line += '"';
  }
  return line += "\r\n";
}

CsvReader::CsvReader(std::string_view text, std::string_view file) : rest_(text), file_(file) {
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (rest_.starts_with(byte_order_mark)) rest_.remove_prefix(byte_order_mark.size());
}

Error CsvReader::error(std::size_t line, std::size_t column, std::string_view what) const {
  return fail(ReportError::malformed, std::string(file_) + ": line " + std::to_string(line) +
                                          ", column " + std::to_string(column) + ": " +
                                          std::string(what))
      .value();
}

// Leaves `rest_` at the comma or line break behind the cell.
Result<void> CsvReader::take_cell(std::string& cell, std::size_t column) {
  cell.clear();
  const bool quoted = rest_.starts_with('"');
  const std::size_t line = line_;
  std::size_t at = quoted ? 1 : 0;
  for (;; ++at) {
    if (at == rest_.size()) {
      if (quoted) return fail(error(line, column, "a quote is not closed; add the closing '\"'"));
      break;
    }
    const char c = rest_[at];
    if (quoted && c == '"') {
      if (at + 1 == rest_.size() || rest_[at + 1] != '"') {
        ++at;
        break;
      }
      ++at;
    } else if (!quoted && (c == ',' || c == '\n' || c == '\r')) {
      break;
    } else if (!quoted && c == '"') {
      return fail(error(line_, column,
                        "a quote in the middle of a cell; quote the whole cell and double the "
                        "quote"));
    } else if (static_cast<unsigned char>(c) < ' ' && c != '\t' &&
               !(quoted && (c == '\n' || c == '\r'))) {
      return fail(error(line_, column, "a control character; is this a CSV file in UTF-8?"));
    }
    if (c == '\n') ++line_;
    if (cell.size() == csv_cell_bytes_max) {
      return fail(error(line, column,
                        "a cell of more than " + std::to_string(csv_cell_bytes_max) + " bytes"));
    }
    cell += c;
  }
  rest_.remove_prefix(at);
  if (!rest_.empty() && rest_.front() != ',' && rest_.front() != '\n' && rest_.front() != '\r')
    return fail(error(line_, column, "text behind a closing quote; quote the whole cell"));
  return {};
}

Result<bool> CsvReader::next(std::vector<std::string>& cells) {
  cells.clear();
  const auto take_line_break = [this] {
    if (rest_.starts_with("\r\n")) rest_.remove_prefix(2);
    else if (rest_.starts_with('\n') || rest_.starts_with('\r')) rest_.remove_prefix(1);
    else return false;
    ++line_;
    return true;
  };
  while (take_line_break()) {
  }
  if (rest_.empty()) return false;
  record_line_ = line_;
  while (true) {
    if (cells.size() == csv_cells_max) {
      return fail(error(record_line_, csv_cells_max + 1,
                        "more than " + std::to_string(csv_cells_max) + " columns"));
    }
    cells.emplace_back();
    if (const Result<void> taken = take_cell(cells.back(), cells.size()); !taken)
      return fail(taken.error());
    if (rest_.empty() || take_line_break()) return true;
    rest_.remove_prefix(1);  // the comma
  }
}

}  // namespace outlast::apps
