// MetricsWriter: the text format of Prometheus.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace outlast::apps {

// One owner.
class MetricsWriter {
 public:
  void head(std::string_view name, std::string_view type, std::string_view help) {
    out_.append("# HELP ").append(name).append(" ").append(help).append("\n# TYPE ").append(name).append(" ").append(type);
    out_ += '\n';
  }
  // `labels` with braces, or empty.
  void value(std::string_view name, std::string_view labels, std::uint64_t number) {
    out_.append(name).append(labels).append(" ").append(std::to_string(number));
    out_ += '\n';
  }
  void one(std::string_view name, std::string_view type, std::string_view help, std::uint64_t number) {
    head(name, type, help);
    value(name, "", number);
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

// {name="value"}
inline std::string metric_label(std::string_view name, std::string_view value) {
  std::string text = "{";
  text.append(name).append("=\"");
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    text += c == '\n' ? ' ' : c;
  }
  return text + "\"}";
}

}  // namespace outlast::apps
