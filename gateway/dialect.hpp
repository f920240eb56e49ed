// Dialects: how a provider speaks. An UpstreamRequest is written once per attempt from what the caller sent; an
// AnswerReader takes the upstream's bytes as they arrive and gives what the caller is to receive.
//
// Pairs of caller and upstream:
//   openai -> openai       bytes pass; the model is replaced, usage is asked for, read on the way, and stripped again
//   openai -> anthropic    translated by the typed request and the typed event stream (core/chat.hpp)
//   events -> either       the caller is a message (client actor) and takes typed events
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/chat.hpp"
#include "core/metering.hpp"
#include "core/result.hpp"
#include "core/usage.hpp"
#include "http/types.hpp"

namespace outlast::gateway {

enum class Dialect : std::uint8_t { openai = 0, anthropic = 1 };
std::optional<Dialect> parse_dialect(std::string_view name);
std::string_view name_of(Dialect dialect);

// What the caller takes. `openai_whole` is one JSON body, `openai_stream` server-sent events, `events` typed events.
enum class CallerForm : std::uint8_t { openai_whole = 0, openai_stream = 1, events = 2 };

// Append-only.
enum class DialectError : std::uint16_t {
  malformed_json = 1,     // not JSON, too deep, or a repeated key
  invalid_request = 2,    // JSON, but not a chat request; the message names the field
  unsupported = 3,        // legal, but the upstream's dialect has no word for it; the message names the field
  malformed_answer = 4,   // the upstream's bytes are not of its dialect, or in an illegal order
};

// Where a value stands in a body; empty when it is not there.
struct ByteRange {
  std::size_t begin = 0;
  std::size_t end = 0;
  [[nodiscard]] bool empty() const { return begin == end; }
};

// The few fields of a chat request that routing and metering need, and where those stand that an openai upstream gets
// with another value.
struct ChatHead {
  std::string model;
  bool stream = false;
  bool include_usage = false;                // stream_options.include_usage
  std::optional<std::uint64_t> max_tokens;   // the smaller of max_tokens and max_completion_tokens
  std::uint64_t choices = 1;                 // n
  std::size_t depth = 0;
  ByteRange model_value;
  ByteRange max_tokens_value;      // only where it is null
  ByteRange stream_options_value;
  ByteRange include_usage_value;   // inside stream_options
  ByteRange system_message;        // the first of role system or developer before the first user message
  ByteRange first_user_message;
};

// Reads ChatHeads. One per lane (holds the parser's buffers).
class ChatScanner {
 public:
  ChatScanner();
  ~ChatScanner();
  // `body` has http::body_padding_bytes of readable memory behind it. Refuses anything that is not one whole valid
  // JSON object, nesting beyond 128, repeated top-level keys (however escaped), and fields of wrong type.
  Result<ChatHead> scan(std::string_view body);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What the caller sent, in one of two forms; views outlive the attempt. `head` is the scanner's of `openai_body`; with
// `typed` it is not read.
struct CallerRequest {
  std::string_view openai_body;          // padded; empty when typed is set
  const chat::Request* typed = nullptr;
  ChatHead head;
};

// A body for an upstream: what we write, between parts of the caller's own bytes, which pass without being copied.
class UpstreamBody {
 public:
  void pass(std::string_view bytes);
  void write(std::string_view text);
  // What is written is all of it.
  explicit UpstreamBody(std::string written = {});
  // Views of this object and of what passes.
  [[nodiscard]] http::BodyPieces pieces() const;

 private:
  static constexpr std::size_t parts_max = http::BodyPieces::pieces_max / 2;
  struct Part {
    std::string_view passed;
    std::size_t written_end = 0;  // what is written after it ends here
  };
  std::string written_;
  std::array<Part, parts_max> parts_;
  std::size_t count_ = 0;
};

struct UpstreamRequest {
  std::string_view path;                       // "/chat/completions", "/messages": after the provider's base_url
  std::span<const http::HeaderField> headers;  // content-type, anthropic-version; not the credential
  UpstreamBody body;
};

// `model` is the deployment's. `output_tokens_max` is what was reserved for: it is sent where the dialect requires a
// bound and the caller gave none. A streamed request always asks for usage; a typed one is always streamed. The table
// of fields is docs/dialects.md.
Result<UpstreamRequest> write_upstream_request(Dialect dialect, const CallerRequest& request, std::string_view model,
                                               std::uint64_t output_tokens_max);

// The header that carries the provider's credential, for example {"authorization", "Bearer …"}. The value is a secret.
struct CredentialHeader {
  std::string_view name;
  std::string value;  // empty for none
};
CredentialHeader credential_header(Dialect dialect, std::string_view api_key);

// An upstream's failure by the error table of docs/routing.md. With status `credential`, neither `message` nor
// `caller_body` holds the provider's words: they may name keys and accounts.
struct UpstreamFailure {
  AttemptStatus status = AttemptStatus::overloaded;
  unsigned http_status = 0;               // 0 when no answer came; of an error inside a 200, the one it stands for
  std::string type;                       // as the provider named it
  std::string message;
  std::string code;
  std::optional<std::uint32_t> retry_after_ms;
  bool retry_same = false;                // whether one more try of the same deployment makes sense
  bool over_budget = false;               // no fault of the upstream's: a budget has no more for the rest of the stream
  // The provider's body in the caller's dialect: unmodified where the dialects agree. Empty when no answer came.
  std::string caller_body;
};

// Classifies an answer with a status other than 200. The last views are headers, "" when absent. `now_s` (Unix
// seconds; the system's clock when absent) is for a Retry-After that is a date.
UpstreamFailure read_failure(Dialect dialect, unsigned http_status, std::string_view body, std::string_view retry_after,
                             std::string_view retry_after_ms, std::string_view should_retry,
                             std::optional<std::int64_t> now_s = std::nullopt);

struct AnswerStep {
  std::string_view bytes;                     // for the caller, valid until the next call (openai forms)
  std::span<const chat::Event> events;        // for the caller, valid until the next call (events form)
  bool content = false;                       // content has been seen, now or before: hold-back may end
  bool done = false;                          // the answer is complete
  std::optional<UpstreamFailure> failure;     // an error inside a 200
};

// Reads one answer of status 200. One per attempt. It holds back by itself: no bytes and no events come before the
// first that carries content. After a failure, an error or `done`, nothing more is to be fed.
class AnswerReader {
 public:
  virtual ~AnswerReader() = default;
  // Bytes as they arrive.
  virtual Result<AnswerStep> feed(std::string_view bytes) = 0;
  // The body ended cleanly. An answer that is not complete by then is an error.
  virtual Result<AnswerStep> finish() = 0;
  // So far; `absent` when the upstream has not reported any. `estimated` when it has reported the input only (anthropic
  // before its message_delta): the output is then counted from the content.
  [[nodiscard]] virtual const Usage& usage() const = 0;
  // How the upstream says that it bills the answer; what it has not said is empty.
  [[nodiscard]] virtual const BillingTerms& terms() const = 0;
  // UTF-8 bytes of content so far, for an estimate when no usage comes.
  [[nodiscard]] virtual std::uint64_t content_bytes() const = 0;
  // Whether the answer is inside a tool call, where a continuation elsewhere is forbidden.
  [[nodiscard]] virtual bool inside_tool_call() const = 0;
};

// `request_id` names the answer where the caller's dialect needs an id of ours; `created_s` its time in Unix seconds;
// `caller_model` is what the caller asked for. The views outlive the reader.
struct AnswerContext {
  CallerForm form = CallerForm::openai_whole;
  bool include_usage = false;
  std::string_view request_id;
  std::int64_t created_s = 0;
  std::string_view caller_model;
};
std::unique_ptr<AnswerReader> make_answer_reader(Dialect upstream, AnswerContext context);

// An error body of OpenAI's shape: {"error": {"message", "type", "param", "code"}}. Empty param or code become null.
std::string openai_error_body(std::string_view message, std::string_view type, std::string_view code,
                              std::string_view param = {});
// The same as a server-sent event, for a failure after the first content.
std::string openai_error_event(std::string_view message, std::string_view type, std::string_view code);

}  // namespace outlast::gateway

namespace outlast {
template <>
inline constexpr std::string_view error_module<gateway::DialectError> = "dialect";
}  // namespace outlast
