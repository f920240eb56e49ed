#include "gpu/decode/scheduler.hpp"

#include <algorithm>
#include <string>

#include "core/check.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {

Scheduler::Scheduler(const SchedulerLimits& limits) : limits_(limits), pages_(limits.pages), prefixes_(pages_, limits.page_rows) {
  check(limits.sequences > 0 && limits.rows >= limits.sequences && limits.page_rows > 0, "every sequence that runs has a row in a step");
  plan_.reserve(limits.sequences);
  running_.reserve(limits.sequences);
}

Result<void> Scheduler::add(std::uint64_t id, std::vector<TokenId> prompt, std::size_t answer_max) {
  if (prompt.empty() || answer_max == 0) return fail(GpuError::invalid, "a prompt has at least one token, and so has an answer");
  const std::size_t most = prompt.size() + std::min(answer_max, limits_.positions);
  const std::string asked = "a prompt of " + std::to_string(prompt.size()) + " tokens and an answer of up to " + std::to_string(answer_max);
  if (prompt.size() > limits_.positions || most > limits_.positions)
    return fail(GpuError::too_large, asked + "; at most " + std::to_string(limits_.positions) + " fit together");
  // The last token of an answer is never computed: no other follows from it.
  if (pages_for(most - 1) > limits_.pages)
    return fail(GpuError::too_large, asked + "; the cache holds " + std::to_string(limits_.pages * limits_.page_rows) + " tokens");
  if (waiting_.size() >= limits_.waiting) return fail(GpuError::overloaded, std::to_string(waiting_.size()) + " requests wait already");
  auto sequence = std::make_unique<Sequence>();
  sequence->id = id;
  sequence->prompt = prompt.size();
  sequence->tokens = std::move(prompt);
  sequence->tokens.reserve(most);
  sequence->pages.reserve(pages_for(most));
  waiting_.push_back(std::move(sequence));
  return {};
}

std::span<const PlannedRows> Scheduler::plan() {
  plan_.clear();
  std::size_t left = limits_.rows;
  share_rows(left);
  const std::uint64_t preempted = preemptions_;
  for (std::size_t at = 0; at < plan_.size() && find_pages(at); ++at) {}
  // What had to give way does not come back in the same step.
  if (preemptions_ == preempted) admit(left);
  std::erase_if(plan_, [](const PlannedRows& rows) { return rows.rows == 0; });
  return plan_;
}

// plan_ is beside running_ here: one entry each, some without rows.
void Scheduler::share_rows(std::size_t& left) {
  for (const Owned& sequence : running_) {
    const bool waits_for_one = sequence->tokens.size() - sequence->computed == 1;
    plan_.push_back({sequence.get(), waits_for_one ? std::size_t{1} : 0});
    left -= plan_.back().rows;
  }
  for (PlannedRows& rows : plan_) {
    if (rows.rows > 0) continue;
    rows.rows = std::min(left, rows.sequence->tokens.size() - rows.sequence->computed);
    left -= rows.rows;
  }
}

bool Scheduler::find_pages(std::size_t at) {
  Sequence& sequence = *plan_[at].sequence;
  const std::size_t wanted = pages_for(sequence.computed + plan_[at].rows);
  while (sequence.pages.size() < wanted) {
    if (const auto page = take_page()) {
      sequence.pages.push_back(*page);
      continue;
    }
    const bool is_youngest = at + 1 == plan_.size();
    check(!is_youngest || at > 0, "a sequence that runs alone has the pages that it was promised");
    preempt_youngest();
    if (is_youngest) return false;
  }
  return true;
}

std::optional<PageId> Scheduler::take_page() {
  if (pages_.free() == 0 && !prefixes_.evict()) return std::nullopt;
  return pages_.take();
}

void Scheduler::preempt_youngest() {
  Owned sequence = std::move(running_.back());
  running_.pop_back();
  plan_.pop_back();
  release(*sequence);
  waiting_.push_front(std::move(sequence));
  ++preemptions_;
}

void Scheduler::release(Sequence& sequence) {
  for (const PageId page : sequence.pages) pages_.drop(page);
  sequence.pages.clear();
  sequence.known = {};
  sequence.computed = 0;
}

// Room for all of its tokens, and a page for each of the others, so that it is not sent back at once.
bool Scheduler::can_start(const Sequence& sequence) const {
  const std::size_t wanted = pages_for(sequence.tokens.size()) - sequence.pages.size();
  return available() >= wanted + running_.size();
}

void Scheduler::admit(std::size_t left) {
  while (left > 0 && !waiting_.empty() && running_.size() < limits_.sequences) {
    Sequence& sequence = *waiting_.front();
    // The last token is computed in any case: the next one follows from it.
    sequence.known = prefixes_.find(std::span(sequence.tokens).first(sequence.tokens.size() - 1), sequence.pages);
    if (!can_start(sequence)) return release(sequence);
    sequence.computed = sequence.known.pages * limits_.page_rows;
    if (!sequence.started) sequence.cached = sequence.computed;
    sequence.started = true;
    prefix_tokens_ += sequence.computed;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    plan_.push_back({running_.back().get(), std::min(left, sequence.tokens.size() - sequence.computed)});
    left -= plan_.back().rows;
    const bool found = find_pages(plan_.size() - 1);
    check(found, "a sequence that was let in has its pages");
  }
}

void Scheduler::computed() {
  for (const PlannedRows& rows : plan_) {
    Sequence& sequence = *rows.sequence;
    sequence.computed += rows.rows;
    while ((sequence.known.pages + 1) * limits_.page_rows <= sequence.computed) {
      PageId& page = sequence.pages[sequence.known.pages];
      const auto tokens = std::span<const TokenId>(sequence.tokens).subspan(sequence.known.pages * limits_.page_rows, limits_.page_rows);
      const auto known = prefixes_.add(sequence.known, tokens, page);
      if (!known) break;
      page = *known;
    }
  }
  plan_.clear();
}

bool Scheduler::remove(std::uint64_t id) {
  const auto is_it = [id](const Owned& sequence) { return sequence->id == id; };
  plan_.clear();
  if (const auto at = std::find_if(running_.begin(), running_.end(), is_it); at != running_.end()) {
    release(**at);
    running_.erase(at);
    return true;
  }
  const auto at = std::find_if(waiting_.begin(), waiting_.end(), is_it);
  if (at == waiting_.end()) return false;
  waiting_.erase(at);
  return true;
}

}  // namespace outlast::gpu
