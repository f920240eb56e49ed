// Trainer's checkpoints: written beside their place, synced, and renamed.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>

#include <simdjson.h>

#include "core/check.hpp"
#include "core/json_writer.hpp"
#include "gpu/files/safetensors.hpp"
#include "gpu/files/whole_file.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/train/trainer.hpp"

namespace outlast::gpu {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view prefix = "step-";
constexpr std::string_view unfinished = ".unfinished";
constexpr std::size_t place_bytes_max = 64U << 10;
constexpr std::array<const char*, state_arrays> state_names{"weights", "first_moment", "second_moment"};

std::string name_of_step(std::uint64_t step) {
  std::string digits = std::to_string(step);
  return std::string(prefix) + std::string(digits.size() < 8 ? 8 - digits.size() : 0, '0') + digits;
}

Failure cannot(const std::string& what, const fs::path& path, const std::error_code& error) {
  return fail(GpuError::io, "cannot " + what + " " + path.string() + ": " + error.message());
}

// A folder's entries; none where it does not exist.
Result<std::vector<fs::path>> entries_of(const std::string& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  fs::directory_iterator at(folder, error);
  if (error == std::errc::no_such_file_or_directory) return found;
  while (!error && at != fs::directory_iterator()) {
    found.push_back(at->path());
    at.increment(error);
  }
  if (error) return cannot("read", folder, error);
  return found;
}

// The whole checkpoints of a folder, by step.
Result<std::map<std::uint64_t, fs::path>> checkpoints_in(const std::string& folder) {
  const auto entries = entries_of(folder);
  if (!entries) return fail(entries.error());
  std::map<std::uint64_t, fs::path> found;
  for (const fs::path& entry : *entries) {
    const std::string name = entry.filename().string();
    if (!name.starts_with(prefix)) continue;
    std::uint64_t step = 0;
    const auto [end, wrong] = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), step);
    if (wrong == std::errc() && end == name.data() + name.size()) found[step] = entry;
  }
  return found;
}

// `made` takes the place of `old`, in one step.
Result<void> put_in_place(const fs::path& made, const fs::path& old) {
  const bool exchanged = ::renameat2(AT_FDCWD, made.c_str(), AT_FDCWD, old.c_str(), fs::exists(old) ? RENAME_EXCHANGE : 0) == 0;
  if (!exchanged) return cannot("place", old, std::error_code(errno, std::generic_category()));
  std::error_code ignored;
  fs::remove_all(made, ignored);  // what was there before
  return {};
}

// The first setting of two objects that differs, with both values; empty: none does.
std::string first_difference(const simdjson::dom::element& stored, const simdjson::dom::element& own, const std::string& within = {}) {
  using simdjson::SUCCESS;
  simdjson::dom::object before;
  simdjson::dom::object now;
  if (stored.get(before) != SUCCESS || own.get(now) != SUCCESS) {
    const std::string was = simdjson::minify(stored);
    const std::string is = simdjson::minify(own);
    return was == is ? std::string() : within + " was " + was + " and is " + is;
  }
  for (const auto& [name, value] : now) {
    const std::string whole = within + (within.empty() ? "" : ".") + std::string(name);
    const auto former = stored[name];
    if (former.error() != SUCCESS) return whole + " was none";
    if (std::string other = first_difference(former.value_unsafe(), value, whole); !other.empty()) return other;
  }
  for (const auto& [name, value] : before) {
    if (own[name].error() != SUCCESS) return within + (within.empty() ? "" : ".") + std::string(name) + " is none";
  }
  return {};
}

// What the first rank could do, as all ranks hear it. The others' errors are `cancelled`: it is the first one that knows why.
enum class Outcome : std::uint8_t { nothing, done, failed };

}  // namespace

// The moments of all ranks in the order in which a checkpoint has them: every rank goes through all pieces, whatever happens to the
// first one's file, because each piece takes all of them.
class Trainer::PieceFeed {
 public:
  PieceFeed(Trainer& trainer, Array staging) : trainer_(trainer), staging_(staging) {}

  Result<void> next(std::span<std::byte> into) {
    const auto gathered = gather();
    if (!gathered) return fail(gathered.error());
    return trainer_.device_.download(into, *gathered);
  }
  Result<void> rest() {
    while (array_ < state_arrays) {
      if (const auto gathered = gather(); !gathered) return fail(gathered.error());
    }
    return {};
  }

 private:
  Result<Array> gather() {
    const std::size_t count = std::min(trainer_.layout_.count() - begin_, staging_.count);
    const Array piece = staging_.part(0, count);
    if (Result<void> gathered = trainer_.gather_piece(array_, {begin_, count}, piece); !gathered) return fail(std::move(gathered.error()));
    begin_ += count;
    if (begin_ == trainer_.layout_.count()) {
      ++array_;
      begin_ = 0;
    }
    return piece;
  }

  Trainer& trainer_;
  const Array staging_;  // f32, as large as the pieces in which a file is written
  std::size_t array_ = 1;
  std::size_t begin_ = 0;
};

Result<void> Trainer::save(const std::string& folder) {
  const auto staging = device_.allocate(tensor_piece_bytes / sizeof(float), Dtype::f32);
  if (!staging) return fail(staging.error());
  PieceFeed moments(*this, (*staging)->array());
  Result<void> written;
  if (plan_.rank() == 0) written = write_checkpoint(folder, moments);
  if (!queue_) return written;
  if (Result<void> rest = moments.rest(); !rest) return rest;
  double failures = written ? 0 : 1;
  if (Result<void> told = ranks_->sum({&failures, 1}); !told) return told;
  if (written && failures > 0) return fail(GpuError::cancelled, "the first rank could not write the checkpoint");
  return written;
}

Result<void> Trainer::write_checkpoint(const std::string& folder, PieceFeed& moments) {
  const fs::path place = fs::path(folder) / name_of_step(step_);
  const fs::path beside = place.string() + std::string(unfinished);
  std::error_code error;
  fs::remove_all(beside, error);
  fs::create_directories(beside, error);
  if (error) return cannot("make", beside, error);
  if (Result<void> synced = sync_folder(fs::absolute(folder).lexically_normal().parent_path().string()); !synced) return synced;
  const auto weights = [this](std::size_t first, std::span<std::byte> into) {
    return device_.download(into, weights_->array().part(first / sizeof(float), into.size() / sizeof(float)));
  };
  const auto moment = [&moments](std::size_t, std::span<std::byte> into) { return moments.next(into); };
  const std::vector<std::uint64_t> shape{layout_.count()};
  const std::vector<TensorToWrite> tensors{{"weights", Dtype::f32, shape, weights}, {"first_moment", Dtype::f32, shape, moment}, {"second_moment", Dtype::f32, shape, moment}};
  if (Result<void> written = write_safetensors((beside / "state.safetensors").string(), tensors, {}); !written) return written;
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("step").number(step_).key("data").number(data_hash_).key("run").raw(options_.fingerprint());
  if (options_.lora.rank > 0) json.key("frozen").number(frozen_hash_);
  if (teacher_) json.key("teacher").number(teacher_hash_);
  json.key("model").raw(model_config_json(config_)).end_object();
  if (Result<void> written = write_whole_file((beside / "place.json").string(), text); !written) return written;
  if (Result<void> placed = put_in_place(beside, place); !placed) return placed;
  return sync_folder(folder);
}

struct Trainer::Stored {
  std::uint64_t step = 0;
  fs::path place;
  std::unique_ptr<SafetensorsFile> file;  // none: there is no checkpoint
};

Result<Trainer::Stored> Trainer::find_newest(const std::string& folder) const {
  const auto found = checkpoints_in(folder);
  if (!found) return fail(found.error());
  if (found->empty()) return Stored{};
  const auto& [step, place] = *found->rbegin();
  const auto text = read_whole_file((place / "place.json").string(), place_bytes_max);
  if (!text) return fail(text.error());
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  std::uint64_t stored_step = 0;
  std::uint64_t data = 0;
  simdjson::dom::element run;
  simdjson::dom::element model;
  if (parser.parse(text->data(), text->size()).get(root) != simdjson::SUCCESS || root["step"].get(stored_step) != simdjson::SUCCESS ||
      root["data"].get(data) != simdjson::SUCCESS || root["run"].get(run) != simdjson::SUCCESS || root["model"].get(model) != simdjson::SUCCESS ||
      stored_step != step) {
    return fail(GpuError::malformed, (place / "place.json").string() + " is not a checkpoint's");
  }
  simdjson::dom::parser of_model;
  simdjson::dom::parser of_run;
  simdjson::dom::element own_model;
  simdjson::dom::element own_run;
  check(of_model.parse(model_config_json(config_)).get(own_model) == simdjson::SUCCESS && of_run.parse(options_.fingerprint()).get(own_run) == simdjson::SUCCESS, "what this run writes it reads");
  if (const std::string other = first_difference(model, own_model); !other.empty())
    return fail(GpuError::invalid, place.string() + " is of another model: " + other + "; choose another folder");
  const bool has_lora = run["lora"].error() == simdjson::SUCCESS;
  if (has_lora != (options_.lora.rank > 0)) {
    const std::string stored = has_lora ? "a run with LoRA, and this one learns every weight" : "a run that learns every weight, and this one has LoRA";
    return fail(GpuError::invalid, place.string() + " is of " + stored + "; give the same settings, or choose another folder");
  }
  std::uint64_t frozen = 0;
  if (has_lora && (root["frozen"].get(frozen) != simdjson::SUCCESS || frozen != frozen_hash_))
    return fail(GpuError::invalid, place.string() + " is of an adapter beside other weights; begin from the same model, or choose another folder");
  if (const std::string other = first_difference(run, own_run); !other.empty())
    return fail(GpuError::invalid, place.string() + " is of a run with other settings: " + other + "; give the same, or choose another folder");
  if (data != data_hash_) return fail(GpuError::invalid, place.string() + " is of a run with other data; give the same, or choose another folder");
  std::uint64_t teacher = 0;
  if (teacher_ && (root["teacher"].get(teacher) != simdjson::SUCCESS || teacher != teacher_hash_))
    return fail(GpuError::invalid, place.string() + " is of a run with another teacher; give the same, or choose another folder");
  auto file = SafetensorsFile::open((place / "state.safetensors").string());
  if (!file) return fail(std::move(file.error()));
  for (const char* const name : state_names) {
    const TensorInfo* const tensor = (*file)->find(name);
    if (tensor == nullptr || tensor->dtype != Dtype::f32 || tensor->count() != layout_.count())
      return fail(GpuError::malformed, place.string() + ": '" + name + "' is missing or of another size");
  }
  return Stored{stored_step, place, std::move(*file)};
}

Result<bool> Trainer::resume(const std::string& folder) {
  Result<Stored> stored = plan_.rank() == 0 ? find_newest(folder) : Result<Stored>(Stored{});
  const Outcome own = !stored ? Outcome::failed : stored->file ? Outcome::done : Outcome::nothing;
  std::array<double, 2> told{static_cast<double>(own), stored ? static_cast<double>(stored->step) : 0.0};
  if (queue_) {
    if (Result<void> heard = ranks_->sum(told); !heard) return fail(std::move(heard.error()));
  }
  if (!stored) return fail(std::move(stored.error()));
  if (told[0] == static_cast<double>(Outcome::failed)) return fail(GpuError::cancelled, "the first rank cannot go on from a checkpoint");
  if (told[0] == static_cast<double>(Outcome::nothing)) return false;
  if (Result<void> taken = take_state(*stored); !taken) return fail(std::move(taken.error()));
  step_ = static_cast<std::uint64_t>(told[1]);
  if (copies_) copies_->forget();
  return true;
}

Result<void> Trainer::take_state(const Stored& stored) {
  const auto staging = device_.allocate(tensor_piece_bytes / sizeof(float), Dtype::f32);
  if (!staging) return fail(staging.error());
  std::vector<std::byte> bytes;
  Result<void> read;
  for (std::size_t array = 0; array < state_arrays; ++array) {
    for (std::size_t begin = 0; begin < layout_.count();) {
      const Part piece{begin, std::min((*staging)->array().count, layout_.count() - begin)};
      const Array numbers = (*staging)->array().part(0, piece.count);
      bytes.resize(numbers.bytes());
      if (stored.file && read) read = stored.file->read(*stored.file->find(state_names[array]), bytes, begin * sizeof(float));
      if (stored.file) device_.upload(numbers, bytes);
      if (queue_) {
        if (Result<void> sent = ranks_->broadcast(numbers, 0); !sent) return sent;
      }
      place_piece(array, piece, numbers);
      begin += piece.count;
    }
  }
  if (working_) device_.copy(working_->array(), weights_->array());
  double failures = read ? 0 : 1;
  if (queue_) {
    if (Result<void> told = ranks_->sum({&failures, 1}); !told) return told;
  }
  if (read && failures > 0) return fail(GpuError::cancelled, "the first rank could not read the checkpoint");
  return read;
}

Result<void> prune_checkpoints(const std::string& folder, std::size_t keep) {
  const auto entries = entries_of(folder);
  if (!entries) return fail(entries.error());
  std::vector<fs::path> doomed;
  for (const fs::path& entry : *entries) {
    const std::string name = entry.filename().string();
    if (name.starts_with(prefix) && name.ends_with(unfinished)) doomed.push_back(entry);
  }
  auto found = checkpoints_in(folder);
  if (!found) return fail(found.error());
  while (found->size() > keep) {
    doomed.push_back(found->begin()->second);
    found->erase(found->begin());
  }
  std::error_code error;
  for (const fs::path& one : doomed) {
    fs::remove_all(one, error);
    if (error) return cannot("remove", one, error);
  }
  return {};
}

}  // namespace outlast::gpu
