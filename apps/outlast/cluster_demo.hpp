// Demo: a whole cluster on this machine: three members of etcd with mutual TLS, a simulated provider, and nodes, in a folder
// of their own. Everything that it starts ends with it.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/outlast/child_process.hpp"
#include "apps/outlast/cluster_demo_plan.hpp"
#include "apps/outlast/http_call.hpp"
#include "core/result.hpp"

namespace outlast::apps {

inline constexpr std::string_view demo_tenant = "acme/search/ann";

// One owner, on the main thread.
class Demo {
 public:
  Demo(DemoPrograms programs, DemoPlan plan);
  ~Demo();
  Demo(const Demo&) = delete;
  Demo& operator=(const Demo&) = delete;

  // Everything runs and every node has answered a request. Error: failed.
  Result<void> start();
  // Until Ctrl-C; says when one of the processes has ended, and goes on without it.
  Result<void> watch();
  // A request through each node; kills the owner of the demo's tenant; requests go on through the others; the killed one
  // comes back; the ledger has each request that was answered, once. Error: failed.
  Result<void> check();
  // Runs a shell command with OUTLAST_URL, OUTLAST_KEY, OUTLAST_ADMIN and the like. Error: failed, unless it exits with 0.
  Result<void> run_command(const std::string& command);
  // In order: nodes first, while they can still write. Also what the destructor does.
  void stop();
  void print_what_to_try() const;

 private:
  Result<void> write_files();
  Result<void> start_etcd();
  Result<void> start_simulator();
  Result<void> start_nodes();
  Result<void> start_node(const DemoNode& node);
  Result<void> found(const DemoNode& node);
  Result<void> join(const DemoNode& node);
  Result<void> make_key();
  Result<void> ask_every_node();
  // Status 200 within so long, or what came instead.
  Result<void> ask(const DemoNode& node, std::uint32_t within_ms);
  Result<void> wait_for_200(const std::string& url, const std::string& what);
  Result<std::string> owner_of_tenant();
  Result<void> kill_and_go_on(const DemoNode& victim);
  Result<void> compare_with_ledger(const DemoNode& node);
  // Runs `outlast` to its end; its stdout.
  Result<std::string> run_outlast(std::vector<std::string> words, const std::string& what);
  Result<void> start_child(ChildOptions options, std::string* ready_line);
  void say(const std::string& text) const;
  [[nodiscard]] ChildProcess* child(const std::string& name);
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> environment() const;

  DemoPrograms programs_;
  DemoPlan plan_;
  std::chrono::steady_clock::time_point began_;
  Interrupts interrupts_;
  HttpCaller caller_;
  std::map<std::string, std::unique_ptr<ChildProcess>> children_;  // by name
  std::vector<std::string> order_;                                 // as they were started
  std::string provider_url_;
  std::string key_;
  std::uint64_t answered_ = 0;  // requests through any node
};

}  // namespace outlast::apps
