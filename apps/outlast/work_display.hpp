// WorkDisplay: what a worker says of its work, as a person follows it: a line that is written over on a terminal, else a line now
// and then; or with --json each event as a line of JSON.
#pragma once

#include <chrono>
#include <string>

#include "proto/work_codec.hpp"

namespace outlast::apps {

// Progress goes to stderr; what JSON there is, to stdout. One owner.
class WorkDisplay {
 public:
  explicit WorkDisplay(bool json);
  ~WorkDisplay();
  WorkDisplay(const WorkDisplay&) = delete;
  WorkDisplay& operator=(const WorkDisplay&) = delete;

  void show(const work::Event& event);
  void show_cut(const work::Event& event);  // of a plan, or of an evaluation alone: samples that were cut
  void end_progress();  // where something else is to be written

 private:
  void line(const std::string& text);
  void progress(const std::string& text, bool now);
  void show_plan(const work::Event& event);
  void show_step(const work::Event& event);
  void show_evaluating(const work::Event& event);

  const bool json_;
  const bool terminal_;
  bool progress_shown_ = false;
  double loss_ = 0;  // smoothed
  double rate_ = 0;  // tokens per second, smoothed
  std::uint64_t steps_seen_ = 0;
  std::chrono::steady_clock::time_point next_progress_{};
};

// "12.3 M", "1.5 GiB", "2 m 10 s".
std::string count_text(double count);
std::string bytes_text(double bytes);
std::string duration_text(double seconds);
std::string percent_text(double share);

// One line of JSON: {"event": "step", "text": …, figures…}.
std::string event_json(const work::Event& event);

}  // namespace outlast::apps
