#include <catch2/catch.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/log.hpp"

namespace log_test {

namespace {

// Takes what is written to stderr between construction and text().
class CapturedStderr {
 public:
  CapturedStderr()
      : file_((std::filesystem::temp_directory_path() / "outlast_log_XXXXXX").string()) {
    const int file = mkstemp(file_.data());
    REQUIRE(file >= 0);
    saved_ = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
    close(file);
  }
  ~CapturedStderr() { restore(); }

  std::string text() {
    restore();
    std::stringstream content;
    content << std::ifstream(file_).rdbuf();
    std::filesystem::remove(file_);
    return content.str();
  }

 private:
  void restore() {
    if (saved_ < 0) return;
    std::fflush(stderr);
    dup2(saved_, STDERR_FILENO);
    close(saved_);
    saved_ = -1;
  }

  std::string file_;
  int saved_ = -1;
};

}  // namespace

// One test case: the format belongs to the process and is set once in its life.
TEST_CASE(
    "logs go to stderr as text, then as JSON, one line an event, without what is below the level",
    "[log]") {
  namespace log = outlast::log;
  {
    CapturedStderr captured;
    log::configure(log::Format::text, log::Level::info);
    log::debug("hidden");
    log::info("listening",
              {{"address", "127.0.0.1:8080"}, {"lanes", 2}, {"note", "two words\nand \"more\""}});
    const std::string text = captured.text();
    CHECK_THAT(
        text,
        Catch::Contains(
            "listening address=127.0.0.1:8080 lanes=2 note=\"two words\\nand \\\"more\\\"\"\n"));
    CHECK_THAT(text, !Catch::Contains("hidden"));
    CHECK(std::count(text.begin(), text.end(), '\n') == 1);
  }
  CapturedStderr captured;
  log::configure(log::Format::json, log::Level::warning);
  log::info("hidden");
  log::error("store lost", {{"file", "a\"b"}, {"retries", 3}, {"final", true}});
  const std::string line = captured.text();
  log::configure(log::Format::text, log::Level::info);
  const auto json = nlohmann::json::parse(line);
  CHECK(json.at("event") == "store lost");
  CHECK(json.at("level") == "error");
  CHECK(json.at("file") == "a\"b");
  CHECK(json.at("retries") == 3);
  CHECK(json.at("final") == true);
}

}  // namespace log_test
