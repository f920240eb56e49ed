#include "actors/worker_table.hpp"

#include <algorithm>

#include "actors/messages.hpp"

namespace outlast::actors {
namespace {

bool is_name(const std::string& name) {
  return !name.empty() && name.size() <= ask::name_bytes_max / 2 && name.find('/') == std::string::npos;
}

// So that an announcement of it always fits.
bool fits(const WorkerDescription& worker) {
  return worker.device.size() <= ask::name_bytes_max && worker.capabilities.size() <= ask::capabilities_max &&
         std::all_of(worker.capabilities.begin(), worker.capabilities.end(),
                     [](const std::string& capability) { return capability.size() <= ask::name_bytes_max; });
}

}  // namespace

Result<void> WorkerTable::add(WorkerDescription worker) {
  if (!is_name(worker.name)) {
    return fail(ActorError::refused, "\"" + worker.name + "\" is no name of a worker: 1 to " +
                                         std::to_string(ask::name_bytes_max / 2) + " bytes without '/'");
  }
  if (!fits(worker)) return fail(ActorError::refused, "the description of worker " + worker.name + " is too long");
  if (own_.contains(worker.name)) {
    return fail(ActorError::refused, "this node has a worker " + worker.name + " already");
  }
  if (own_.size() >= ask::workers_max) {
    return fail(ActorError::overloaded, "this node has as many workers as it may");
  }
  std::string name = worker.name;
  own_.emplace(std::move(name), std::move(worker));
  ++version_;
  return {};
}

bool WorkerTable::remove(const std::string& name) {
  if (own_.erase(name) == 0) return false;
  ++version_;
  return true;
}

ask::Workers WorkerTable::announcement() const {
  ask::Workers announcement{version_, {}};
  for (const auto& [name, worker] : own_) announcement.workers.push_back(worker);
  return announcement;
}

bool WorkerTable::heard(const std::string& node, const Incarnation& incarnation, ask::Workers announcement) {
  if (node == node_) return false;
  const auto known = others_.find(node);
  if (known != others_.end() && known->second.incarnation == incarnation &&
      announcement.version <= known->second.version) {
    return false;
  }
  Announced announced{incarnation, announcement.version, {}};
  for (WorkerDescription& worker : announcement.workers) {
    if (!is_name(worker.name)) continue;
    std::string name = worker.name;
    announced.workers.emplace(std::move(name), std::move(worker));
  }
  const bool changed = known == others_.end() ? !announced.workers.empty() : known->second.workers != announced.workers;
  others_.insert_or_assign(node, std::move(announced));
  return changed;
}

bool WorkerTable::forget(const std::string& node) {
  const auto known = others_.find(node);
  if (known == others_.end()) return false;
  const bool had = !known->second.workers.empty();
  others_.erase(known);
  return had;
}

std::vector<PlacedWorker> WorkerTable::workers() const {
  std::vector<PlacedWorker> all;
  for (const auto& [name, worker] : own_) all.push_back({node_, worker});
  for (const auto& [node, announced] : others_) {
    for (const auto& [name, worker] : announced.workers) all.push_back({node, worker});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const PlacedWorker& a, const PlacedWorker& b) { return a.node < b.node; });
  return all;
}

const WorkerTable::ByName* WorkerTable::workers_of(const std::string& node) const {
  if (node == node_) return &own_;
  const auto found = others_.find(node);
  return found == others_.end() ? nullptr : &found->second.workers;
}

Result<PlacedWorker> WorkerTable::find(const std::string& name) const {
  if (const auto slash = name.rfind('/'); slash != std::string::npos) {
    const std::string node = name.substr(0, slash);
    const ByName* workers = workers_of(node);
    const auto found = workers != nullptr ? workers->find(name.substr(slash + 1)) : ByName::const_iterator();
    if (workers != nullptr && found != workers->end()) return PlacedWorker{node, found->second};
    return fail(ActorError::not_found, "there is no worker " + name);
  }
  std::vector<PlacedWorker> found = workers();
  std::erase_if(found, [&name](const PlacedWorker& placed) { return placed.worker.name != name; });
  if (found.empty()) return fail(ActorError::not_found, "there is no worker " + name);
  if (found.size() == 1) return std::move(found.front());
  return fail(ActorError::refused, "several nodes have a worker " + name + "; name it " + found[0].node + "/" + name +
                                       " or " + found[1].node + "/" + name);
}

}  // namespace outlast::actors
