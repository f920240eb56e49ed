// How the messages of a typed actor interface cross a link: a table of methods, each with a number and the codecs of
// its request and its answer. An interface becomes remote by a specialisation of Remote and of Wire for its messages:
//
//   template <>
//   struct Remote<Clock> {
//     using Methods = MethodList<Method<1, now_atom, Instant>, Method<2, SetAlarm, Done>>;
//   };
//
// Numbers are append-only: two nodes may run neighbouring versions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <caf/atom.hpp>
#include <caf/error.hpp>
#include <caf/message.hpp>
#include <caf/replies_to.hpp>
#include <caf/typed_actor.hpp>

#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::actors {

template <std::uint16_t Number, class Input, class Output>
struct Method {};
template <class... Methods>
struct MethodList {};

template <class Interface>
struct Remote;

// encode: Result<FramePtr>(const T&), null for an empty body. decode: Result<T>(const FramePtr&).
template <class T>
struct Wire;

// What says all by its number has an empty body; anything else was meant for another interface.
inline Result<void> nothing_in(const FramePtr& body) {
  if (body && body->size() != 0) return fail(FrameError::malformed, "a message without content has some");
  return {};
}

template <caf::atom_value Value>
struct Wire<caf::atom_constant<Value>> {
  static Result<FramePtr> encode(caf::atom_constant<Value>) { return FramePtr(); }
  static Result<caf::atom_constant<Value>> decode(const FramePtr& body) {
    if (auto empty = nothing_in(body); !empty) return fail(std::move(empty.error()));
    return caf::atom_constant<Value>();
  }
};

// Done: there is nothing to say but that it is done.
template <>
struct Wire<bool> {
  static Result<FramePtr> encode(bool) { return FramePtr(); }
  static Result<bool> decode(const FramePtr& body) {
    if (auto empty = nothing_in(body); !empty) return fail(std::move(empty.error()));
    return true;
  }
};

// One row of the table; what is not of its type is never given to it.
struct MethodCodec {
  std::uint16_t number;
  bool (*takes)(const caf::type_erased_tuple& content);
  bool (*gives)(const caf::type_erased_tuple& content);
  Result<FramePtr> (*encode_input)(const caf::type_erased_tuple& content);
  Result<caf::message> (*decode_input)(const FramePtr& body);
  // The error of a Result is an error here.
  Result<FramePtr> (*encode_output)(const caf::type_erased_tuple& content);
  Result<caf::message> (*decode_output)(const FramePtr& body);
  // What the actor itself answered with an error; a caf::error where the answer is no Result.
  caf::message (*failed_output)(Error error);
};
using InterfaceCodec = std::span<const MethodCodec>;

// Errors of remote actors travel within CAF as a caf::error that keeps module, code and message.
[[nodiscard]] caf::error caf_error_of(const Error& error);
// What any caf::error of a request means, whoever made it: ActorError::timed_out or unavailable for CAF's own.
[[nodiscard]] Error error_of(const caf::error& error);

namespace detail {

template <class T>
struct IsResult : std::false_type {};
template <class T>
struct IsResult<Result<T>> : std::true_type {};

template <class T>
Result<FramePtr> encode_value(const T& value) {
  if constexpr (IsResult<T>::value) {
    if (!value) return fail(value.error());
    return Wire<typename T::value_type>::encode(*value);
  } else {
    return Wire<T>::encode(value);
  }
}

template <class T>
Result<caf::message> decode_value(const FramePtr& body) {
  if constexpr (IsResult<T>::value) {
    auto value = Wire<typename T::value_type>::decode(body);
    if (!value) return fail(std::move(value.error()));
    return caf::make_message(T(std::move(*value)));
  } else {
    auto value = Wire<T>::decode(body);
    if (!value) return fail(std::move(value.error()));
    return caf::make_message(std::move(*value));
  }
}

template <class T>
struct IsAtom : std::false_type {};
template <caf::atom_value Value>
struct IsAtom<caf::atom_constant<Value>> : std::true_type {};

template <class T>
Result<FramePtr> encode_content(const caf::type_erased_tuple& content) {
  if constexpr (IsAtom<T>::value) {
    return Wire<T>::encode(T());
  } else {
    return encode_value<T>(content.get_as<T>(0));
  }
}

template <std::uint16_t Number, class Input, class Output>
constexpr MethodCodec codec_of(Method<Number, Input, Output>) {
  return {
      Number,
      [](const caf::type_erased_tuple& content) { return content.match_elements<Input>(); },
      [](const caf::type_erased_tuple& content) { return content.match_elements<Output>(); },
      encode_content<Input>,
      decode_value<Input>,
      encode_content<Output>,
      decode_value<Output>,
      [](Error error) {
        if constexpr (IsResult<Output>::value) return caf::make_message(Output(fail(std::move(error))));
        else return caf::make_message(caf_error_of(error));
      },
  };
}

template <class Interface, std::uint16_t... Numbers, class... Inputs, class... Outputs>
InterfaceCodec table_of(MethodList<Method<Numbers, Inputs, Outputs>...>) {
  static_assert(
      std::is_same_v<Interface, caf::typed_actor<typename caf::replies_to<Inputs>::template with<Outputs>...>>,
      "the table names the interface's messages, in its order");
  static constexpr MethodCodec table[] = {codec_of(Method<Numbers, Inputs, Outputs>())...};
  return table;
}

}  // namespace detail

template <class Interface>
[[nodiscard]] InterfaceCodec interface_codec() {
  return detail::table_of<Interface>(typename Remote<Interface>::Methods());
}

}  // namespace outlast::actors
