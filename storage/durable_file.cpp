#include "storage/durable_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace outlast::storage {
namespace {

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace

Failure file_failure(const std::string& what, const std::string& file) {
  const bool full = errno == ENOSPC || errno == EDQUOT;
  return fail(full ? LedgerError::disk_full : LedgerError::io,
              "cannot " + what + " " + file + ": " + std::strerror(errno));
}

Result<void> sync_folder(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = fd >= 0 && ::fsync(fd) == 0;
  const Failure why = file_failure("sync the folder", folder);
  if (fd >= 0) ::close(fd);
  if (!synced) return why;
  return {};
}

Result<void> write_file_durably(const std::string& file, std::string_view bytes, unsigned mode,
                                const std::function<void(FileStep)>& reached) {
  const auto at = [&reached](FileStep step) {
    if (reached) reached(step);
  };
  const std::string unfinished = file + std::string(unfinished_extension);
  ::unlink(unfinished.c_str());
  const int fd = ::open(unfinished.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0) return file_failure("make", unfinished);
  bool good = write_all(fd, bytes);
  if (good) at(FileStep::written);
  good = good && ::fsync(fd) == 0;
  if (good) at(FileStep::synced);
  Failure why = file_failure("write", unfinished);
  ::close(fd);
  if (good && ::rename(unfinished.c_str(), file.c_str()) != 0) {
    why = file_failure("rename to its place", unfinished);
    good = false;
  }
  if (!good) {
    ::unlink(unfinished.c_str());
    return why;
  }
  at(FileStep::renamed);
  const std::string folder = std::filesystem::path(file).parent_path().string();
  if (Result<void> synced = sync_folder(folder.empty() ? "." : folder); !synced) return synced;
  at(FileStep::folder_synced);
  return {};
}

Result<std::string> read_whole_file(const std::string& file, std::size_t bytes_max) {
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return file_failure("read", file);
  std::string bytes;
  char block[65'536];
  while (stream.read(block, sizeof(block)) || stream.gcount() > 0) {
    bytes.append(block, static_cast<std::size_t>(stream.gcount()));
    if (bytes.size() > bytes_max) {
      return fail(LedgerError::io, file + " is larger than " + std::to_string(bytes_max) +
                                       " bytes, which no such file is");
    }
  }
  if (stream.bad()) return file_failure("read", file);
  return bytes;
}

}  // namespace outlast::storage
