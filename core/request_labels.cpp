#include "core/request_labels.hpp"

#include <algorithm>

namespace outlast {
namespace {

bool printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c < 0x7f; });
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

Failure malformed(std::string message) { return fail(LabelError::malformed, std::move(message)); }

Result<void> add_tag(std::string_view tag, std::vector<std::string>& tags) {
  if (tag.empty() || tag.size() > tag_bytes_max || !printable(tag) || tag.find(',') != std::string_view::npos) {
    return malformed("a tag has 1 to 64 bytes of printable ASCII without commas; x-outlast-tags is \"a,b\"");
  }
  if (std::find(tags.begin(), tags.end(), tag) != tags.end()) return {};
  if (tags.size() == tags_max) return malformed("a request has at most 8 tags");
  tags.emplace_back(tag);
  return {};
}

Result<void> set_session(std::string_view session, RequestLabels& labels) {
  if (session.size() > session_bytes_max || !printable(session)) {
    return malformed("a session's name has at most 128 bytes of printable ASCII");
  }
  labels.session = session;
  return {};
}

}  // namespace

Result<RequestLabels> RequestLabels::parse(std::string_view tags, std::string_view session) {
  RequestLabels labels;
  tags = trimmed(tags);
  while (!tags.empty()) {
    const std::size_t comma = tags.find(',');
    if (auto added = add_tag(trimmed(tags.substr(0, comma)), labels.tags); !added) return fail(added.error());
    tags = comma == std::string_view::npos ? std::string_view() : tags.substr(comma + 1);
  }
  if (auto set = set_session(trimmed(session), labels); !set) return fail(set.error());
  return labels;
}

Result<RequestLabels> RequestLabels::check(const std::vector<std::string>& tags, std::string_view session) {
  RequestLabels labels;
  for (const std::string& tag : tags) {
    if (auto added = add_tag(tag, labels.tags); !added) return fail(added.error());
  }
  if (auto set = set_session(session, labels); !set) return fail(set.error());
  return labels;
}

}  // namespace outlast
