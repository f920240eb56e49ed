// What a GPU worker can be asked, as plain structs, and their frames (proto/work.capnp). They travel as the bodies of asks
// (ask_codec.hpp), by the method numbers below. Decoding bounds every size, tolerates what newer peers say, and never throws.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::work {

// Append-only. Each line: what is asked, and what is answered.
inline constexpr std::uint16_t method_start = 1;   // Start -> Job
inline constexpr std::uint16_t method_next = 2;    // Next -> Events
inline constexpr std::uint16_t method_stop = 3;    // Job -> Job; its last events follow
inline constexpr std::uint16_t method_status = 4;  // nothing -> Status

inline constexpr std::size_t path_bytes_max = 4'096;
inline constexpr std::size_t text_bytes_max = 1U << 20;     // of a message, a schema or an event
inline constexpr std::size_t prompts_max = 1'024;
inline constexpr std::size_t messages_max = 256;            // of one prompt
inline constexpr std::size_t labels_max = 4'096;
inline constexpr std::size_t stops_max = 16;
inline constexpr std::size_t word_bytes_max = 1'024;        // of a role, a label, a stop string, a name of a figure
inline constexpr std::size_t lora_targets_max = 32;
inline constexpr std::size_t figures_max = 64;              // of one event
inline constexpr std::size_t events_max = 1'024;            // of one answer
inline constexpr std::uint32_t wait_ms_max = 30'000;
inline constexpr std::size_t body_bytes_max = 4U << 20;     // of any of these frames

struct Shape {
  std::uint32_t hidden = 0;
  std::uint32_t intermediate = 0;
  std::uint32_t layers = 0;
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  bool operator==(const Shape&) const = default;
};

// How a teacher's distribution is learned (LossShape in gpu/operations.hpp).
struct Distillation {
  std::string teacher;       // folder of the model that teaches; empty: the training file has what a teacher said
  std::string loss;          // forward-kl, reverse-kl, jsd or skew-kl; empty: nothing is learned of a teacher
  double temperature = 0;
  double mix = 0;            // beta of jsd, alpha of skew-kl
  double cross_entropy = 0;  // its share of the loss, from 0 to 1
  bool operator==(const Distillation&) const = default;
};

// Where the ranks of a run meet (gpu/collective/rendezvous_server.hpp).
struct Ranks {
  std::uint32_t count = 0;  // 0: the worker trains alone
  std::string address;      // numeric
  std::uint16_t port = 0;
  std::string secret;       // of the run: whoever knows it may take part
  bool operator==(const Ranks&) const = default;
};

struct Train {
  std::string model;       // folder to begin from; empty: a new model of `shape`
  Shape shape;
  std::string tokenizer;   // tokenizer.json of a new model
  std::string data;        // training file (gpu/train/sample.hpp)
  std::string evaluation;  // the same form, held out; empty: none
  std::string output;      // folder of the student, and of checkpoints while it learns
  std::uint64_t steps = 0;      // 0: as many as make `epochs`
  double epochs = 0;            // passes over the data
  std::uint32_t batch_samples = 0;
  std::uint32_t rows = 0;       // tokens of a micro-batch
  std::uint32_t positions = 0;  // of the longest sample
  double rate = 0;
  std::string schedule;         // gpu/train/schedule.hpp
  std::uint64_t warm_up_steps = 0;
  std::uint64_t decay_steps = 0;
  double weight_decay = 0;
  double clip = 0;
  std::uint64_t seed = 0;
  bool recompute = false;
  std::uint64_t evaluate_every = 0;  // steps; 0: at the end only
  std::uint64_t save_every = 0;
  std::uint32_t patience = 0;        // evaluations without a better one, then it stops; 0: never
  bool resume = false;
  std::uint32_t lora_rank = 0;  // of an adapter beside `model` (gpu/model/lora.hpp); 0: none, every weight is learned
  double lora_alpha = 0;        // 0: twice the rank
  std::vector<std::string> lora_targets;  // names of projections; none: all
  Distillation distillation;
  Ranks ranks;
  bool operator==(const Train&) const = default;
};

struct Evaluate {
  std::string model;
  std::string data;
  std::uint32_t rows = 0;
  std::uint32_t positions = 0;
  bool operator==(const Evaluate&) const = default;
};

struct Message {
  std::string role;
  std::string content;
  bool operator==(const Message&) const = default;
};

struct Generate {
  std::string model;
  std::vector<std::vector<Message>> prompts;
  std::uint32_t tokens_max = 0;  // of each answer
  double temperature = 0;        // 0: the likeliest token
  double top_p = 1;
  std::uint32_t top_k = 0;       // 0: all
  std::uint64_t seed = 0;
  std::vector<std::string> stop;
  std::vector<std::string> labels;  // the answer is one of these
  std::string json_schema;          // or valid by this
  bool thinking = false;
  bool operator==(const Generate&) const = default;
};

using Start = std::variant<Train, Evaluate, Generate>;

struct Job {
  std::uint64_t id = 0;  // of this run of the worker
  bool operator==(const Job&) const = default;
};

struct Next {
  std::uint64_t job = 0;
  std::uint64_t after = 0;    // events that are known
  std::uint32_t wait_ms = 0;  // for the first new one; at most wait_ms_max
  bool operator==(const Next&) const = default;
};

// Append-only. An unknown one reads as `note`.
enum class EventKind : std::uint16_t {
  note = 0,        // text: for people
  plan = 1,        // before the work begins: figures of sizes and memory
  step = 2,        // figures of one training step
  evaluation = 3,  // figures of one evaluation
  checkpoint = 4,  // text: its folder
  delta = 5,       // of an answer: text, figure "prompt"
  answer = 6,      // an answer has ended: text is the finish reason, figure "prompt" and its usage
  done = 7,        // the last event of a job that went well; text: what it made
  failed = 8,      // the last event of one that did not; text: why
  rank_lost = 9,   // text: for people; figures "rank", and "ranks" that are left
  evaluating = 10, // an evaluation is at work: figures "samples_done" of "samples", and "step" in training
};
inline constexpr EventKind last_event_kind = EventKind::evaluating;

struct Figure {
  std::string name;  // the field's term and its unit: "loss", "tokens_per_second"
  double value = 0;
  bool operator==(const Figure&) const = default;
};

struct Event {
  EventKind kind = EventKind::note;
  std::string text;
  std::vector<Figure> figures;
  std::string error_module;  // of `failed`
  std::uint16_t error_code = 0;
  // NaN where there is none.
  [[nodiscard]] double figure(std::string_view name) const;
  bool operator==(const Event&) const = default;
};

struct Events {
  std::uint64_t first = 0;  // number of the first event here; more than asked for where the worker forgot some
  std::vector<Event> events;
  bool ended = false;       // no more will come
  bool operator==(const Events&) const = default;
};

struct Status {
  std::uint64_t memory_bytes = 0;
  std::uint64_t memory_free_bytes = 0;
  float temperature_c = std::numeric_limits<float>::quiet_NaN();  // NaN: the device does not tell
  std::uint64_t running = 0;  // the job at work; 0: none
  std::uint32_t waiting = 0;
  std::string software;
};

// FrameError::too_large when a count, a text or the frame is over its limit.
[[nodiscard]] Result<FramePtr> encode(const Start& start);
[[nodiscard]] Result<FramePtr> encode(const Job& job);
[[nodiscard]] Result<FramePtr> encode(const Next& next);
[[nodiscard]] Result<FramePtr> encode(const Events& events);
[[nodiscard]] Result<FramePtr> encode(const Status& status);

// Any bytes, of any alignment. Errors: FrameError.
[[nodiscard]] Result<Start> decode_start(std::span<const std::byte> bytes);
[[nodiscard]] Result<Job> decode_job(std::span<const std::byte> bytes);
[[nodiscard]] Result<Next> decode_next(std::span<const std::byte> bytes);
[[nodiscard]] Result<Events> decode_events(std::span<const std::byte> bytes);
[[nodiscard]] Result<Status> decode_status(std::span<const std::byte> bytes);

}  // namespace outlast::work
