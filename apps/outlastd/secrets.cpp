#include "apps/outlastd/secrets.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <vector>

#include "core/crypto.hpp"
#include "core/random.hpp"

namespace outlast::apps {
namespace {

std::string reason() { return std::strerror(errno); }

Result<std::string> read_secret(const std::filesystem::path& file, std::size_t bytes) {
  struct stat info{};
  if (stat(file.c_str(), &info) != 0) return fail(SecretError::unreadable, file.string() + ": " + reason());
  if ((info.st_mode & 0077) != 0) {
    return fail(SecretError::too_open, file.string() + " may be read by others; run: chmod 600 " + file.string());
  }
  std::ifstream in(file, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  if (!in.good() && !in.eof()) return fail(SecretError::unreadable, file.string() + " cannot be read");
  if (text.size() != bytes * 2 || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return fail(SecretError::malformed, file.string() + " does not hold " + std::to_string(bytes * 2) +
                                            " hexadecimal digits; restore it from a backup, or remove it to get a new one");
  }
  return text;
}

bool sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return false;
  const bool synced = fsync(descriptor) == 0;
  ::close(descriptor);
  return synced;
}

}  // namespace

Result<void> write_file_atomically(const std::filesystem::path& file, std::string_view text, unsigned mode) {
  const std::string temporary = file.string() + ".new";
  const auto refuse = [&temporary](const std::string& why) {
    ::unlink(temporary.c_str());
    return fail(SecretError::unwritable, temporary + ": " + why);
  };
  ::unlink(temporary.c_str());
  const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (descriptor < 0) return refuse(reason());
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = ::write(descriptor, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const std::string why = reason();
      ::close(descriptor);
      return refuse(why);
    }
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  const bool synced = fsync(descriptor) == 0;
  const std::string why = reason();
  ::close(descriptor);
  if (!synced) return refuse(why);
  if (::rename(temporary.c_str(), file.c_str()) != 0) return refuse(reason());
  if (!sync_folder(file.parent_path())) return fail(SecretError::unwritable, file.string() + ": its folder: " + reason());
  return {};
}

Result<std::string> load_or_make_secret(const std::filesystem::path& file, std::size_t bytes) {
  std::error_code error;
  if (std::filesystem::exists(file, error)) return read_secret(file, bytes);
  std::vector<std::uint8_t> random(bytes);
  secure_random(std::as_writable_bytes(std::span(random)));
  const std::string text = to_hex(random);
  const auto written = write_file_atomically(file, text + "\n", 0600);
  if (!written) return fail(written.error());
  return text;
}

}  // namespace outlast::apps
