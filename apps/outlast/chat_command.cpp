// outlast chat: a conversation, or one question, with a route of the node.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/front_api.hpp"
#include "apps/outlast/terminal.hpp"
#include "core/json_writer.hpp"
#include "http/sse.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t prompt_bytes_max = 16 * 1024 * 1024;

struct ChatOptions {
  std::string url;
  std::string key_file;
  std::string route;
  std::string system;
  std::uint64_t max_tokens = 0;  // 0: the node's default
  std::vector<std::string> words;
};

struct ChatMessage {
  std::string role;
  std::string content;
};

struct ChatAnswer {
  std::string text;
  std::string model;
  std::string deployment;
  std::string request_id;
  std::string attempts;
  std::string finish_reason;
  Json usage;
  bool done = false;
  std::string error;  // of an error event
};

std::string request_body(const ChatOptions& options, const std::vector<ChatMessage>& messages) {
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("model").string(options.route).key("messages").begin_array();
  for (const ChatMessage& message : messages) {
    json.begin_object()
        .key("role")
        .string(message.role)
        .key("content")
        .string(message.content)
        .end_object();
  }
  json.end_array().key("stream").boolean(true);
  json.key("stream_options").begin_object().key("include_usage").boolean(true).end_object();
  if (options.max_tokens > 0) json.key("max_tokens").number(options.max_tokens);
  json.end_object();
  return body;
}

// Takes one event of the stream into the answer; text is shown at once unless JSON is wanted.
void take_event(std::string_view data, bool show, ChatAnswer& answer) {
  if (data == "[DONE]") {
    answer.done = true;
    return;
  }
  const Json event = Json::parse(data, nullptr, false);
  if (const Json& error = member_of(event, "error"); !error.is_null()) {
    answer.error = printable(error.is_object() ? text_of(error, "message") : plain_text(error));
    return;
  }
  if (answer.model.empty()) answer.model = text_of(event, "model");
  if (const Json& usage = member_of(event, "usage"); usage.is_object()) answer.usage = usage;
  for (const Json& choice : member_of(event, "choices")) {
    const std::string text = text_of(member_of(choice, "delta"), "content");
    answer.text += text;
    if (show) print(stdout_is_terminal() ? printable(text, true) : text);
    if (const std::string reason = text_of(choice, "finish_reason"); !reason.empty())
      answer.finish_reason = reason;
  }
}

Result<ChatAnswer> ask(FrontApi& front, const ChatOptions& options,
                       const std::vector<ChatMessage>& messages, bool show) {
  ChatAnswer answer;
  http::SseReader reader;
  std::string broken;
  const BodySink sink = [&answer, &reader, &broken, show](std::string_view bytes) {
    if (const auto fed = reader.feed(bytes); !fed) {
      broken = fed.error().message;
      return false;
    }
    http::SseEvent event;
    while (reader.next(event)) take_event(event.data, show, answer);
    return answer.error.empty();
  };
  const auto head =
      front.call("POST", "/v1/chat/completions", request_body(options, messages),
                 {"x-outlast-deployment", "x-outlast-request-id", "x-outlast-attempts"}, sink);
  if (show && !answer.text.empty() && !answer.text.ends_with('\n')) print("\n");
  if (!head) {
    if (answer.text.empty()) return fail(head.error());
    return fail(CliError::failed, "the answer was cut: " + head.error().message);
  }
  if (!broken.empty()) return fail(CliError::failed, "the node's stream cannot be read: " + broken);
  if (!answer.error.empty()) return fail(CliError::failed, answer.error);
  if (!answer.done) return fail(CliError::failed, "the answer ended early; ask again");
  answer.deployment = head->headers[0];
  answer.request_id = head->headers[1];
  answer.attempts = head->headers[2];
  return answer;
}

// "fable-alpha · 12 tokens in, 40 out · US$ 0.000123 · 2 attempts".
std::string summary_of(const ChatAnswer& answer) {
  std::string line = answer.deployment.empty() ? answer.model : answer.deployment;
  if (answer.usage.is_object()) {
    line += " · " + std::to_string(count_of(answer.usage, "prompt_tokens")) + " tokens in, " +
            std::to_string(count_of(answer.usage, "completion_tokens")) + " out";
    if (const std::string cost = text_of(answer.usage, "cost_usd"); !cost.empty())
      line += " · US$ " + cost;
  }
  if (!answer.attempts.empty() && answer.attempts != "1")
    line += " · " + answer.attempts + " attempts";
  if (answer.finish_reason == "length") line += " · cut at the token limit";
  return printable(line);
}

void print_json(const ChatAnswer& answer) {
  std::string line;
  JsonWriter json(line);
  json.begin_object().key("text").string(answer.text).key("model").string(answer.model);
  json.key("deployment").string(answer.deployment).key("request_id").string(answer.request_id);
  json.key("attempts").number(std::uint64_t{std::strtoull(answer.attempts.c_str(), nullptr, 10)});
  json.key("finish_reason").string(answer.finish_reason);
  json.key("usage")
      .raw(answer.usage.dump(-1, ' ', false, Json::error_handler_t::replace))
      .end_object();
  print(line + "\n");
}

// A pipe or a file on stdin is part of the question; a terminal or /dev/null is not.
bool stdin_is_piped() {
  struct stat status {};
  return fstat(STDIN_FILENO, &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISREG(status.st_mode));
}

Result<std::string> read_stdin() {
  std::string text;
  char block[65'536];
  while (std::cin.read(block, sizeof(block)) || std::cin.gcount() > 0) {
    text.append(block, static_cast<std::size_t>(std::cin.gcount()));
    if (text.size() > prompt_bytes_max) {
      return fail(CliError::failed, "stdin holds more than " + std::to_string(prompt_bytes_max) +
                                        " bytes; ask with less");
    }
  }
  return text;
}

Result<void> ask_once(FrontApi& front, const GlobalOptions& global, const ChatOptions& options,
                      std::vector<ChatMessage> messages) {
  std::string prompt;
  for (const std::string& word : options.words) prompt += (prompt.empty() ? "" : " ") + word;
  if (stdin_is_piped()) {
    const auto piped = read_stdin();
    if (!piped) return fail(piped.error());
    if (!prompt.empty() && !piped->empty()) prompt += "\n\n";
    prompt += *piped;
  }
  if (prompt.empty()) {
    return fail(CliError::usage,
                "there is nothing to ask; give a prompt, pipe one in, or start it on a terminal");
  }
  messages.push_back({"user", prompt});
  const auto answer = ask(front, options, messages, !global.json);
  if (!answer) return fail(answer.error());
  if (global.json) {
    print_json(*answer);
  } else if (stdout_is_terminal()) {
    print(dim(summary_of(*answer)) + "\n");
  }
  return {};
}

Result<void> converse(FrontApi& front, const ChatOptions& options,
                      std::vector<ChatMessage> messages) {
  print(dim("talking to " + printable(options.route) + "; an empty line or Ctrl-D ends") + "\n");
  std::string line;
  while (true) {
    print(bold("> "));
    if (!std::getline(std::cin, line) || line.empty()) break;
    messages.push_back({"user", line});
    const auto answer = ask(front, options, messages, true);
    if (!answer) {
      std::cerr << "outlast: " << answer.error().message << "\n";
      messages.pop_back();
      continue;
    }
    messages.push_back({"assistant", answer->text});
    print(dim(summary_of(*answer)) + "\n");
  }
  return {};
}

Result<void> chat(const GlobalOptions& global, ChatOptions options) {
  auto front = FrontApi::find(global, options.url, options.key_file);
  if (!front) return fail(front.error());
  if (options.route.empty()) {
    const auto models = front->models();
    if (!models) return fail(models.error());
    const Json& list = member_of(*models, "data");
    if (!list.is_array() || list.empty()) {
      return fail(CliError::not_found,
                  "the node has no routes; add [[route]] to its configuration");
    }
    options.route = text_of(list.front(), "id");
  }
  std::vector<ChatMessage> messages;
  if (!options.system.empty()) messages.push_back({"system", options.system});
  const bool interactive = options.words.empty() && !global.json && isatty(STDIN_FILENO) == 1;
  return interactive ? converse(*front, options, std::move(messages))
                     : ask_once(*front, global, options, std::move(messages));
}

}  // namespace

void add_chat_command(CommandLine& line) {
  auto options = std::make_shared<ChatOptions>();
  CLI::App* command =
      line.add_command(line.app, "chat", "asks a route and shows the answer as it comes",
                       [&line, options] { return chat(line.options, *options); });
  command->add_option("-m,--model", options->route, "a route or model; the node's first without it")
      ->type_name("ROUTE");
  command->add_option("--system", options->system, "what the model is told before the conversation")
      ->type_name("TEXT");
  command->add_option("--max-tokens", options->max_tokens, "longest answer")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("prompt", options->words,
                   "the question; a pipe on stdin is added to it; without either, a conversation")
      ->type_name("WORDS");
  add_front_options(*command, options->url, options->key_file);
}

}  // namespace outlast::apps
