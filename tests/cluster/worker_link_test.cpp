#include <sys/stat.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <mutex>

#include <catch2/catch.hpp>

#include "cluster/worker_host.hpp"
#include "cluster/worker_link.hpp"

namespace outlast::cluster::worker_link_test {
namespace {

constexpr auto deadline = std::chrono::seconds(20);

struct ScratchFolder {
  ScratchFolder() { REQUIRE(::mkdtemp(path.data()) != nullptr); }
  ~ScratchFolder() { std::filesystem::remove_all(path); }
  std::string path = "/tmp/outlast-worker-test-XXXXXX";
  [[nodiscard]] std::string socket() const { return path + "/socket"; }
};

// What happened, in order, as text.
class Happenings {
 public:
  void add(std::string what) {
    const std::lock_guard lock(mutex_);
    all_.push_back(std::move(what));
    changed_.notify_all();
  }
  // The next one; fails where none comes.
  std::string next() {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, deadline, [this] { return !all_.empty(); }));
    std::string what = std::move(all_.front());
    all_.pop_front();
    return what;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> all_;
};

FramePtr frame_of(std::string_view text) { return Frame::copy_of(std::as_bytes(std::span(text))); }
std::string text_of(const FramePtr& frame) {
  return frame && frame->size() > 0 ? std::string(reinterpret_cast<const char*>(frame->bytes().data()), frame->size()) : "nothing";
}

struct Host {
  explicit Host(const ScratchFolder& folder, std::size_t asks_max = 64) {
    WorkerHostOptions options{folder.socket()};
    options.asks_max = asks_max;
    auto started = WorkerHost::start(options, clock, {[this](const WorkerDescription& worker) { happened.add("up " + worker.name); },
                                                      [this](const std::string& name, const std::string&) { happened.add("down " + name); }});
    REQUIRE(started);
    host = std::move(*started);
  }
  void ask(const std::string& worker, const std::string& text, std::uint32_t deadline_ms = 20'000) {
    host->ask(worker, 7, frame_of(text), deadline_ms, [this](const Result<FramePtr>& answer) {
      happened.add(answer ? "answer " + text_of(*answer) : "failed " + std::string(answer.error().module) + " " + std::to_string(answer.error().code));
    });
  }
  SystemClock clock;
  Happenings happened;
  std::unique_ptr<WorkerHost> host;
};

// Answers with what it was asked; keeps what begins with "keep", and fails what begins with "fail".
struct Worker {
  explicit Worker(const ScratchFolder& folder, const std::string& name = "w", std::uint32_t silence_ms_max = 10'000) {
    WorkerLink::Callbacks callbacks;
    callbacks.on_ask = [this](std::uint16_t method, const FramePtr& body, WorkerLink::Answer answer) {
      const std::string text = text_of(body);
      if (text.starts_with("keep")) {
        const std::lock_guard lock(mutex);
        kept.push_back(std::move(answer));
        happened.add(text);
      } else if (text.starts_with("fail")) {
        answer(fail(LinkError::system, "as asked"));
      } else {
        answer(frame_of(std::to_string(method) + " " + text));
      }
    };
    callbacks.on_gone = [this](const std::string& why) { happened.add("gone: " + why); };
    auto started = WorkerLink::start({folder.socket(), {name, "cpu", 1, {}}, silence_ms_max}, clock, std::move(callbacks));
    REQUIRE(started);
    link = std::move(*started);
  }
  SystemClock clock;
  std::mutex mutex;
  std::vector<WorkerLink::Answer> kept;
  Happenings happened;
  std::unique_ptr<WorkerLink> link;
};

}  // namespace

TEST_CASE("a worker that links is known, and answers what it is asked", "[cluster][worker]") {
  const ScratchFolder folder;
  Host host(folder);
  Worker worker(folder);
  CHECK(host.happened.next() == "up w");
  REQUIRE(host.host->workers().size() == 1);
  CHECK(host.host->workers().front() == WorkerDescription{"w", "cpu", 1, {}});
  host.ask("w", "hello");
  CHECK(host.happened.next() == "answer 7 hello");
  host.ask("w", "fail");
  CHECK(host.happened.next() == "failed link 5");
  host.ask("x", "hello");
  CHECK(host.happened.next() == "failed link 6");  // not_connected
}

TEST_CASE("a worker may answer late and in any order", "[cluster][worker]") {
  const ScratchFolder folder;
  Host host(folder);
  Worker worker(folder);
  CHECK(host.happened.next() == "up w");
  host.ask("w", "keep 1");
  host.ask("w", "keep 2");
  CHECK(worker.happened.next() == "keep 1");
  CHECK(worker.happened.next() == "keep 2");
  worker.kept[1](frame_of("two"));
  CHECK(host.happened.next() == "answer two");
  worker.kept[0](FramePtr());
  CHECK(host.happened.next() == "answer nothing");
}

TEST_CASE("an ask that is not answered fails: in time, and when the worker goes", "[cluster][worker]") {
  const ScratchFolder folder;
  Host host(folder);
  auto worker = std::make_unique<Worker>(folder);
  CHECK(host.happened.next() == "up w");
  host.ask("w", "keep", 1);
  CHECK(host.happened.next() == "failed link 8");  // timed_out
  host.ask("w", "keep");
  CHECK(worker->happened.next() == "keep");
  CHECK(worker->happened.next() == "keep");
  worker.reset();
  CHECK(host.happened.next() == "failed link 6");
  CHECK(host.happened.next() == "down w");
  CHECK(host.host->workers().empty());
}

TEST_CASE("asks beyond their number are refused at once", "[cluster][worker]") {
  const ScratchFolder folder;
  Host host(folder, 2);
  Worker worker(folder);
  CHECK(host.happened.next() == "up w");
  host.ask("w", "keep");
  host.ask("w", "keep");
  host.ask("w", "keep");
  CHECK(host.happened.next() == "failed link 7");  // overloaded
  CHECK(worker.happened.next() == "keep");
  worker.kept[0](FramePtr());
  CHECK(host.happened.next() == "answer nothing");
  host.ask("w", "hello");
  CHECK(host.happened.next() == "answer 7 hello");
}

TEST_CASE("a second worker of the same name is sent away, and one that comes back is taken", "[cluster][worker]") {
  const ScratchFolder folder;
  Host host(folder);
  auto first = std::make_unique<Worker>(folder);
  CHECK(host.happened.next() == "up w");
  Worker second(folder);
  CHECK(second.happened.next().starts_with("gone: there is a worker 'w' already"));
  first.reset();
  CHECK(host.happened.next() == "down w");
  Worker again(folder);
  CHECK(host.happened.next() == "up w");
}

TEST_CASE("a worker finds a host that was started again, and ends without one", "[cluster][worker]") {
  const ScratchFolder folder;
  auto host = std::make_unique<Host>(folder);
  Worker worker(folder, "w", 3'000);
  CHECK(host->happened.next() == "up w");
  host.reset();
  host = std::make_unique<Host>(folder);
  CHECK(host->happened.next() == "up w");
  host.reset();
  CHECK(worker.happened.next() == "gone: it says nothing");
}

TEST_CASE("a host that ends fails what is open", "[cluster][worker]") {
  const ScratchFolder folder;
  Happenings happened;
  {
    Host host(folder);
    Worker worker(folder);
    CHECK(host.happened.next() == "up w");
    host.host->ask("w", 7, frame_of("keep"), 20'000, [&happened](const Result<FramePtr>& answer) { happened.add(answer ? "answer" : answer.error().message); });
    CHECK(worker.happened.next() == "keep");
    host.host.reset();
  }
  CHECK(happened.next() == "the host has stopped");
}

TEST_CASE("a folder that others may enter is no place for the socket", "[cluster][worker]") {
  const ScratchFolder folder;
  const SystemClock clock;
  REQUIRE(::chmod(folder.path.c_str(), 0755) == 0);
  const auto open = WorkerHost::start({folder.socket()}, clock, {});
  REQUIRE_FALSE(open);
  CHECK(open.error().message.find("chmod 700") != std::string::npos);
  const auto long_path = WorkerHost::start({folder.path + "/" + std::string(200, 'x')}, clock, {});
  REQUIRE_FALSE(long_path);
  CHECK(is(long_path.error(), LinkError::bad_address));
}

}  // namespace outlast::cluster::worker_link_test
