// Scheduler: which rows of which sequences a step computes, and in which pages their keys and values lie. It knows tokens and
// pages, and nothing of models.
//
// Sequences come in as room allows and go on together. Those that wait for one token have their row first; what is left of a
// step is for prompts, in chunks, the oldest first. When pages run out, the youngest sequence gives its own back and waits until it
// can be computed again, so that the oldest always goes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/result.hpp"
#include "gpu/decode/kv_pages.hpp"
#include "gpu/decode/prefix_cache.hpp"

namespace outlast::gpu {

struct SchedulerLimits {
  std::size_t sequences = 16;    // that run at once
  std::size_t rows = 256;        // of one step; at least `sequences`
  std::size_t pages = 1'024;     // of the cache
  std::size_t page_rows = 16;
  std::size_t positions = 2'048; // of the longest sequence, prompt and answer
  std::size_t waiting = 256;     // sequences in the queue
  bool operator==(const SchedulerLimits&) const = default;
};

struct Sequence {
  std::uint64_t id = 0;          // rising with age
  std::vector<TokenId> tokens;   // the prompt, then the answer so far
  std::size_t prompt = 0;
  std::size_t computed = 0;      // of the tokens, those whose keys and values lie in pages
  std::size_t cached = 0;        // of the prompt, those that were found when it first ran
  std::vector<PageId> pages;
  PrefixPlace known;             // of the pages, those that the prefix cache knows
  bool started = false;
};

// A step's part of one sequence: its next `rows` tokens. Where these are all, a token follows from the last.
struct PlannedRows {
  Sequence* sequence = nullptr;
  std::size_t rows = 0;
  [[nodiscard]] bool gives_token() const { return sequence->computed + rows == sequence->tokens.size(); }
};

// One owner.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // At the end of the queue. `answer_max`: tokens that it may grow by, at least 1. Errors: overloaded (the queue is full), too_large (it
  // could never run to its end), invalid (no prompt).
  Result<void> add(std::uint64_t id, std::vector<TokenId> prompt, std::size_t answer_max);
  // The next step's rows, with their pages; valid until the next call of anything. Empty where nothing runs.
  std::span<const PlannedRows> plan();
  // The planned rows have been computed.
  void computed();
  // A sequence is done: its pages are free, or the prefix cache's alone. False where there is none of that id.
  bool remove(std::uint64_t id);

  [[nodiscard]] std::size_t running() const { return running_.size(); }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
  [[nodiscard]] const KvPages& pages() const { return pages_; }
  // Pages that are free or can be at once.
  [[nodiscard]] std::size_t available() const { return pages_.free() + prefixes_.evictable(); }
  [[nodiscard]] std::uint64_t preemptions() const { return preemptions_; }
  // Tokens that were not computed because the prefix cache had them.
  [[nodiscard]] std::uint64_t prefix_tokens() const { return prefix_tokens_; }

 private:
  using Owned = std::unique_ptr<Sequence>;
  [[nodiscard]] std::size_t pages_for(std::size_t tokens) const { return (tokens + limits_.page_rows - 1) / limits_.page_rows; }
  void share_rows(std::size_t& left);
  // Pages for the planned rows of sequence `at` and of those before it. False where even that one had to give way.
  bool find_pages(std::size_t at);
  void admit(std::size_t left);
  bool can_start(const Sequence& sequence) const;
  std::optional<PageId> take_page();
  void preempt_youngest();
  void release(Sequence& sequence);

  const SchedulerLimits limits_;
  KvPages pages_;
  PrefixCache prefixes_;
  std::vector<Owned> running_;  // the oldest first
  std::deque<Owned> waiting_;   // the next first
  std::vector<PlannedRows> plan_;
  std::uint64_t preemptions_ = 0;
  std::uint64_t prefix_tokens_ = 0;
};

}  // namespace outlast::gpu
