#include "apps/outlast/cluster_demo.hpp"

#include <cstdio>
#include <filesystem>
#include <utility>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/cluster_certificates.hpp"
#include "apps/outlast/json_fields.hpp"
#include "apps/outlast/node_access.hpp"
#include "apps/outlast/terminal.hpp"
#include "storage/durable_file.hpp"

namespace outlast::apps {
namespace {

constexpr int ready_ms = 60'000;
constexpr int answers_ms = 60'000;  // until a process that runs does what it is for
constexpr int stop_ms = 20'000;
constexpr int command_ms = 60'000;
constexpr int look_again_ms = 50;
constexpr std::uint32_t request_ms = 10'000;
constexpr unsigned file_mode = 0600;
constexpr const char* question = R"({"model":"smart","messages":[{"role":"user","content":"hello"}]})";

using Clock = std::chrono::steady_clock;

Failure interrupted() { return fail(CliError::failed, "interrupted"); }

Result<void> write(const std::string& file, const std::string& text) {
  const auto written = storage::write_file_durably(file, text, file_mode);
  if (!written) return fail(CliError::failed, written.error().message);
  return {};
}

Result<void> make_demo_folder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail(CliError::failed, folder + " cannot be made: " + error.message());
  return {};
}

// "http" of "outlast-sim ready http=127.0.0.1:9001 control=…"; empty where there is none.
std::string field_of(const std::string& line, const std::string& name) {
  const auto at = line.find(" " + name + "=");
  if (at == std::string::npos) return {};
  const auto begin = at + name.size() + 2;
  return line.substr(begin, line.find(' ', begin) - begin);
}

}  // namespace

Demo::Demo(DemoPrograms programs, DemoPlan plan)
    : programs_(std::move(programs)), plan_(std::move(plan)), began_(Clock::now()), caller_("") {}

Demo::~Demo() { stop(); }

void Demo::say(const std::string& text) const {
  const double seconds = std::chrono::duration<double>(Clock::now() - began_).count();
  char time[32];
  std::snprintf(time, sizeof time, "%6.1f s  ", seconds);
  print(dim(time) + printable(text, true) + "\n");
  std::fflush(stdout);
}

ChildProcess* Demo::child(const std::string& name) {
  const auto found = children_.find(name);
  return found == children_.end() ? nullptr : found->second.get();
}

Result<void> Demo::start_child(ChildOptions options, std::string* ready_line) {
  options.has_ready_line = ready_line != nullptr;
  const std::string name = options.name;
  auto started = ChildProcess::start(std::move(options));
  if (!started) return fail(started.error());
  children_[name] = std::move(*started);
  std::erase(order_, name);
  order_.push_back(name);
  if (ready_line == nullptr) return {};
  auto line = children_[name]->ready_line(ready_ms, interrupts_);
  if (!line) return fail(line.error());
  *ready_line = std::move(*line);
  return {};
}

Result<void> Demo::start() {
  for (const auto step : {&Demo::write_files, &Demo::start_etcd, &Demo::start_simulator, &Demo::start_nodes, &Demo::make_key,
                          &Demo::ask_every_node}) {
    if (auto done = (this->*step)(); !done) return done;
  }
  return {};
}

Result<void> Demo::write_files() {
  CertificatePlan certificates{plan_.certificates(), {}, {}};
  for (const DemoMember& member : plan_.members) certificates.hosts.push_back({member.name, {"127.0.0.1"}});
  for (const DemoNode& node : plan_.nodes) certificates.nodes.push_back(node.name);
  const auto made = make_certificates(certificates);
  if (!made) return fail(made.error());
  say("certificates of a private authority in " + plan_.certificates());
  return {};
}

Result<void> Demo::start_etcd() {
  for (const DemoMember& member : plan_.members) {
    ChildOptions options{"etcd " + member.name, etcd_command(programs_, plan_, member), {}, plan_.folder + "/etcd-" + member.name + ".log"};
    if (auto started = start_child(std::move(options), nullptr); !started) return started;
  }
  for (const DemoMember& member : plan_.members) {
    // Its health says whether it can commit, and so whether a majority has found together.
    const auto healthy =
        wait_for_200("http://127.0.0.1:" + std::to_string(member.metrics_port) + "/health", "etcd " + member.name);
    if (!healthy) return healthy;
  }
  say("etcd: 3 members with mutual TLS agree");
  return {};
}

Result<void> Demo::start_simulator() {
  ChildOptions options{"outlast-sim",
                       {programs_.simulator, "--listen", "127.0.0.1:0", "--dialect", "openai", "--models", "gpt-sim",
                        "--first-token-ms", "20"},
                       {},
                       plan_.folder + "/outlast-sim.log"};
  std::string ready;
  if (auto started = start_child(std::move(options), &ready); !started) return started;
  provider_url_ = "http://" + field_of(ready, "http");
  say("a simulated provider at " + provider_url_);
  return {};
}

Result<void> Demo::start_nodes() {
  for (const DemoNode& node : plan_.nodes) {
    auto done = make_demo_folder(node.folder);
    if (done) done = write(node.config(), node_config_text(plan_, node, provider_url_));
    if (done) done = write(node.folder + "/prices.toml", demo_prices_text());
    const bool founder = &node == &plan_.nodes.front();
    if (done) done = founder ? found(node) : join(node);
    if (done) done = start_node(node);
    if (!done) return done;
    say("node " + node.name + (founder ? " has founded the cluster" : " has joined") + ", " + node.url());
  }
  return {};
}

Result<void> Demo::found(const DemoNode& node) {
  const auto done = run_outlast({"node", "init", "--found", "--config", node.config()}, "node init");
  if (!done) return fail(done.error());
  return {};
}

Result<void> Demo::join(const DemoNode& node) {
  const auto made = run_outlast({"--data", plan_.nodes.front().data(), "node", "token", "--json"}, "node token");
  if (!made) return fail(made.error());
  const auto token = parse_object(*made, "the answer to 'outlast node token'");
  if (!token) return fail(token.error());
  const auto done = run_outlast({"node", "join", text_of(*token, "token"), "--config", node.config()}, "node join");
  if (!done) return fail(done.error());
  return {};
}

Result<void> Demo::start_node(const DemoNode& node) {
  ChildOptions options{"node " + node.name, {programs_.outlastd, "--config", node.config()}, {}, node.folder + "/outlastd.log"};
  std::string ready;
  if (auto started = start_child(std::move(options), &ready); !started) return started;
  return wait_for_200(node.admin() + "/readyz", "node " + node.name);
}

Result<void> Demo::make_key() {
  const auto made = run_outlast({"--data", plan_.nodes.front().data(), "key", "create", "--tenant", std::string(demo_tenant),
                                 "--name", "demo", "--json"},
                                "key create");
  if (!made) return fail(made.error());
  const auto key = parse_object(*made, "the answer to 'outlast key create'");
  if (!key) return fail(key.error());
  key_ = text_of(*key, "key");
  if (key_.empty()) return fail(CliError::failed, "'outlast key create' gave no key");
  say("a key for " + std::string(demo_tenant) + ", made at " + plan_.nodes.front().name + ", good at every node");
  return {};
}

Result<void> Demo::ask_every_node() {
  std::string names;
  for (const DemoNode& node : plan_.nodes) {
    if (auto asked = ask(node, answers_ms); !asked) return asked;
    names += (names.empty() ? "" : ", ") + node.name;
  }
  say("a request through each of " + names + ": answered");
  return {};
}

Result<void> Demo::ask(const DemoNode& node, std::uint32_t within_ms) {
  const auto origin = http::Origin::parse(node.url());
  if (!origin) return fail(CliError::failed, origin.error().message);
  HttpCall call;
  call.origin = *origin;
  call.method = "POST";
  call.path = "/v1/chat/completions";
  call.headers = {{"Authorization", "Bearer " + key_}, {"Content-Type", "application/json"}};
  call.body = question;
  call.timeouts = {request_ms, request_ms, request_ms};
  const auto deadline = Clock::now() + std::chrono::milliseconds(within_ms);
  std::string last;
  do {
    const auto answer = caller_.call(call);
    if (answer && answer->status == 200) {
      ++answered_;
      return {};
    }
    last = answer ? "status " + std::to_string(answer->status) + ": " + message_of(*answer) : answer.error().message;
    if (interrupts_.wait(look_again_ms)) return interrupted();
  } while (Clock::now() < deadline);
  return fail(CliError::failed, "node " + node.name + " did not answer a request within " + std::to_string(within_ms) +
                                    " ms: " + last);
}

Result<void> Demo::wait_for_200(const std::string& url, const std::string& what) {
  const auto origin = http::Origin::parse(url);
  if (!origin) return fail(CliError::failed, origin.error().message);
  HttpCall call;
  call.origin = *origin;
  call.path = std::exchange(call.origin.path_prefix, "");
  call.timeouts = {request_ms, request_ms, request_ms};
  const auto deadline = Clock::now() + std::chrono::milliseconds(answers_ms);
  ChildProcess* process = child(what);
  std::string last = "nothing";
  while (Clock::now() < deadline) {
    const auto answer = caller_.call(call);
    if (answer && answer->status == 200) return {};
    last = answer ? "status " + std::to_string(answer->status) : answer.error().message;
    if (process != nullptr && !process->running()) break;
    if (interrupts_.wait(look_again_ms)) return interrupted();
  }
  std::string text = what + " does not work: " + url + " gave " + last;
  if (process != nullptr) {
    if (!process->running()) text = what + " ended with " + process->ending();
    text += "; its log ends:\n" + process->log_end();
  }
  return fail(CliError::failed, text);
}

Result<std::string> Demo::run_outlast(std::vector<std::string> words, const std::string& what) {
  words.insert(words.begin(), programs_.outlast);
  ChildOptions options{"outlast " + what, std::move(words), environment(), plan_.folder + "/outlast.log", true};
  auto started = ChildProcess::start(std::move(options));
  if (!started) return fail(started.error());
  auto output = (*started)->output(command_ms, interrupts_);
  if (!output) return fail(output.error());
  return output;
}

std::vector<std::pair<std::string, std::string>> Demo::environment() const {
  const DemoNode& first = plan_.nodes.front();
  std::vector<std::pair<std::string, std::string>> result = {
      {"OUTLAST_URL", first.url()}, {"OUTLAST_ADMIN", first.admin()}, {"OUTLAST_KEY", key_},
      {"OUTLAST_DEMO_FOLDER", plan_.folder}};
  const auto token = storage::read_whole_file(first.data() + "/admin.token", 4'096);
  if (token) result.emplace_back("OUTLAST_ADMIN_TOKEN", token->substr(0, token->find('\n')));
  std::string urls;
  for (const DemoNode& node : plan_.nodes) urls += (urls.empty() ? "" : " ") + node.url();
  result.emplace_back("OUTLAST_URLS", urls);
  return result;
}

void Demo::print_what_to_try() const {
  const DemoNode& first = plan_.nodes.front();
  const DemoNode& last = plan_.nodes.back();
  const ChildProcess& process = *children_.at("node " + last.name);
  print("\n" + bold("What to try") + " in another terminal:\n\n");
  print("  export OUTLAST_KEY=" + key_ + "\n");
  for (const DemoNode& node : plan_.nodes) {
    print("  curl -s " + node.url() + "/v1/chat/completions -H \"Authorization: Bearer $OUTLAST_KEY\" -d '" + question + "'" +
          dim("   # " + node.name) + "\n");
  }
  print("\n  " + programs_.outlast + " --data " + first.data() + " cluster status" + dim("   # nodes, owners, lag, etcd") + "\n");
  print("  " + programs_.outlast + " --data " + first.data() + " usage --by user" + dim("   # what it cost") + "\n");
  print("  kill -9 " + std::to_string(process.pid()) + dim("   # " + last.name + " dies; ask the others again") + "\n");
  print("  " + programs_.outlastd + " --config " + last.config() + dim("   # and comes back") + "\n\n");
  print("Everything is in " + plan_.folder + ". Ctrl-C stops it all.\n");
  std::fflush(stdout);
}

Result<void> Demo::watch() {
  while (!interrupts_.wait(look_again_ms)) {
    for (const std::string& name : std::vector<std::string>(order_)) {
      ChildProcess* process = child(name);
      if (process == nullptr || process->running()) continue;
      say(name + " has ended (" + process->ending() + "); the others go on");
      children_.erase(name);
      std::erase(order_, name);
    }
    if (order_.empty()) return fail(CliError::failed, "every process has ended; the logs are in " + plan_.folder);
  }
  return {};
}

Result<void> Demo::run_command(const std::string& command) {
  say("running: " + command);
  auto started = ChildProcess::start({"the command", {"/bin/sh", "-c", command}, environment(), ""});
  if (!started) return fail(started.error());
  while ((*started)->running()) {
    if (interrupts_.wait(look_again_ms)) return interrupted();
  }
  const std::string ending = (*started)->ending();
  if (ending != "exit status 0") return fail(CliError::failed, "the command ended with " + ending);
  return {};
}

void Demo::stop() {
  if (order_.empty()) return;
  const auto begin = Clock::now();
  // All nodes at once: each waits for its own requests only.
  for (const std::string& name : order_) {
    if (name.starts_with("node ")) child(name)->ask_to_stop();
  }
  std::string forced;
  for (auto name = order_.rbegin(); name != order_.rend(); ++name) {
    const auto spent = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin).count();
    if (!child(*name)->stop(std::max<int>(0, stop_ms - static_cast<int>(spent)))) forced += " " + *name + ";";
  }
  children_.clear();
  order_.clear();
  say(forced.empty() ? "everything has stopped" : "stopped; these had to be killed:" + forced);
}

}  // namespace outlast::apps
