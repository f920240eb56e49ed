#include "apps/outlast-gpu-worker/run_lock.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <span>

#include "core/crypto.hpp"
#include "core/random.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::worker {
namespace {

using gpu::GpuError;

constexpr const char* file_name = ".outlast-run";
constexpr off_t place_max = off_t{1} << 62;
constexpr int attempts_max = 16;

std::string path_in(const std::string& folder) { return (std::filesystem::path(folder) / file_name).string(); }

// A run's own byte of the file: all its ranks lock it, and see who has locked another one.
off_t place_of(const std::string& run) {
  std::array<std::uint8_t, 8> bytes{};
  if (run.empty()) {
    secure_random(std::as_writable_bytes(std::span(bytes)));
  } else {
    const Digest digest = sha256(run);
    std::copy_n(digest.begin(), bytes.size(), bytes.begin());
  }
  std::uint64_t number = 0;
  std::memcpy(&number, bytes.data(), sizeof number);
  return static_cast<off_t>(number % static_cast<std::uint64_t>(place_max));
}

// Of the open file, not of the process: another run in this process is refused as well.
bool lock(int descriptor, short type, off_t begin, off_t count) {
  struct flock range {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = begin;
  range.l_len = count;
  return ::fcntl(descriptor, F_OFD_SETLK, &range) == 0;
}

bool is_locked(int descriptor, off_t begin, off_t count) {
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = begin;
  range.l_len = count;
  return ::fcntl(descriptor, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
}

bool is_still_there(int descriptor, const std::string& path) {
  struct stat open {};
  struct stat named {};
  return ::fstat(descriptor, &open) == 0 && ::stat(path.c_str(), &named) == 0 && open.st_ino == named.st_ino && open.st_dev == named.st_dev;
}

}  // namespace

Result<std::unique_ptr<RunLock>> RunLock::take(const std::string& folder, const std::string& run) {
  std::error_code error;
  const bool made_folder = std::filesystem::create_directories(folder, error);
  if (error) return fail(GpuError::io, "cannot make " + folder + ": " + error.message());
  const std::string path = path_in(folder);
  const off_t place = place_of(run);
  for (int attempt = 0; attempt < attempts_max; ++attempt) {
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor < 0) return fail(GpuError::io, "cannot open " + path + ": " + std::strerror(errno));
    std::unique_ptr<RunLock> held(new RunLock(folder, made_folder, descriptor));
    if (!lock(descriptor, F_RDLCK, place, 1)) return fail(GpuError::io, "cannot lock " + path + ": " + std::strerror(errno));
    if ((place > 0 && is_locked(descriptor, 0, place)) || is_locked(descriptor, place + 1, 0))
      return fail(GpuError::invalid, folder + " is another run's that goes on now; wait until that has ended, or choose another folder");
    if (is_still_there(descriptor, path)) return held;
    // Its last owner removed it between the two.
  }
  return fail(GpuError::io, "cannot lock " + path + ", which comes and goes");
}

// Of ranks that end together each lets go before it looks again: whoever comes last is alone with it.
RunLock::~RunLock() {
  bool is_last = lock(descriptor_, F_WRLCK, 0, 0);
  if (!is_last && lock(descriptor_, F_UNLCK, 0, 0)) is_last = lock(descriptor_, F_WRLCK, 0, 0);
  if (is_last && is_still_there(descriptor_, path_in(folder_))) {
    (void)::unlink(path_in(folder_).c_str());
    if (made_folder_) (void)::rmdir(folder_.c_str());  // where nothing came to be in it
  }
  (void)::close(descriptor_);
}

}  // namespace outlast::worker
