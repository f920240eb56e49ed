#include "cluster/curve.hpp"

#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace curve_test {

using namespace outlast;
using namespace outlast::cluster;

namespace {

struct TemporaryFolder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / ("outlast-curve-" + std::to_string(::getpid()));
  TemporaryFolder() { std::filesystem::create_directories(path); }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("a node's key is made once, private, and read again", "[link]") {
  TemporaryFolder folder;
  const auto file = folder.path / "zmq.key";
  const auto made = load_or_make_curve_keys(file);
  REQUIRE(made);
  CHECK(is_curve_key(made->public_key));
  struct stat about {};
  REQUIRE(::stat(file.c_str(), &about) == 0);
  CHECK((about.st_mode & 0777) == 0600);
  const auto again = load_or_make_curve_keys(file);
  REQUIRE(again);
  CHECK(again->secret_key == made->secret_key);
  CHECK(again->public_key == made->public_key);
  std::string published;
  std::ifstream(file.string() + ".pub") >> published;
  CHECK(published == made->public_key);
}

TEST_CASE("a key file that others can read or that holds no key is refused", "[link]") {
  TemporaryFolder folder;
  const auto file = folder.path / "zmq.key";
  REQUIRE(load_or_make_curve_keys(file));
  ::chmod(file.c_str(), 0644);
  CHECK(is(load_or_make_curve_keys(file).error(), LinkError::key_file));
  ::chmod(file.c_str(), 0600);
  std::ofstream(file) << "not a key\n";
  CHECK(is(load_or_make_curve_keys(file).error(), LinkError::key_file));
  CHECK(is(load_or_make_curve_keys(folder.path / "absent" / "zmq.key").error(), LinkError::key_file));
}

TEST_CASE("a key's text is 40 characters of Z85", "[link]") {
  CHECK(is_curve_key(make_curve_keys().public_key));
  CHECK_FALSE(is_curve_key(""));
  CHECK_FALSE(is_curve_key(std::string(40, '"')));
  CHECK_FALSE(is_curve_key(std::string(39, 'a')));
  CHECK(is(curve_public_key("x").error(), LinkError::bad_key));
}

}  // namespace curve_test
