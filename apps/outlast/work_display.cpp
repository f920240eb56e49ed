#include "apps/outlast/work_display.hpp"

#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>

#include "apps/outlast/terminal.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

constexpr auto terminal_interval = std::chrono::milliseconds(100);
constexpr auto log_interval = std::chrono::seconds(10);
constexpr int bar_width = 24;
constexpr double smoothing = 0.9;

constexpr std::array<const char*, static_cast<std::size_t>(work::last_event_kind) + 1> kind_names = {"note", "plan", "step", "evaluation", "checkpoint", "delta", "answer", "done", "failed", "rank_lost", "evaluating"};

std::string formatted(const char* format, double value) {
  char text[64];
  (void)std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string with_unit(double value, double base, const std::array<const char*, 5>& units) {
  std::size_t unit = 0;
  while (value >= base && unit + 1 < units.size()) {
    value /= base;
    ++unit;
  }
  return formatted(unit == 0 || value >= 100 ? "%.0f" : "%.1f", value) + units[unit];
}

std::string bar(double share) {
  const int full = static_cast<int>(share * bar_width);
  std::string text = "[";
  for (int i = 0; i < bar_width; ++i) text += i < full ? '#' : '.';
  return text + "]";
}

}  // namespace

std::string count_text(double count) { return with_unit(count, 1'000, {"", " k", " M", " G", " T"}); }
std::string bytes_text(double bytes) { return with_unit(bytes, 1'024, {" B", " KiB", " MiB", " GiB", " TiB"}); }
std::string percent_text(double share) { return formatted("%.1f %%", share * 100); }
std::string duration_text(double seconds) {
  if (!(seconds >= 0)) return "?";
  if (seconds < 60) return formatted("%.0f s", seconds);
  if (seconds < 3'600) return formatted("%.0f m ", std::floor(seconds / 60)) + formatted("%.0f s", std::fmod(seconds, 60));
  return formatted("%.0f h ", std::floor(seconds / 3'600)) + formatted("%.0f m", std::floor(std::fmod(seconds, 3'600) / 60));
}

std::string event_json(const work::Event& event) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("event").string(kind_names[static_cast<std::size_t>(event.kind)]);
  if (!event.text.empty()) json.key("text").string(event.text);
  for (const work::Figure& figure : event.figures) json.key(figure.name).real(figure.value);
  json.end_object();
  return text + "\n";
}

WorkDisplay::WorkDisplay(bool json) : json_(json), terminal_(!json && ::isatty(STDERR_FILENO) == 1) {}
WorkDisplay::~WorkDisplay() { end_progress(); }

void WorkDisplay::line(const std::string& text) {
  end_progress();
  std::fprintf(stderr, "%s\n", text.c_str());
}

void WorkDisplay::progress(const std::string& text, bool now) {
  const auto time = std::chrono::steady_clock::now();
  if (!now && time < next_progress_) return;
  next_progress_ = time + (terminal_ ? std::chrono::duration_cast<std::chrono::milliseconds>(terminal_interval) : log_interval);
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", text.c_str());
    return;
  }
  std::fprintf(stderr, "\r\033[K%s", text.c_str());
  (void)std::fflush(stderr);
  progress_shown_ = true;
}

void WorkDisplay::end_progress() {
  if (!progress_shown_) return;
  std::fprintf(stderr, "\n");
  progress_shown_ = false;
}

void WorkDisplay::show_plan(const work::Event& event) {
  const double parameters = event.figure("parameters");
  const double trained = event.figure("trained_parameters");  // a worker of an earlier version does not tell: it trains all
  const double teachers = event.figure("teacher_parameters");  // NaN without one
  const double ranks = event.figure("ranks");  // NaN where there is one
  line((trained < parameters ? count_text(trained) + " trained beside " : std::string()) + count_text(parameters) + " parameters " + (teachers > 0 ? "by a teacher of " + count_text(teachers) + " " : "") + "on " + (ranks > 1 ? count_text(ranks) + " ranks of " : "") + event.text + ", " + count_text(event.figure("steps")) + " steps, " +
       count_text(event.figure("samples")) + " samples of " + count_text(event.figure("tokens")) + " tokens");
  const double of_teacher = event.figure("teacher_bytes");  // NaN without one
  line((ranks > 1 ? "memory of a rank " : "memory ") + bytes_text(event.figure("memory_bytes")) + " of " + bytes_text(event.figure("free_bytes")) + ": weights " + bytes_text(event.figure("weights_bytes")) +
       ", gradients " + bytes_text(event.figure("gradients_bytes")) + ", optimizer " + bytes_text(event.figure("optimizer_bytes")) + ", activations " +
       bytes_text(event.figure("activations_bytes")) + (ranks > 1 ? ", copies for the loss of one " + bytes_text(event.figure("copies_bytes")) : "") + (of_teacher > 0 ? ", teacher " + bytes_text(of_teacher) : "") + " (" + formatted("%.0f", event.figure("bytes_per_parameter")) + " B a parameter, " +
       bytes_text(event.figure("bytes_per_token")) + " a token)");
  show_cut(event);
}

void WorkDisplay::show_cut(const work::Event& event) {
  if (const double cut = event.figure("cut_samples"); cut > 0) line(count_text(cut) + " samples are longer than --positions or --rows allow, and lose their beginning");
}

void WorkDisplay::show_step(const work::Event& event) {
  const double step = event.figure("step");
  const double steps = event.figure("steps");
  // Smoothed from the first on, as Adam corrects its moments.
  const double kept = steps_seen_ == 0 ? 0.0 : smoothing;
  loss_ = kept * loss_ + (1 - kept) * event.figure("loss");
  rate_ = kept * rate_ + (1 - kept) * event.figure("tokens_per_second");
  ++steps_seen_;
  const double seconds_left = (steps - step) * event.figure("tokens") / rate_;
  const double mfu = event.figure("mfu");
  progress(bar(step / steps) + " step " + formatted("%.0f", step) + "/" + formatted("%.0f", steps) + "  loss " + formatted("%.4f", loss_) + "  " + count_text(rate_) +
               " tokens/s  " + (std::isnan(mfu) ? "" : "MFU " + percent_text(mfu) + "  ") + duration_text(seconds_left) + " left",
           step == steps);
}

void WorkDisplay::show_evaluating(const work::Event& event) {
  const double done = event.figure("samples_done");
  const double all = event.figure("samples");
  progress(bar(done / all) + " evaluates " + formatted("%.0f", done) + "/" + formatted("%.0f", all) + " samples", false);
}

void WorkDisplay::show(const work::Event& event) {
  if (json_) {
    print(event_json(event));
    return;
  }
  switch (event.kind) {
    case work::EventKind::plan: return show_plan(event);
    case work::EventKind::step: return show_step(event);
    case work::EventKind::evaluating: return show_evaluating(event);
    case work::EventKind::note:
    case work::EventKind::rank_lost: return line(printable(event.text));
    case work::EventKind::evaluation:
      return line((std::isnan(event.figure("step")) ? std::string() : "step " + formatted("%.0f", event.figure("step")) + ": ") + "held out: " +
                  percent_text(event.figure("exact")) + " right, " + percent_text(event.figure("token_accuracy")) + " of tokens, loss " +
                  formatted("%.4f", event.figure("loss")) + (event.figure("best") > 0 ? ", the best so far" : ""));
    case work::EventKind::checkpoint:
    case work::EventKind::delta:
    case work::EventKind::answer:
    case work::EventKind::done:
    case work::EventKind::failed: return;
  }
}

}  // namespace outlast::apps
