// What spend breakers count, per scope or session, in bounded memory and constant time per event. Pure; times are
// milliseconds, not below zero, of a clock that does not go back. One owner.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/money.hpp"

namespace outlast::gateway {

// A sum over the last `window_ms`, in 32 steps: what is older than the window never counts, and of what is younger at
// most its oldest 32nd does not.
template <class T>
class SlidingSum {
 public:
  static constexpr std::int64_t steps = 32;

  explicit SlidingSum(std::int64_t window_ms) : step_ms_(std::max<std::int64_t>(1, window_ms / steps)) {}
  void add(std::int64_t now_ms, T amount) {
    roll(now_ms);
    buckets_[place(newest_)] += amount;
    sum_ += amount;
  }
  [[nodiscard]] T sum(std::int64_t now_ms) {
    roll(now_ms);
    return sum_;
  }

 private:
  static std::size_t place(std::int64_t step) { return static_cast<std::size_t>(step % steps); }
  void roll(std::int64_t now_ms) {
    const std::int64_t step = now_ms / step_ms_;
    if (step <= newest_) return;
    for (std::int64_t gone = std::max(newest_ + 1, step - steps + 1); gone <= step; ++gone) {
      sum_ -= buckets_[place(gone)];
      buckets_[place(gone)] = T{};
    }
    newest_ = step;
  }

  std::int64_t step_ms_;
  std::int64_t newest_ = 0;  // the step that is being filled
  T sum_{};
  std::array<T, steps> buckets_{};
};

// Spend per sample, and the median of the samples before it in which anything was spent: a scope that sleeps at night
// is compared with its days.
class SpendRate {
 public:
  // So many samples are needed before anything can be said; fewer where the history is shorter.
  static constexpr std::size_t samples_min = 3;

  SpendRate(std::int64_t sample_ms, std::size_t history) : sample_ms_(sample_ms), history_(history) {}
  void add(std::int64_t now_ms, PicoUsd amount) {
    const std::int64_t sample = now_ms / sample_ms_;
    if (sample > sample_) {
      if (current_.value > 0) close();
      sample_ = sample;
      current_ = {};
    }
    current_ += amount;
  }
  [[nodiscard]] PicoUsd current() const { return current_; }
  [[nodiscard]] bool known() const { return samples_.size() >= std::min(samples_min, history_); }
  [[nodiscard]] PicoUsd median() const { return median_; }

 private:
  void close() {
    if (samples_.size() < history_) samples_.push_back(current_);
    else samples_[next_++ % history_] = current_;
    std::vector<PicoUsd> sorted = samples_;  // at most `history` of them, once per sample
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    median_ = *middle;
  }

  std::int64_t sample_ms_;
  std::size_t history_;
  std::int64_t sample_ = 0;
  PicoUsd current_;
  PicoUsd median_;
  std::vector<PicoUsd> samples_;
  std::size_t next_ = 0;
};

// How long one session has lasted and what it cost. After a gap without events the next event begins another.
class SpendSession {
 public:
  explicit SpendSession(std::int64_t idle_gap_ms) : idle_gap_ms_(idle_gap_ms) {}
  void add(std::int64_t started_ms, std::int64_t now_ms, PicoUsd amount) {
    if (began_ms_ < 0 || started_ms - last_ms_ > idle_gap_ms_) {
      began_ms_ = started_ms;
      amount_ = {};
    }
    last_ms_ = std::max(last_ms_, now_ms);
    amount_ += amount;
  }
  [[nodiscard]] std::int64_t duration_ms() const { return last_ms_ - began_ms_; }
  [[nodiscard]] PicoUsd amount() const { return amount_; }

 private:
  std::int64_t idle_gap_ms_;
  std::int64_t began_ms_ = -1;
  std::int64_t last_ms_ = 0;
  PicoUsd amount_;
};

// A map that forgets what was not touched for longest when it is full.
template <class T>
class RecentMap {
 public:
  explicit RecentMap(std::size_t entries_max) : entries_max_(entries_max) {}

  // The value of a key, made by `make()` where there is none.
  template <class Make>
  T& touch(const std::string& key, const Make& make) {
    if (const auto found = places_.find(key); found != places_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return found->second->second;
    }
    shrink(entries_max_ - 1);
    entries_.emplace_front(key, make());
    places_.emplace(key, entries_.begin());
    return entries_.front().second;
  }
  void erase(const std::string& key) {
    const auto found = places_.find(key);
    if (found == places_.end()) return;
    entries_.erase(found->second);
    places_.erase(found);
  }
  // Forgets the first entry that `chosen(value)` names. For rare use: linear.
  template <class Chosen>
  void erase_one(const Chosen& chosen) {
    const auto found = std::find_if(entries_.begin(), entries_.end(),
                                    [&chosen](const auto& entry) { return chosen(entry.second); });
    if (found == entries_.end()) return;
    places_.erase(found->first);
    entries_.erase(found);
  }
  void limit(std::size_t entries_max) {
    entries_max_ = entries_max;
    shrink(entries_max);
  }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }

 private:
  void shrink(std::size_t to) {
    while (entries_.size() > to) {
      places_.erase(entries_.back().first);
      entries_.pop_back();
    }
  }

  std::size_t entries_max_;
  std::list<std::pair<std::string, T>> entries_;  // the latest first
  std::unordered_map<std::string, typename std::list<std::pair<std::string, T>>::iterator> places_;
};

}  // namespace outlast::gateway
