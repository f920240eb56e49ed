#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>

#include "gpu/files/safetensors.hpp"
#include "gpu/files/weight_files.hpp"
#include "gpu/files/whole_file.hpp"
#include "gpu/gpu_error.hpp"
#include "tests/gpu/scratch_folder.hpp"

namespace outlast::gpu::safetensors_test {
namespace {

std::string file_of(const std::string& header, std::size_t buffer_bytes) {
  std::string bytes(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(buffer_bytes, '\1');
}

TensorToWrite floats(std::string name, std::vector<std::uint64_t> shape, std::vector<float> values) {
  return {std::move(name), Dtype::f32, std::move(shape), [values](std::size_t first, std::span<std::byte> into) -> Result<void> {
            REQUIRE(first == 0);
            REQUIRE(into.size() == values.size() * sizeof(float));
            std::memcpy(into.data(), values.data(), into.size());
            return {};
          }};
}

TEST_CASE("tensors are read back as they were written", "[gpu]") {
  const ScratchFolder folder;
  const std::string path = folder.path("model.safetensors");
  const std::vector<TensorToWrite> tensors{floats("b", {2, 3}, {1, 2, 3, 4, 5, 6}), floats("a", {}, {7}), floats("none", {0, 4}, {})};
  REQUIRE(write_safetensors(path, tensors, {{"format", "pt"}}));
  const auto file = SafetensorsFile::open(path);
  REQUIRE(file);
  CHECK((*file)->metadata() == std::map<std::string, std::string>{{"format", "pt"}});
  REQUIRE((*file)->tensors().size() == 3);
  const TensorInfo* const b = (*file)->find("b");
  REQUIRE(b != nullptr);
  CHECK(b->shape == std::vector<std::uint64_t>{2, 3});
  std::vector<float> values(6);
  REQUIRE((*file)->read(*b, std::as_writable_bytes(std::span(values))));
  CHECK(values == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK((*file)->find("c") == nullptr);
  CHECK_FALSE(std::filesystem::exists(path + ".new"));
}

TEST_CASE("large tensors are written and read in pieces", "[gpu]") {
  const ScratchFolder folder;
  const std::string path = folder.path("model.safetensors");
  const std::uint64_t count = tensor_piece_bytes / 2 + 3;
  const auto number = [](std::uint64_t i) { return static_cast<float>(i % 1'000); };
  std::size_t pieces = 0;
  const TensorToWrite large{"a", Dtype::f32, {count}, [&](std::size_t first, std::span<std::byte> into) -> Result<void> {
                              ++pieces;
                              for (std::size_t i = 0; i < into.size() / 4; ++i) {
                                const float value = number(first / 4 + i);
                                std::memcpy(into.data() + i * 4, &value, 4);
                              }
                              return {};
                            }};
  REQUIRE(write_safetensors(path, std::span(&large, 1), {}));
  CHECK(pieces == 3);
  const auto file = SafetensorsFile::open(path);
  REQUIRE(file);
  std::vector<float> end(3);
  REQUIRE((*file)->read(*(*file)->find("a"), std::as_writable_bytes(std::span(end)), (count - 3) * 4));
  CHECK(end == std::vector<float>{number(count - 3), number(count - 2), number(count - 1)});
}

TEST_CASE("a file is written whole or not at all", "[gpu]") {
  const ScratchFolder folder;
  const std::string path = folder.path("model.safetensors");
  REQUIRE(write_whole_file(path, "what was there"));
  std::vector<TensorToWrite> tensors{floats("a", {1}, {1})};
  tensors.push_back({"b", Dtype::f32, {1}, [](std::size_t, std::span<std::byte>) -> Result<void> { return fail(GpuError::device, "gone"); }});
  const auto written = write_safetensors(path, tensors, {});
  REQUIRE_FALSE(written);
  CHECK(is(written.error(), GpuError::device));
  CHECK(*read_whole_file(path, 100) == "what was there");
  CHECK_FALSE(std::filesystem::exists(path + ".new"));
  CHECK_FALSE(write_safetensors(folder.path("no/such/folder"), tensors, {}));
}

TEST_CASE("each malformed file is refused, with the tensor and the cause", "[gpu]") {
  struct Case {
    std::string bytes;
    std::string says;
  };
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const auto header = [](const std::string& a, std::size_t bytes = 8) { return file_of("{" + a + "}", bytes); };
  const std::vector<Case> cases{
      {"", "too short"},
      {"1234567", "too short"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"},
      {std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10), "at most 100000000"},
      {std::string("\x64\0\0\0\0\0\0\0{}", 10), "longer than the file"},
      {file_of("[]", 0), "does not begin with '{'"},
      {file_of(" " + good, 8), "does not begin with '{'"},
      {file_of("{\"a\":", 0), "not JSON"},
      {file_of(good, 7), "behind the end of the file"},
      {file_of(good, 9), "1 bytes at the end belong to no tensor"},
      {header(R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})"), "tensor 'a' stands there twice"},
      {header(R"("a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]})"), "'shape' stands there twice"},
      {header(R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]})", 6), "tensor 'b' overlaps tensor 'a'"},
      {header(R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), "a hole of 4 bytes before tensor 'a'"},
      {header(R"("a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})", 0), "both empty, at the same place"},
      {header(R"("a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), "tensor 'a' of shape [3] and F32 has 12 bytes, and data_offsets of 8"},
      {header(R"("a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), "a dimension is not a number"},
      {header(R"("a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), "a dimension is not a number"},
      {header(R"("a":{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,8]})"), "a dimension is not a number"},
      {header(R"("a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]})"), "more than 2^64 bytes"},
      {header(R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,-8]})"), "data_offsets are not two numbers"},
      {header(R"("a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), "data_offsets are not two numbers"},
      {header(R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})"), "data_offsets are not two numbers"},
      {header(R"("a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]})"), "dtype 'F33'"},
      {header(R"("a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]})"), "9 dimensions"},
      {header(R"("":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})"), "no name"},
      {header("\"a\\u0000\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"), "NUL"},
      {header(R"("a":{"dtype":"F32","shape":[2]})"), "lacks dtype, shape or data_offsets"},
      {header(R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1})"), "'more' is not what a tensor says"},
      {header(R"("a":{"dtype":"F32","shape":[[[[[[2]]]]]],"data_offsets":[0,8]})"), "not JSON"},
      {header(R"("a":7)", 0), "tensor 'a' is not an object"},
      {header(R"("__metadata__":{"a":1})", 0), "'a' is not a text"},
      {header(R"("__metadata__":[])", 0), "__metadata__ is not an object"},
  };
  const ScratchFolder folder;
  for (const Case& one : cases) {
    CAPTURE(one.says);
    const std::string path = folder.path("x.safetensors");
    REQUIRE(write_whole_file(path, one.bytes));
    const auto file = SafetensorsFile::open(path);
    REQUIRE_FALSE(file);
    INFO(file.error().message);
    CHECK(file.error().message.find(one.says) != std::string::npos);
    CHECK(file.error().message.starts_with(path));
  }
  const std::string path = folder.path("y.safetensors");
  REQUIRE(write_whole_file(path, file_of(good + "   ", 8)));
  CHECK(SafetensorsFile::open(path));
}

TEST_CASE("a file that becomes shorter under its reader is an error", "[gpu]") {
  const ScratchFolder folder;
  const std::string path = folder.path("model.safetensors");
  REQUIRE(write_safetensors(path, std::vector<TensorToWrite>{floats("a", {2}, {1, 2})}, {}));
  const auto file = SafetensorsFile::open(path);
  REQUIRE(file);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 4);
  std::vector<std::byte> bytes(8);
  const auto read = (*file)->read(*(*file)->find("a"), bytes);
  REQUIRE_FALSE(read);
  CHECK(read.error().message.find("tensor 'a': it became shorter") != std::string::npos);
}

TEST_CASE("weights in several files are found by their index", "[gpu]") {
  const ScratchFolder folder;
  const auto write = [&folder](const std::string& name, const std::vector<TensorToWrite>& tensors) {
    REQUIRE(write_safetensors(folder.path(name), tensors, {}));
  };
  write("one.safetensors", {floats("a", {2}, {1, 2})});
  write("two.safetensors", {floats("b", {1}, {3})});
  const auto index = [&folder](const std::string& map) {
    REQUIRE(write_whole_file(folder.path("model.safetensors.index.json"), "{\"metadata\":{\"total_size\":12},\"weight_map\":{" + map + "}}"));
  };
  index(R"("a":"one.safetensors","b":"two.safetensors")");
  const auto weights = WeightFiles::open(folder.path());
  REQUIRE(weights);
  std::vector<float> values(1);
  REQUIRE((*weights)->read("b", std::vector<std::uint64_t>{1}, values));
  CHECK(values.front() == 3);
  CHECK((*weights)->names() == std::vector<std::string>{"a", "b"});

  const auto shape = (*weights)->read("b", std::vector<std::uint64_t>{1, 1}, values);
  REQUIRE_FALSE(shape);
  CHECK(shape.error().message.find("tensor 'b' has the shape [1]; by config.json it is [1, 1]") != std::string::npos);
  const auto none = (*weights)->read("c", std::vector<std::uint64_t>{1}, values);
  REQUIRE_FALSE(none);
  CHECK(none.error().message.find("'c'") != std::string::npos);

  const auto refused = [&folder](const std::string& says) {
    const auto opened = WeightFiles::open(folder.path());
    REQUIRE_FALSE(opened);
    INFO(opened.error().message);
    CHECK(opened.error().message.find(says) != std::string::npos);
  };
  index(R"("a":"../one.safetensors")");
  refused("not the name of a file in this folder");
  index(R"("a":"..")");
  refused("not the name of a file in this folder");
  index(R"("a":"/etc/passwd")");
  refused("not the name of a file in this folder");
  index(R"("b":"one.safetensors")");
  refused("tensor 'b' is not in one.safetensors");
  index(R"("a":"three.safetensors")");
  refused("three.safetensors");
  index("");
  refused("lists no tensors");
}

TEST_CASE("weights of any float become fp32", "[gpu]") {
  const ScratchFolder folder;
  const auto half = [](std::string name, Dtype dtype, std::vector<std::uint16_t> bits) {
    const std::uint64_t size = bits.size();
    return TensorToWrite{std::move(name), dtype, {size}, [bits](std::size_t, std::span<std::byte> into) -> Result<void> {
                           std::memcpy(into.data(), bits.data(), into.size());
                           return {};
                         }};
  };
  REQUIRE(write_safetensors(folder.path("model.safetensors"),
                            std::vector<TensorToWrite>{half("b", Dtype::bf16, {0x3F80, 0xC000}), half("h", Dtype::f16, {0x3C00, 0x0001, 0xFC00}),
                                                       half("i", Dtype::i16, {1})},
                            {}));
  const auto weights = WeightFiles::open(folder.path());
  REQUIRE(weights);
  std::vector<float> two(2);
  REQUIRE((*weights)->read("b", std::vector<std::uint64_t>{2}, two));
  CHECK(two == std::vector<float>{1, -2});
  std::vector<float> three(3);
  REQUIRE((*weights)->read("h", std::vector<std::uint64_t>{3}, three));
  CHECK(three == std::vector<float>{1, 0x1p-24F, -INFINITY});
  std::vector<float> one(1);
  CHECK_FALSE((*weights)->read("i", std::vector<std::uint64_t>{1}, one));
  CHECK(to_bf16(1.0F) == 0x3F80);
  CHECK(to_bf16(from_bf16(0x3F80) * (1 + 0x1p-8F)) == 0x3F80);       // a tie goes to even
  CHECK(to_bf16(from_bf16(0x3F81) * (1 + 0x1p-8F)) == 0x3F82);
  CHECK(std::isnan(from_bf16(to_bf16(NAN))));
}

TEST_CASE("half floats are rounded as the compiler's own", "[gpu]") {
  const auto compare = [](float value) {
    const auto expected = __builtin_bit_cast(std::uint16_t, static_cast<_Float16>(value));
    if (std::isnan(value)) return std::isnan(from_f16(to_f16(value)));
    return to_f16(value) == expected && from_f16(expected) == static_cast<float>(static_cast<_Float16>(value));
  };
  std::size_t wrong = 0;
  // Every half float, what lies between two, and beside that.
  for (std::uint32_t half = 0; half < 0x1'0000; ++half) {
    const auto bits = __builtin_bit_cast(std::uint32_t, from_f16(static_cast<std::uint16_t>(half)));
    for (const std::uint32_t beside : {0U, 1U, 0xFFFU, 0x1000U, 0x1001U, 0x1FFFU}) wrong += compare(__builtin_bit_cast(float, bits + beside)) ? 0 : 1;
  }
  for (const float value : {65'519.0F, 65'520.0F, -65'520.0F, 1e-8F, 0x1p-25F, 0x1.8p-25F, 0x1.FFCp-15F, 1e38F, INFINITY}) wrong += compare(value) ? 0 : 1;
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace outlast::gpu::safetensors_test
