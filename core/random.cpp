#include "core/random.hpp"

#include <sys/random.h>

#include <cerrno>

#include "core/check.hpp"

namespace outlast {

void secure_random(std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t got = getrandom(out.data(), out.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    check(got > 0, "getrandom failed");
    out = out.subspan(static_cast<std::size_t>(got));
  }
}

std::uint64_t secure_seed() {
  std::uint64_t seed = 0;
  secure_random(std::as_writable_bytes(std::span(&seed, 1)));
  return seed;
}

}  // namespace outlast
