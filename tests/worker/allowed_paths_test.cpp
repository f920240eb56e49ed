#include "apps/outlast-gpu-worker/allowed_paths.hpp"

#include <cstdlib>
#include <filesystem>

#include <catch2/catch.hpp>

namespace outlast::worker::allowed_paths_test {

TEST_CASE("a worker uses what is within its folder, and nothing by any other way", "[worker]") {
  namespace fs = std::filesystem;
  std::string root = "/tmp/outlast-allowed-XXXXXX";
  REQUIRE(::mkdtemp(root.data()) != nullptr);
  fs::create_directories(root + "/mine/models");
  fs::create_directories(root + "/others");
  fs::create_symlink(root + "/others", root + "/mine/link");
  const auto allowed = [&root](const std::string& model, const std::string& data) {
    return check_paths(work::Evaluate{model, data, 1, 1}, root + "/mine").has_value();
  };
  CHECK(allowed(root + "/mine/models", root + "/mine/not-there-yet/data.jsonl"));
  CHECK_FALSE(allowed(root + "/mine", ""));  // it has a link that leads out
  CHECK_FALSE(allowed(root + "/others", ""));
  CHECK_FALSE(allowed(root + "/mine/models", root + "/others/data.jsonl"));
  CHECK_FALSE(allowed(root + "/mine/../others", ""));
  CHECK_FALSE(allowed(root + "/mine/link/model", ""));
  CHECK_FALSE(allowed(root + "/mineral", ""));
  CHECK_FALSE(allowed("mine/models", ""));
  fs::create_symlink(root + "/others/weights", root + "/mine/models/model.safetensors");
  CHECK_FALSE(allowed(root + "/mine/models", ""));
  fs::remove(root + "/mine/models/model.safetensors");
  fs::create_symlink(root + "/mine/weights", root + "/mine/models/model.safetensors");
  CHECK(allowed(root + "/mine/models", ""));
  work::Train train;
  train.output = root + "/others/student";
  CHECK_FALSE(check_paths(train, root + "/mine"));
  train.output = root + "/mine/student";
  CHECK(check_paths(train, root + "/mine"));
  train.distillation.teacher = root + "/others/model";
  CHECK_FALSE(check_paths(train, root + "/mine"));
  work::Generate generate;
  generate.model = "/etc";
  CHECK_FALSE(check_paths(generate, root + "/mine"));
  fs::remove_all(root);
}

}  // namespace outlast::worker::allowed_paths_test
