// Result<T>: a value, or an Error that a person can act on. For what can happen; a bug is a check() (check.hpp).
// Every module has its own append-only error enum; the pair (module, code) crosses the wire.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace outlast {

struct Error {
  std::string_view module;  // static storage: "http", "ledger", …
  std::uint16_t code = 0;   // the module's enum
  std::string message;      // what is wrong and, where known, what would be right; never a secret
};

template <class T>
using Result = tl::expected<T, Error>;
using Failure = tl::unexpected<Error>;

// Specialised beside each module's enum: template <> inline constexpr std::string_view error_module<HttpError> = "http";
template <class E>
inline constexpr std::string_view error_module = "";

template <class E>
[[nodiscard]] Failure fail(E code, std::string message) {
  static_assert(!error_module<E>.empty(), "specialise error_module for this enum");
  return Failure(Error{error_module<E>, static_cast<std::uint16_t>(code), std::move(message)});
}

// The same error, on its way up through a function of another result type.
[[nodiscard]] inline Failure fail(Error error) { return Failure(std::move(error)); }

template <class E>
[[nodiscard]] bool is(const Error& error, E code) {
  return error.module == error_module<E> && error.code == static_cast<std::uint16_t>(code);
}

// One level of errors for what an actor answers inside an answer.
template <class T>
[[nodiscard]] Result<T> flatten(Result<Result<T>> nested) {
  if (!nested) return fail(nested.error());
  return std::move(*nested);
}

}  // namespace outlast
