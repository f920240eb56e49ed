#include "cluster/curve.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include <zmq.h>

#include "core/check.hpp"
#include "core/crypto.hpp"

namespace outlast::cluster {
namespace {

Failure file_error(const std::filesystem::path& path, const char* doing) {
  return fail(LinkError::key_file, std::string("cannot ") + doing + " " + path.string() + ": " + std::strerror(errno));
}

// Writes a new file durably; O_EXCL, so that two starting nodes cannot both believe that their key is the one.
Result<void> write_new_file(const std::filesystem::path& path, std::string_view text, mode_t mode) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (file < 0) return file_error(path, "create");
  const bool written = ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(file) == 0;
  const int error = errno;
  ::close(file);
  errno = error;
  if (!written) return file_error(path, "write");
  return {};
}

Result<std::optional<std::string>> read_secret(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0 && errno == ENOENT) return std::optional<std::string>();
  if (file < 0) return file_error(path, "read");
  struct stat about {};
  std::array<char, 128> buffer{};
  const bool known = ::fstat(file, &about) == 0;
  const ssize_t size = ::read(file, buffer.data(), buffer.size());
  ::close(file);
  if (!known || size < 0) return file_error(path, "read");
  if ((about.st_mode & 077) != 0) {
    return fail(LinkError::key_file, path.string() + " can be read by others; run: chmod 600 " + path.string());
  }
  std::string text(buffer.data(), static_cast<std::size_t>(size));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  return std::optional<std::string>(std::move(text));
}

}  // namespace

CurveKeys make_curve_keys() {
  std::array<char, curve_key_text_size + 1> public_key{};
  std::array<char, curve_key_text_size + 1> secret_key{};
  check(zmq_curve_keypair(public_key.data(), secret_key.data()) == 0, "libzmq was built with CURVE");
  return {public_key.data(), secret_key.data()};
}

Result<std::string> curve_public_key(std::string_view secret_key) {
  if (!is_curve_key(secret_key)) return fail(LinkError::bad_key, "not a CURVE key: 40 characters of Z85 are expected");
  std::array<char, curve_key_text_size + 1> public_key{};
  if (zmq_curve_public(public_key.data(), std::string(secret_key).c_str()) != 0) {
    return fail(LinkError::bad_key, "not a CURVE secret key");
  }
  return std::string(public_key.data());
}

bool is_curve_key(std::string_view text) {
  if (text.size() != curve_key_text_size || text.find('\0') != std::string_view::npos) return false;
  std::array<std::uint8_t, 32> bytes{};
  return zmq_z85_decode(bytes.data(), std::string(text).c_str()) != nullptr;
}

Result<CurveKeys> load_or_make_curve_keys(const std::filesystem::path& path) {
  auto secret = read_secret(path);
  if (!secret) return fail(std::move(secret.error()));
  if (!secret->has_value()) {
    CurveKeys keys = make_curve_keys();
    if (auto written = write_new_file(path, keys.secret_key + "\n", 0600); !written) {
      return fail(std::move(written.error()));
    }
    *secret = keys.secret_key;
  }
  auto public_key = curve_public_key(**secret);
  if (!public_key) return fail(LinkError::key_file, path.string() + " holds " + public_key.error().message);

  const auto public_path = std::filesystem::path(path.string() + ".pub");
  ::unlink(public_path.c_str());
  if (auto written = write_new_file(public_path, *public_key + "\n", 0644); !written) {
    return fail(std::move(written.error()));
  }
  return CurveKeys{std::move(*public_key), std::move(**secret)};
}

}  // namespace outlast::cluster
