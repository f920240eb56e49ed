// SampleTask: a narrow task to try students on without data of one's own: a customer's message, and which of twenty kinds it is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace outlast::apps {

struct LabelledMessage {
  std::string message;
  std::string_view label;
};

std::vector<std::string_view> sample_task_labels();

// The same for the same seed. Messages are put together from phrases, with typing errors, other words and small talk in between.
std::vector<LabelledMessage> make_sample_task(std::size_t count, std::uint64_t seed);

}  // namespace outlast::apps
