#include "core/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "core/json_writer.hpp"

namespace outlast::log {
namespace {

Format format_of_process = Format::text;

spdlog::logger& logger() {
  static const auto shared = [] {
    auto made = std::make_shared<spdlog::logger>("outlast", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ %v", spdlog::pattern_time_type::utc);
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return *shared;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug: return spdlog::level::debug;
    case Level::info: return spdlog::level::info;
    case Level::warning: return spdlog::level::warn;
    case Level::error: return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

void configure(Format format, Level level) {
  format_of_process = format;
  logger().set_level(to_spdlog(level));
  if (format == Format::json) {
    // The message is the inside of an object; time and level come from the pattern.
    logger().set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})", spdlog::pattern_time_type::utc);
  }
}

void write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  const auto mapped = to_spdlog(level);
  if (!logger().should_log(mapped)) return;
  std::string line;
  if (format_of_process == Format::json) {
    line = "\"event\":\"";
    append_json_escaped(line, event);
    line += '"';
    for (const Field& field : fields) {
      line += ",\"";
      append_json_escaped(line, field.name);
      line += field.quoted ? "\":\"" : "\":";
      append_json_escaped(line, field.value);
      if (field.quoted) line += '"';
    }
  } else {
    line = event;
    for (const Field& field : fields) {
      line.append(" ").append(field.name).append("=");
      const bool plain = field.value.find_first_of(" \"\n\t") == std::string::npos && !field.value.empty();
      if (!plain) line += '"';
      append_json_escaped(line, field.value);
      if (!plain) line += '"';
    }
  }
  logger().log(mapped, "{}", line);
}

}  // namespace outlast::log
