// What codecs of whole messages share: errors on the way, bounds, and one frame from a message and back. For proto/join_codec.cpp
// and proto/work_codec.cpp alone, each of which has a read() and a write() for its messages.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::wire {

// Thrown by readers and writers, caught in without_exceptions(): Cap'n Proto's getters throw as well.
struct Unfit {
  FrameError code;
  std::string message;
};

template <class T, class Body>
Result<T> without_exceptions(Body body) {
  try {
    return body();
  } catch (const Unfit& unfit) {
    return fail(unfit.code, unfit.message);
  } catch (const kj::Exception& exception) {
    return fail(FrameError::malformed, std::string("not a valid frame: ") + exception.getDescription().cStr());
  }
}

inline void bound(std::size_t size, std::size_t size_max, const char* what) {
  if (size > size_max) throw Unfit{FrameError::too_large, std::to_string(size) + " " + what + "; at most " + std::to_string(size_max)};
}

inline capnp::Text::Reader text_of(const std::string& text, std::size_t bytes_max) {
  bound(text.size(), bytes_max, "bytes of a text");
  return {text.data(), text.size()};
}

inline std::string string_of(capnp::Text::Reader text, std::size_t bytes_max) {
  bound(text.size(), bytes_max, "bytes of a text");
  return {text.begin(), text.size()};
}

// `write(root)` fills the message. Errors: FrameError.
template <class Root, class Write>
Result<FramePtr> encode_frame(std::size_t bytes_max, const Write& write) {
  return without_exceptions<FramePtr>([bytes_max, &write]() -> Result<FramePtr> {
    capnp::MallocMessageBuilder builder;
    write(builder.initRoot<Root>());
    const std::size_t size_bytes = capnp::computeSerializedSizeInWords(builder) * sizeof(capnp::word);
    bound(size_bytes, bytes_max, "bytes of a frame");
    auto frame = std::make_shared<Frame>(size_bytes);
    const auto out = frame->writable();
    kj::ArrayOutputStream stream(kj::arrayPtr(reinterpret_cast<kj::byte*>(out.data()), out.size()));
    capnp::writeMessage(stream, builder);
    return frame;
  });
}

// `read(root)` is the message. Errors: FrameError.
template <class Root, class Message, class Read>
Result<Message> decode_frame(std::span<const std::byte> bytes, std::size_t bytes_max, const Read& read) {
  return without_exceptions<Message>([bytes, bytes_max, &read]() -> Result<Message> {
    bound(bytes.size(), bytes_max, "bytes of a frame");
    const AlignedBytes aligned(bytes);
    capnp::ReaderOptions options;
    options.traversalLimitInWords = 2 * aligned.word_count() + 64;
    options.nestingLimit = 8;
    capnp::FlatArrayMessageReader reader(
        kj::arrayPtr(reinterpret_cast<const capnp::word*>(aligned.data()), aligned.word_count()), options);
    return read(reader.getRoot<Root>());
  });
}

}  // namespace outlast::wire
