// ScopeIndex: finds what applies to a request by the scopes that the request touches. One hash probe per kind of scope
// that anything is filed under.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/metering.hpp"
#include "core/scope.hpp"

namespace outlast {

// Everything that a request is charged along. Views: valid as long as what they were made of.
struct SpendPath {
  const TenantPath& tenant;
  std::string_view key_id;
  std::span<const std::string> tags;
  std::span<const Purchase> purchases;  // every provider and model that may serve it
};

// Immutable once filled: any thread may visit.
template <class T>
class ScopeIndex {
 public:
  void add(const Scope& scope, T value) {
    auto& kind = kinds_[static_cast<std::size_t>(scope.kind)];
    kind[scope.value].push_back(std::move(value));
    ++size_;
  }
  // While nobody else visits.
  void remove(const Scope& scope, const T& value) {
    auto& kind = kinds_[static_cast<std::size_t>(scope.kind)];
    const auto found = kind.find(scope.value);
    if (found == kind.end()) return;
    size_ -= std::erase(found->second, value);
    if (found->second.empty()) kind.erase(found);
  }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::size_t size() const { return size_; }

  // Calls visit(const T&) for each value whose scope is on the path, once each: organisation, team, user, key, tags,
  // models, providers.
  template <class Visit>
  void visit(const SpendPath& path, const Visit& visit) const;
  // Every value, in no order.
  template <class Visit>
  void visit_all(const Visit& visit) const {
    for (const Kind& kind : kinds_) {
      for (const auto& [value, filed] : kind) {
        for (const T& one : filed) visit(one);
      }
    }
  }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>()(text); }
  };
  using Kind = std::unordered_map<std::string, std::vector<T>, Hash, std::equal_to<>>;

  template <class Visit>
  void visit_one(ScopeKind kind, std::string_view value, const Visit& visit) const {
    const Kind& values = kinds_[static_cast<std::size_t>(kind)];
    if (values.empty()) return;
    if (const auto found = values.find(value); found != values.end()) {
      for (const T& one : found->second) visit(one);
    }
  }
  [[nodiscard]] bool holds(ScopeKind kind) const { return !kinds_[static_cast<std::size_t>(kind)].empty(); }

  std::array<Kind, std::size(scope_kind_names)> kinds_;
  std::size_t size_ = 0;
};

template <class T>
template <class Visit>
void ScopeIndex<T>::visit(const SpendPath& path, const Visit& visit) const {
  if (empty()) return;
  visit_one(ScopeKind::organisation, path.tenant.organisation, visit);
  if (holds(ScopeKind::team)) {
    visit_one(ScopeKind::team, path.tenant.organisation + "/" + path.tenant.team, visit);
  }
  if (holds(ScopeKind::user)) visit_one(ScopeKind::user, path.tenant.to_string(), visit);
  visit_one(ScopeKind::key, path.key_id, visit);
  for (std::size_t i = 0; i < path.tags.size(); ++i) {
    bool repeated = false;
    for (std::size_t before = 0; before < i; ++before) repeated = repeated || path.tags[before] == path.tags[i];
    if (!repeated) visit_one(ScopeKind::tag, path.tags[i], visit);
  }
  for (std::size_t i = 0; i < path.purchases.size(); ++i) {
    bool model_repeated = false;
    bool provider_repeated = false;
    for (std::size_t before = 0; before < i; ++before) {
      model_repeated = model_repeated || path.purchases[before].model == path.purchases[i].model;
      provider_repeated = provider_repeated || path.purchases[before].provider == path.purchases[i].provider;
    }
    if (!model_repeated) visit_one(ScopeKind::model, path.purchases[i].model, visit);
    if (!provider_repeated) visit_one(ScopeKind::provider, path.purchases[i].provider, visit);
  }
}

}  // namespace outlast
