// Ranks as processes (gpu_rank.cpp), and what they told.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "gpu/collective/rendezvous_server.hpp"
#include "tests/gpu/decoder_fixture.hpp"

namespace outlast::gpu {

struct RankStory {
  struct Formed {
    std::uint64_t generation = 0;
    std::size_t rank = 0;
    std::size_t ranks = 0;
    std::string origin;
    std::uint64_t step = 0;
  };
  std::vector<Formed> formed;
  std::map<std::uint64_t, double> losses;  // by step; of one that was done again, the last
  std::vector<std::int64_t> lost_ns;       // when it noticed
  std::vector<std::string> causes;
  std::int64_t fault_ns = 0;               // when it was struck
  int evaluated = 0;                       // times
  int finished = 0;
  bool done = false;
  bool stopped = false;
  std::string error;
  std::string text;
};

class RankProcesses {
 public:
  struct Plan {
    std::size_t ranks = 2;
    std::uint64_t steps = 20;
    std::string folder;
    std::uint64_t save_interval = 0;
    std::vector<std::string> faults;
    std::uint64_t evaluate_interval = 0;
  };

  explicit RankProcesses(const Plan& plan) : plan_(plan) {
    RollOptions options;
    options.run = "a run of tests";
    options.ranks = plan.ranks;
    server_ = need(RendezvousServer::make("127.0.0.1", 0, options));
    for (std::size_t i = 0; i < plan.ranks; ++i) start();
  }
  ~RankProcesses() {
    for (Process& process : processes_) {
      if (process.output < 0) continue;
      ::kill(process.pid, SIGKILL);
      end(process);
    }
  }
  RankProcesses(const RankProcesses&) = delete;
  RankProcesses& operator=(const RankProcesses&) = delete;

  // Until all but those that were struck have ended, and no longer than a minute.
  std::vector<RankStory> stories() { return stories_when_none([](const Process& process) { return process.output >= 0 && process.text.find("fault ") == std::string::npos; }); }
  // The same when those that were stopped go on, and have ended too.
  std::vector<RankStory> stories_after_waking() {
    for (const Process& process : processes_) {
      if (process.output >= 0) ::kill(process.pid, SIGCONT);
    }
    return stories_when_none([](const Process& process) { return process.output >= 0; });
  }

 private:
  struct Process {
    pid_t pid = 0;
    int output = -1;
    std::string text;
  };

  void start() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    std::vector<std::string> words{OUTLAST_GPU_RANK, std::to_string(server_->port()), std::to_string(plan_.steps), plan_.folder, std::to_string(plan_.save_interval),
                                   std::to_string(plan_.evaluate_interval)};
    words.insert(words.end(), plan_.faults.begin(), plan_.faults.end());
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    Process process;
    REQUIRE(posix_spawn(&process.pid, arguments[0], &actions, nullptr, arguments.data(), environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    process.output = ends[0];
    processes_.push_back(process);
  }

  template <class Waits>
  std::vector<RankStory> stories_when_none(const Waits& waits) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (std::chrono::steady_clock::now() < deadline && std::any_of(processes_.begin(), processes_.end(), waits)) read_some();
    std::vector<RankStory> stories;
    for (const Process& process : processes_) stories.push_back(parse(process.text));
    return stories;
  }

  void read_some() {
    std::vector<pollfd> watched;
    for (const Process& process : processes_) watched.push_back({process.output, POLLIN, 0});
    ::poll(watched.data(), watched.size(), 1'000);
    for (std::size_t i = 0; i < processes_.size(); ++i) {
      if (watched[i].revents == 0) continue;
      char bytes[4'096];
      const ssize_t size = ::read(processes_[i].output, bytes, sizeof bytes);
      if (size > 0) {
        processes_[i].text.append(bytes, static_cast<std::size_t>(size));
      } else {
        end(processes_[i]);
      }
    }
  }

  static void end(Process& process) {
    ::close(process.output);
    process.output = -1;
    int status = 0;
    ::waitpid(process.pid, &status, 0);
    if (WIFSIGNALED(status) && process.text.find("fault ") == std::string::npos) process.text += "ended by signal " + std::to_string(WTERMSIG(status)) + "\n";
  }

  static RankStory parse(const std::string& text) {
    RankStory story;
    story.text = text;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string kind;
      words >> kind;
      if (kind == "formed") {
        RankStory::Formed& one = story.formed.emplace_back();
        words >> one.generation >> one.rank >> one.ranks >> one.origin >> one.step;
      } else if (kind == "step") {
        std::uint64_t step = 0;
        words >> step;
        words >> story.losses[step];
      } else if (kind == "lost") {
        words >> story.lost_ns.emplace_back();
        std::getline(words, story.causes.emplace_back());
      } else if (kind == "fault") {
        words >> story.fault_ns;
      } else if (kind == "evaluated") {
        ++story.evaluated;
      } else if (kind == "finished") {
        ++story.finished;
      } else if (kind == "done") {
        story.done = true;
      } else if (kind == "stopped") {
        story.stopped = true;
      } else {
        story.error = line;
      }
    }
    return story;
  }

  const Plan plan_;
  std::unique_ptr<RendezvousServer> server_;
  std::vector<Process> processes_;
};

}  // namespace outlast::gpu
