#include "apps/outlast/terminal.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "apps/outlast/cli_error.hpp"
#include "core/check.hpp"

namespace outlast::apps {
namespace {

int print_error = 0;  // errno of the first failure, as the process has one stdout

// Columns of the terminal, near enough: code points.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string marked(std::string_view text, std::string_view code) {
  if (!colours_wanted()) return std::string(text);
  return "\x1b[" + std::string(code) + "m" + std::string(text) + "\x1b[0m";
}

}  // namespace

void print(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (!written && print_error == 0) print_error = errno;
}

Result<void> check_printed() {
  if (print_error == 0 || print_error == EPIPE) return {};
  return fail(CliError::failed, std::string("cannot write to stdout: ") + std::strerror(print_error));
}

bool stdout_is_terminal() { return isatty(STDOUT_FILENO) == 1; }

bool colours_wanted() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  const bool dumb = term == nullptr || std::string_view(term) == "dumb";
  return stdout_is_terminal() && !dumb && (no_color == nullptr || *no_color == '\0');
}

std::string bold(std::string_view text) { return marked(text, "1"); }
std::string dim(std::string_view text) { return marked(text, "2"); }

std::string printable(std::string_view text, bool keep_lines) {
  std::string clean;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool line = keep_lines && (c == '\n' || c == '\t');
    // U+0080 to U+009F are control characters too.
    const bool c1 = c == 0xc2 && i + 1 < text.size() &&
                    (static_cast<unsigned char>(text[i + 1]) & 0xe0) == 0x80;
    if (c1) ++i;
    clean += c1 || ((c < 0x20 || c == 0x7f) && !line) ? '?' : text[i];
  }
  return clean;
}

void Table::add(std::vector<std::string> cells) {
  check(cells.size() == columns_.size(), "a row has one cell per column");
  for (std::string& cell : cells) cell = printable(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::size_t width = width_of(columns_[i].title);
    for (const auto& row : rows_) width = std::max(width, width_of(row[i]));
    widths.push_back(width);
  }
  const auto line_of = [this, &widths](const auto& cell_of) {
    std::string line;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const std::string_view cell = cell_of(i);
      const std::string padding(widths[i] - width_of(cell), ' ');
      if (i > 0) line += "  ";
      if (columns_[i].align == Align::right) line += padding;
      line += cell;
      if (columns_[i].align == Align::left && i + 1 < columns_.size()) line += padding;
    }
    while (!line.empty() && line.back() == ' ') line.pop_back();
    return line;
  };
  std::string text =
      bold(line_of([this](std::size_t i) -> std::string_view { return columns_[i].title; })) + "\n";
  for (const auto& row : rows_) {
    text += line_of([&row](std::size_t i) -> std::string_view { return row[i]; }) + "\n";
  }
  return text;
}

std::string utc_time(std::int64_t unix_ms) {
  using namespace std::chrono;
  const auto seconds_since = floor<seconds>(milliseconds(unix_ms));
  const auto days_since = floor<days>(seconds_since);
  const year_month_day date{sys_days{days_since}};
  const hh_mm_ss clock{seconds_since - days_since};
  char text[48];
  std::snprintf(text, sizeof(text), "%04d-%02u-%02uT%02d:%02d:%02dZ", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                static_cast<int>(clock.seconds().count()));
  return text;
}

}  // namespace outlast::apps
