// Delivery of notices: signatures, waits, and local commands.
#include "actors/spend_notifier.hpp"

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "actors/local_command.hpp"

namespace spend_notifier_test {

using namespace outlast;
using namespace outlast::actors;
using namespace std::chrono_literals;

namespace {

class Folder {
 public:
  Folder() : path_((std::filesystem::temp_directory_path() / "outlast_notifier_XXXXXX").string()) {
    REQUIRE(mkdtemp(path_.data()) != nullptr);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string script(const std::string& text) const {
    const std::string file = path_ + "/script";
    std::ofstream(file) << "#!/bin/sh\n" << text;
    chmod(file.c_str(), 0700);
    return file;
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Result<void> run(std::vector<std::string> argv, std::string input, std::chrono::milliseconds limit = 20s) {
  boost::asio::io_context loop(1);
  std::optional<Result<void>> result;
  boost::asio::co_spawn(loop, run_local_command(std::move(argv), std::move(input), limit),
                        [&result](const std::exception_ptr& error, Result<void> done) {
                          if (!error) result = std::move(done);
                        });
  loop.run();
  REQUIRE(result);
  return *result;
}

std::string content(const std::string& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("a signature is the HMAC of time and body", "[spend_breaker]") {
  // printf '1764081234.{"a":1}' | openssl dgst -sha256 -hmac secret
  CHECK(spend_signature("secret", "1764081234", R"({"a":1})") ==
        "v1=bc601af32b6a159ad98c96e0a3fc45bf5150a784d03f4b00c7241cecd82ac5d8");
  CHECK(spend_signature("secret", "1764081235", R"({"a":1})") != spend_signature("secret", "1764081234", R"({"a":1})"));
}

TEST_CASE("waits between attempts double up to a minute, with jitter", "[spend_breaker]") {
  Random random(7);
  for (std::uint32_t attempt = 1; attempt < 40; ++attempt) {
    const std::uint32_t whole = std::min(500U << std::min(attempt - 1, 10U), 60'000U);
    std::uint32_t least = whole;
    std::uint32_t most = 0;
    for (int i = 0; i < 1'000; ++i) {
      const std::uint32_t wait = spend_backoff_ms(attempt, random);
      least = std::min(least, wait);
      most = std::max(most, wait);
    }
    CHECK(least >= whole / 2);
    CHECK(most <= whole);
    CHECK(most - least > whole / 4);
  }
}

TEST_CASE("a command gets its input and nothing of ours", "[spend_breaker]") {
  const Folder folder;
  const std::string out = folder.path() + "/out";
  setenv("OUTLAST_TEST_LEAK", "must not be seen", 1);
  const int open_file = ::open("/dev/null", O_RDONLY);  // without FD_CLOEXEC, as sockets of libraries are
  const std::string script =
      folder.script("{ /bin/cat; echo; echo \"$1\"; /usr/bin/env; /bin/ls /proc/self/fd | /usr/bin/wc -l; } > " + out + "\n");
  CHECK(run({script, "a b; $(exit 1)"}, "{\"event\":\"tripped\"}"));
  close(open_file);
  unsetenv("OUTLAST_TEST_LEAK");
  const std::string text = content(out);
  CHECK_THAT(text, Catch::StartsWith("{\"event\":\"tripped\"}\na b; $(exit 1)\n"));
  CHECK_THAT(text, !Catch::Contains("LEAK") && !Catch::Contains("HOME="));
  CHECK_THAT(text, Catch::EndsWith("\n4\n"));  // stdin, stdout, stderr, and the folder that ls reads
}

TEST_CASE("what was delivered is said, what was not is not", "[spend_breaker]") {
  SpendNotifier notifier;
  std::promise<std::string> said;
  const auto say = [&said](const std::string& id) { said.set_value(id); };  // a second time throws
  notifier.notify({"failed", "{}", {std::nullopt, {"/bin/false"}}, say});
  notifier.notify({"nobody", "{}", {}, say});
  auto first = said.get_future();
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (notifier.counters().commands_failed == 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  notifier.notify({"done", "{}", {std::nullopt, {"/bin/true"}}, say});
  REQUIRE(first.wait_until(deadline) == std::future_status::ready);
  CHECK(first.get() == "done");
}

TEST_CASE("a command that fails, is not there or hangs is told of", "[spend_breaker]") {
  const Folder folder;
  CHECK(is(run({folder.path() + "/nothing"}, "").error(), CommandError::not_started));
  const auto failed = run({folder.script("exit 3\n")}, "");
  CHECK(is(failed.error(), CommandError::failed));
  CHECK_THAT(failed.error().message, Catch::EndsWith("ended with status 3"));
  CHECK(is(run({}, "").error(), CommandError::not_started));
  CHECK(is(run({"/bin/true"}, std::string(command_input_bytes_max + 1, 'x')).error(), CommandError::not_started));
  // Its own children go with it: none of the group is left to hold the file open.
  const auto begun = std::chrono::steady_clock::now();
  const auto late = run({folder.script("/bin/sleep 600 & /bin/sleep 600\n")}, "", 200ms);
  CHECK(is(late.error(), CommandError::timed_out));
  CHECK(std::chrono::steady_clock::now() - begun < 20s);
}

}  // namespace spend_notifier_test
