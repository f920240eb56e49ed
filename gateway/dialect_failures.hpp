#pragma once
// The failures of dialects that every reader of them gives.

#include <string>
#include <utility>

#include "core/result.hpp"
#include "gateway/dialect.hpp"

namespace outlast::gateway {

inline Failure malformed(std::string message) { return fail(DialectError::malformed_answer, std::move(message)); }
inline Failure invalid(std::string message) { return fail(DialectError::invalid_request, std::move(message)); }
inline Failure unsupported(std::string message) { return fail(DialectError::unsupported, std::move(message)); }

}  // namespace outlast::gateway
