#include "apps/outlast/number_options.hpp"

#include <charconv>
#include <cstdio>
#include <limits>
#include <string>

namespace outlast::apps {
namespace {

template <class Number>
bool reads(const std::string& text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

std::string text_of(double number) {
  char text[32];
  (void)std::snprintf(text, sizeof text, "%g", number);
  return text;
}

CLI::Validator real(const std::string& bounds, bool (*is_within)(double, double, double), double least, double most) {
  return CLI::Validator([bounds, is_within, least, most](std::string& text) {
    double number = 0;
    return reads(text, number) && is_within(number, least, most) ? std::string() : "'" + text + "' is not a number " + bounds;
  }, bounds);
}

}  // namespace

CLI::Validator whole_number(std::uint64_t least, std::uint64_t most) {
  const std::string bounds = "from " + std::to_string(least) + " to " + std::to_string(most);
  return CLI::Validator([bounds, least, most](std::string& text) {
    std::uint64_t number = 0;
    return reads(text, number) && number >= least && number <= most ? std::string() : "'" + text + "' is not a whole number " + bounds;
  }, most == std::numeric_limits<std::uint64_t>::max() ? std::string() : bounds);
}

CLI::Validator real_number(double least, double most) {
  return real("from " + text_of(least) + " to " + text_of(most), [](double number, double low, double high) { return number >= low && number <= high; }, least, most);
}

CLI::Validator real_number_above(double bound, double most) {
  return real("above " + text_of(bound) + " and at most " + text_of(most), [](double number, double low, double high) { return number > low && number <= high; }, bound, most);
}

}  // namespace outlast::apps
