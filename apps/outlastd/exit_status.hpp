// What outlastd's exit statuses tell who supervises it: whether to start it again (configs/systemd/outlastd.service,
// docs/cluster.md).
#pragma once

#include "core/result.hpp"

namespace outlast::apps {

inline constexpr int exit_failed = 1;         // the next start may go well
inline constexpr int exit_unusable = 2;       // wrong options, or a configuration or a data folder that has to be changed
inline constexpr int exit_not_enrolled = 77;  // EX_NOPERM: removed, revoked, or never let in: it has to join first

// Of a start that failed.
int exit_status_of(const Error& error);

}  // namespace outlast::apps
