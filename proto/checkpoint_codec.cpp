#include "proto/checkpoint_codec.hpp"

#include <algorithm>

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include "core/check.hpp"
#include "core/crypto.hpp"
#include "proto/checkpoint.capnp.h"

namespace outlast::checkpoint {
namespace {

constexpr int nesting_max = 8;

struct Malformed {
  const char* what;
};

std::string string_of(capnp::Text::Reader text) { return std::string(text.begin(), text.size()); }
kj::StringPtr text_of(const std::string& text) { return kj::StringPtr(text.c_str(), text.size()); }

void write(const Wanted& from, schema::CheckpointMessage::Builder to) { to.setWanted(from.shard); }

void write(const Manifest& from, schema::CheckpointMessage::Builder to) {
  auto manifest = to.initManifest();
  manifest.setNextIndex(from.next_index);
  auto files = manifest.initFiles(static_cast<unsigned>(from.files.size()));
  for (unsigned i = 0; i < files.size(); ++i) {
    files[i].setName(text_of(from.files[i].name));
    files[i].setBytes(from.files[i].bytes);
  }
}

void write(const Place& from, schema::Place::Builder to) {
  to.setFile(from.file);
  to.setOffset(from.offset);
}

void write(const Place& from, schema::CheckpointMessage::Builder to) { write(from, to.initRead()); }

void write(const Chunk& from, schema::CheckpointMessage::Builder to) {
  check(from.data.size() <= chunk_bytes_max, "a chunk is within its limit");
  auto chunk = to.initChunk();
  write(from.place, chunk.initPlace());
  chunk.setData({reinterpret_cast<const kj::byte*>(from.data.data()), from.data.size()});
  chunk.setCrc(crc32(from.data));
}

void write(const Ended&, schema::CheckpointMessage::Builder to) { to.setEnded(); }

void write(const Failed& from, schema::CheckpointMessage::Builder to) { to.setFailed(text_of(from.why)); }

Manifest read(schema::Manifest::Reader from) {
  if (from.getFiles().size() > files_max) throw Malformed{"too many files"};
  Manifest to{from.getNextIndex(), {}};
  to.files.reserve(from.getFiles().size());
  for (const auto file : from.getFiles()) {
    to.files.push_back({string_of(file.getName()), file.getBytes()});
    if (!safe_file_name(to.files.back().name)) throw Malformed{"a file name that leaves its folder"};
  }
  return to;
}

Place read(schema::Place::Reader from) { return {from.getFile(), from.getOffset()}; }

Chunk read(schema::Chunk::Reader from) {
  const auto data = from.getData();
  if (data.size() > chunk_bytes_max) throw Malformed{"a chunk over its limit"};
  Chunk to{read(from.getPlace()), std::string(reinterpret_cast<const char*>(data.begin()), data.size())};
  if (crc32(to.data) != from.getCrc()) throw Malformed{"a chunk that is not what was sent"};
  return to;
}

Result<Message> read(schema::CheckpointMessage::Reader from) {
  using Kind = schema::CheckpointMessage::Which;
  Message to{from.getTransfer(), {}};
  switch (from.which()) {
    case Kind::WANTED: to.body = Wanted{from.getWanted()}; return to;
    case Kind::MANIFEST: to.body = read(from.getManifest()); return to;
    case Kind::READ: to.body = read(from.getRead()); return to;
    case Kind::CHUNK: to.body = read(from.getChunk()); return to;
    case Kind::ENDED: to.body = Ended{}; return to;
    case Kind::FAILED: to.body = Failed{string_of(from.getFailed())}; return to;
  }
  return fail(FrameError::unknown_kind, "a checkpoint's message of a kind that this version does not know");
}

bool plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

bool safe_part(std::string_view part) {
  return !part.empty() && part != "." && part != ".." && std::all_of(part.begin(), part.end(), plain);
}

}  // namespace

bool safe_file_name(std::string_view name) {
  if (name.size() > file_name_bytes_max) return false;
  const std::size_t slash = name.find('/');
  if (slash == std::string_view::npos) return safe_part(name);
  return safe_part(name.substr(0, slash)) && safe_part(name.substr(slash + 1));
}

FramePtr encode(const Message& message) {
  capnp::MallocMessageBuilder builder;
  auto root = builder.initRoot<schema::CheckpointMessage>();
  root.setTransfer(message.transfer);
  std::visit([&root](const auto& body) { write(body, root); }, message.body);
  const auto words = capnp::messageToFlatArray(builder);
  return Frame::copy_of(std::as_bytes(std::span(words.asBytes().begin(), words.asBytes().size())));
}

Result<Message> decode(std::span<const std::byte> bytes) {
  if (bytes.size() % sizeof(capnp::word) != 0) return fail(FrameError::malformed, "not whole words");
  const AlignedBytes aligned(bytes);
  try {
    capnp::ReaderOptions options;
    options.traversalLimitInWords = 4 * aligned.word_count() + 64;
    options.nestingLimit = nesting_max;
    capnp::FlatArrayMessageReader reader(
        kj::arrayPtr(reinterpret_cast<const capnp::word*>(aligned.data()), aligned.word_count()), options);
    return read(reader.getRoot<schema::CheckpointMessage>());
  } catch (const Malformed& malformed) {
    return fail(FrameError::malformed, std::string("a checkpoint's message with ") + malformed.what);
  } catch (const kj::Exception& exception) {
    return fail(FrameError::malformed, std::string("not a checkpoint's message: ") + exception.getDescription().cStr());
  }
}

}  // namespace outlast::checkpoint
