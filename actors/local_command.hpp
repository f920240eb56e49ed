// Runs a program of the administrator's as a child of its own: no shell, no environment, no open files, bounded time.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "core/result.hpp"

namespace outlast::actors {

// Append-only.
enum class CommandError : std::uint16_t { not_started = 1, failed = 2, timed_out = 3 };

inline constexpr std::size_t command_input_bytes_max = 16 * 1024;  // less than a pipe holds

// Starts `argv` in a process group of its own with `input` on stdin and nothing on stdout and stderr, and waits for its
// end on the caller's executor. An exit status other than 0 is an error. After `limit` the whole group is killed.
boost::asio::awaitable<Result<void>> run_local_command(std::vector<std::string> argv, std::string input,
                                                       std::chrono::milliseconds limit);

}  // namespace outlast::actors

namespace outlast {
template <>
inline constexpr std::string_view error_module<actors::CommandError> = "command";
}  // namespace outlast
