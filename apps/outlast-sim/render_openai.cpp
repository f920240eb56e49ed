#include <algorithm>
#include <functional>

#include "apps/outlast-sim/render.hpp"
#include "core/json_writer.hpp"

namespace outlast::sim {
namespace {

// Answers follow from requests alone, so their time is a constant.
constexpr std::int64_t created_s = 1'760'000'000;

void write_usage(JsonWriter& json, const SimUsage& usage) {
  const std::uint64_t input =
      usage.input + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h;
  json.begin_object();
  json.key("prompt_tokens").number(input).key("completion_tokens").number(usage.output);
  json.key("total_tokens").number(input + usage.output);
  json.key("prompt_tokens_details").begin_object();
  json.key("cached_tokens").number(usage.cache_read).key("audio_tokens").number(0).end_object();
  json.key("completion_tokens_details").begin_object();
  json.key("reasoning_tokens").number(0).key("audio_tokens").number(0);
  json.key("accepted_prediction_tokens")
      .number(0)
      .key("rejected_prediction_tokens")
      .number(0)
      .end_object();
  json.end_object();
}

std::string_view finish_reason(const SimChoice& choice) {
  if (!choice.tool_calls.empty()) return "tool_calls";
  return choice.cut_by_length ? "length" : "stop";
}

void write_head(JsonWriter& json, const SimAnswer& answer, std::string_view object) {
  json.key("id").string("chatcmpl-" + answer.id).key("object").string(object);
  json.key("created").number(created_s).key("model").string(answer.model);
}

void write_message(JsonWriter& json, const SimChoice& choice) {
  json.begin_object().key("role").string("assistant").key("content");
  if (choice.tool_calls.empty()) {
    json.string(joined(choice.words));
  } else {
    json.null();
    json.key("tool_calls").begin_array();
    for (const SimToolCall& call : choice.tool_calls) {
      json.begin_object().key("id").string(call.id).key("type").string("function");
      json.key("function").begin_object().key("name").string(call.name);
      json.key("arguments").string(joined(call.fragments)).end_object().end_object();
    }
    json.end_array();
  }
  json.key("refusal").null().key("annotations").begin_array().end_array().end_object();
}

std::string openai_whole(const SimAnswer& answer, const RenderOptions& options) {
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  write_head(json, answer, "chat.completion");
  json.key("choices").begin_array();
  unsigned index = 0;
  for (const SimChoice& choice : answer.choices) {
    json.begin_object().key("index").number(index++).key("message");
    write_message(json, choice);
    json.key("logprobs").null().key("finish_reason").string(finish_reason(choice)).end_object();
  }
  json.end_array();
  if (options.usage == UsageReport::exact) {
    json.key("usage");
    write_usage(json, answer.usage);
  }
  json.key("service_tier").string("default").key("system_fingerprint").string("fp_simulator");
  json.end_object();
  return out;
}

// Writes one chunk; `delta` fills the delta object.
std::string chunk(const SimAnswer& answer, bool usage_null, unsigned index,
                  const std::function<void(JsonWriter&)>& delta, std::string_view finish = {}) {
  std::string out = "data: ";
  JsonWriter json(out);
  json.begin_object();
  write_head(json, answer, "chat.completion.chunk");
  json.key("service_tier").string("default").key("system_fingerprint").string("fp_simulator");
  json.key("choices").begin_array().begin_object().key("index").number(index);
  json.key("delta").begin_object();
  delta(json);
  json.end_object().key("logprobs").null().key("finish_reason");
  finish.empty() ? json.null() : json.string(finish);
  json.end_object().end_array();
  if (usage_null) json.key("usage").null();
  json.end_object();
  out += "\n\n";
  return out;
}

// The deltas of one choice, in order, with how many tokens each holds.
struct Delta {
  std::function<void(JsonWriter&)> write;
  std::uint64_t tokens = 0;
};

void append_text_deltas(std::vector<Delta>& deltas, const SimChoice& choice,
                        std::uint64_t chunk_tokens) {
  for (std::size_t at = 0; at < choice.words.size(); at += chunk_tokens) {
    const std::size_t end = std::min<std::size_t>(at + chunk_tokens, choice.words.size());
    std::string text;
    for (std::size_t i = at; i < end; ++i) text += choice.words[i];
    deltas.push_back({[text](JsonWriter& json) { json.key("content").string(text); }, end - at});
  }
}

void append_tool_deltas(std::vector<Delta>& deltas, const SimToolCall& call, unsigned index) {
  deltas.push_back({[&call, index](JsonWriter& json) {
    json.key("tool_calls").begin_array().begin_object().key("index").number(index);
    json.key("id").string(call.id).key("type").string("function").key("function").begin_object();
    json.key("name")
        .string(call.name)
        .key("arguments")
        .string("")
        .end_object()
        .end_object()
        .end_array();
  }});
  for (const std::string& fragment : call.fragments) {
    deltas.push_back(
        {[&fragment, index](JsonWriter& json) {
           json.key("tool_calls").begin_array().begin_object().key("index").number(index);
           json.key("function").begin_object().key("arguments").string(fragment).end_object();
           json.end_object().end_array();
         },
         1});
  }
}

std::vector<Delta> deltas_of(const SimChoice& choice, std::uint64_t chunk_tokens) {
  std::vector<Delta> deltas;
  append_text_deltas(deltas, choice, chunk_tokens);
  unsigned index = 0;
  for (const SimToolCall& call : choice.tool_calls) append_tool_deltas(deltas, call, index++);
  return deltas;
}

void append_usage_chunk(Rendered& rendered, const SimAnswer& answer) {
  std::string out = "data: ";
  JsonWriter json(out);
  json.begin_object();
  write_head(json, answer, "chat.completion.chunk");
  json.key("service_tier").string("default").key("system_fingerprint").string("fp_simulator");
  json.key("choices").begin_array().end_array().key("usage");
  write_usage(json, answer.usage);
  json.end_object();
  out += "\n\n";
  rendered.pieces.push_back({out, rendered.tokens, false});
}

void render_stream(Rendered& rendered, const SimRequest& request, const SimAnswer& answer,
                   const RenderOptions& options) {
  const bool with_usage = request.include_usage && options.usage == UsageReport::exact;
  std::vector<std::vector<Delta>> choices;
  std::size_t longest = 0;
  for (unsigned i = 0; i < answer.choices.size(); ++i) {
    choices.push_back(deltas_of(answer.choices[i], options.chunk_tokens));
    longest = std::max(longest, choices.back().size());
    const bool tools = !answer.choices[i].tool_calls.empty();
    const auto role = [tools](JsonWriter& json) {
      json.key("role").string("assistant").key("content");
      tools ? json.null() : json.string("");
      json.key("refusal").null();
    };
    rendered.pieces.push_back({chunk(answer, request.include_usage, i, role), 0, false});
  }
  for (std::size_t step = 0; step < longest; ++step) {  // choices interleave
    for (unsigned i = 0; i < choices.size(); ++i) {
      if (step >= choices[i].size()) continue;
      const Delta& delta = choices[i][step];
      rendered.pieces.push_back(
          {chunk(answer, request.include_usage, i, delta.write), rendered.tokens, true});
      rendered.tokens += delta.tokens;
    }
  }
  for (unsigned i = 0; i < choices.size(); ++i) {
    const auto nothing = [](JsonWriter&) {};
    rendered.pieces.push_back(
        {chunk(answer, request.include_usage, i, nothing, finish_reason(answer.choices[i])),
         rendered.tokens, false});
  }
  if (with_usage) append_usage_chunk(rendered, answer);
  rendered.pieces.push_back({"data: [DONE]\n\n", rendered.tokens, false});
}

void append_optional(JsonWriter& json, std::string_view key, std::string_view value) {
  json.key(key);
  value.empty() ? json.null() : json.string(value);
}

}  // namespace

Rendered render_openai(const SimRequest& request, const SimAnswer& answer,
                       const RenderOptions& options) {
  Rendered rendered;
  if (request.stream) {
    render_stream(rendered, request, answer, options);
  } else {
    rendered.whole = openai_whole(answer, options);
    rendered.tokens = answer.usage.output;
  }
  return rendered;
}

std::string openai_error(const ApiError& error) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("error").begin_object().key("message").string(error.message);
  json.key("type").string(error.type);
  append_optional(json, "param", error.param);
  append_optional(json, "code", error.code);
  json.end_object().end_object();
  return out;
}

std::string openai_error_event(const ApiError& error) {
  return "data: " + openai_error(error) + "\n\n";
}

std::string openai_models(const std::vector<std::string>& models) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("object").string("list").key("data").begin_array();
  for (const std::string& model : models) {
    json.begin_object().key("id").string(model).key("object").string("model");
    json.key("created").number(created_s).key("owned_by").string("outlast-sim").end_object();
  }
  json.end_array().end_object();
  return out;
}

}  // namespace outlast::sim
