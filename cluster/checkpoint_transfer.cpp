#include "cluster/checkpoint_transfer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "cluster/agreement_error.hpp"
#include "storage/durable_file.hpp"

namespace outlast::cluster {
namespace {

namespace fs = std::filesystem;
using namespace checkpoint;

Failure refuse(std::string why) { return fail(AgreementError::refused, std::move(why)); }

Result<std::vector<File>> list_files(const std::string& folder) {
  std::vector<File> files;
  std::error_code error;
  for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (!at->is_regular_file(error)) continue;
    File file{fs::path(at->path()).lexically_relative(folder).string(), at->file_size(error)};
    if (!safe_file_name(file.name)) return refuse("the copy has a file of a strange name: " + file.name);
    files.push_back(std::move(file));
  }
  if (error) return fail(AgreementError::unavailable, "cannot list " + folder + ": " + error.message());
  if (files.size() > files_max) return refuse("the copy has too many files");
  // The file that names the others last: a store that is cut off has none and cannot be opened by mistake.
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) {
    return std::pair(a.name == "CURRENT", a.name) < std::pair(b.name == "CURRENT", b.name);
  });
  return files;
}

Result<void> sync_file(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = file >= 0 && ::fsync(file) == 0;
  if (file >= 0) ::close(file);
  if (!synced) return storage::file_failure("sync", path);
  return {};
}

}  // namespace

CheckpointGiver::CheckpointGiver(std::string scratch, MakeCopy make_copy, const Clock& clock)
    : scratch_(std::move(scratch)), make_copy_(std::move(make_copy)), clock_(clock) {
  std::error_code error;
  fs::remove_all(scratch_, error);  // of a process before this one
}

CheckpointGiver::~CheckpointGiver() {
  std::error_code error;
  fs::remove_all(scratch_, error);
}

std::optional<Message> CheckpointGiver::receive(const std::string& node, const Message& message) {
  const Key key{node, message.transfer};
  const auto answer = [&message]<class Body>(Result<Body> body) {
    if (!body) return Message{message.transfer, Failed{body.error().message}};
    return Message{message.transfer, std::move(*body)};
  };
  if (const auto* wanted = std::get_if<Wanted>(&message.body)) return answer(make(key, wanted->shard));
  const auto at = copies_.find(key);
  if (std::holds_alternative<Ended>(message.body)) {
    if (at != copies_.end()) drop(at);
    return std::nullopt;
  }
  const auto* place = std::get_if<Place>(&message.body);
  if (place == nullptr) return std::nullopt;
  if (at == copies_.end()) return Message{message.transfer, Failed{"there is no such copy, or not any more"}};
  at->second.asked_ns = clock_.monotonic_ns();
  return answer(read(at->second, *place));
}

Result<Manifest> CheckpointGiver::make(const Key& key, ShardId shard) {
  if (copies_.contains(key)) return refuse("that transfer was begun already");
  if (copies_.size() >= checkpoints_given_max) {
    return fail(AgreementError::unavailable, "this node gives as many copies as it may; try again later");
  }
  std::error_code error;
  fs::create_directories(scratch_, error);
  Copy copy{scratch_ + "/" + std::to_string(++made_), {}, clock_.monotonic_ns()};
  const Result<std::uint64_t> next_index = make_copy_(shard, copy.folder);
  Result<std::vector<File>> files = next_index ? list_files(copy.folder) : fail(next_index.error());
  if (!files) {
    fs::remove_all(copy.folder, error);
    return fail(files.error());
  }
  copy.files = *files;
  copies_.emplace(key, std::move(copy));
  return Manifest{*next_index, std::move(*files)};
}

Result<Chunk> CheckpointGiver::read(const Copy& copy, const Place& place) const {
  if (place.file >= copy.files.size() || place.offset >= copy.files[place.file].bytes) {
    return refuse("the copy has no such piece");
  }
  const File& file = copy.files[place.file];
  Chunk chunk{place, std::string(std::min<std::uint64_t>(chunk_bytes_max, file.bytes - place.offset), '\0')};
  std::ifstream in(copy.folder + "/" + file.name, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(place.offset));
  if (!in.read(chunk.data.data(), static_cast<std::streamsize>(chunk.data.size()))) {
    return fail(AgreementError::unavailable, "cannot read " + file.name + " of the copy");
  }
  return chunk;
}

void CheckpointGiver::drop(std::map<Key, Copy>::iterator at) {
  std::error_code error;
  fs::remove_all(at->second.folder, error);
  copies_.erase(at);
}

void CheckpointGiver::tick() {
  const std::int64_t since_ns = clock_.monotonic_ns() - checkpoint_silence_ms_max * 1'000'000LL;
  for (auto at = copies_.begin(); at != copies_.end();) {
    const auto copy = at++;
    if (copy->second.asked_ns < since_ns) drop(copy);
  }
}

void CheckpointGiver::peer_down(const std::string& node) {
  for (auto at = copies_.begin(); at != copies_.end();) {
    const auto copy = at++;
    if (copy->first.first == node) drop(copy);
  }
}

CheckpointTaker::CheckpointTaker(ShardId shard, std::string folder, std::uint64_t transfer, std::uint64_t bytes_max,
                                 const Clock& clock)
    : shard_(shard),
      folder_(std::move(folder)),
      transfer_(transfer),
      bytes_max_(bytes_max),
      clock_(clock),
      heard_ns_(clock.monotonic_ns()) {}

Message CheckpointTaker::first() const { return {transfer_, Wanted{shard_}}; }

bool CheckpointTaker::stalled() const {
  return !done_ && clock_.monotonic_ns() - heard_ns_ > checkpoint_silence_ms_max * 1'000'000LL;
}

Result<std::vector<Message>> CheckpointTaker::receive(const Message& message) {
  std::vector<Message> out;
  if (message.transfer != transfer_ || done_) return out;
  heard_ns_ = clock_.monotonic_ns();
  Result<void> taken;
  if (const auto* failed = std::get_if<Failed>(&message.body)) {
    return fail(AgreementError::unavailable, "the peer says: " + failed->why);
  } else if (const auto* manifest = std::get_if<Manifest>(&message.body)) {
    taken = begin(*manifest);
  } else if (const auto* chunk = std::get_if<Chunk>(&message.body)) {
    taken = take(*chunk);
  } else {
    return refuse("the peer answered something else");
  }
  if (!taken) return fail(taken.error());
  ask_more(out);
  if (expected_.file == manifest_.files.size()) {
    if (const Result<void> synced = sync_names(); !synced) return fail(synced.error());
    done_ = true;
    out.push_back({transfer_, Ended{}});
  }
  return out;
}

Result<void> CheckpointTaker::sync_names() const {
  std::set<std::string> folders{folder_};
  for (const File& file : manifest_.files) folders.insert((fs::path(folder_) / file.name).parent_path().string());
  for (const std::string& folder : folders) {
    if (const Result<void> synced = storage::sync_folder(folder); !synced) return synced;
  }
  return {};
}

Result<void> CheckpointTaker::begin(const Manifest& manifest) {
  if (begun_) return refuse("the peer began twice");
  begun_ = true;
  manifest_ = manifest;
  for (const File& file : manifest_.files) {
    if (file.bytes > bytes_max_ || (bytes_total_ += file.bytes) > bytes_max_) {
      return refuse("the copy is larger than what this disk has room for, " + std::to_string(bytes_max_) + " bytes");
    }
  }
  std::error_code error;
  fs::remove_all(folder_, error);
  fs::create_directories(folder_, error);
  for (const File& file : manifest_.files) {
    const fs::path path = fs::path(folder_) / file.name;
    fs::create_directories(path.parent_path(), error);
    if (!std::ofstream(path, std::ios::binary | std::ios::trunc)) return storage::file_failure("make", path.string());
  }
  // Files without a byte need not be asked for.
  return finish_file();
}

// Passes over what is whole.
Result<void> CheckpointTaker::finish_file() {
  while (expected_.file < manifest_.files.size() && expected_.offset == manifest_.files[expected_.file].bytes) {
    const std::string path = folder_ + "/" + manifest_.files[expected_.file].name;
    if (const Result<void> synced = sync_file(path); !synced) return synced;
    expected_ = {expected_.file + 1, 0};
  }
  return {};
}

Result<void> CheckpointTaker::take(const Chunk& chunk) {
  if (!begun_ || reads_ == 0 || chunk.place != expected_) return refuse("the peer sent a piece that was not asked for");
  const File& file = manifest_.files[expected_.file];
  const std::uint64_t size = std::min<std::uint64_t>(chunk_bytes_max, file.bytes - expected_.offset);
  if (chunk.data.size() != size) return refuse("the peer sent a piece of another size");
  --reads_;
  const std::string path = folder_ + "/" + file.name;
  std::ofstream out(path, std::ios::binary | std::ios::app);
  if (!out.write(chunk.data.data(), static_cast<std::streamsize>(size)).flush()) return storage::file_failure("write", path);
  out.close();
  bytes_taken_ += size;
  expected_.offset += size;
  return finish_file();
}

void CheckpointTaker::ask_more(std::vector<Message>& out) {
  while (reads_ < checkpoint_reads_max) {
    while (wanted_.file < manifest_.files.size() && wanted_.offset >= manifest_.files[wanted_.file].bytes) {
      wanted_ = {wanted_.file + 1, 0};
    }
    if (wanted_.file >= manifest_.files.size()) return;
    out.emplace_back().transfer = transfer_;  // in place: gcc 12 takes a moved variant for uninitialised
    out.back().body = wanted_;
    wanted_.offset += std::min<std::uint64_t>(chunk_bytes_max, manifest_.files[wanted_.file].bytes - wanted_.offset);
    ++reads_;
  }
}

}  // namespace outlast::cluster
