#include <algorithm>

#include "apps/outlast-sim/render.hpp"
#include "core/json_writer.hpp"

namespace outlast::sim {
namespace {

void write_usage(JsonWriter& json, const SimUsage& usage, std::uint64_t output) {
  json.begin_object().key("input_tokens").number(usage.input);
  json.key("cache_creation_input_tokens").number(usage.cache_write_5m + usage.cache_write_1h);
  json.key("cache_read_input_tokens").number(usage.cache_read);
  json.key("cache_creation").begin_object();
  json.key("ephemeral_5m_input_tokens").number(usage.cache_write_5m);
  json.key("ephemeral_1h_input_tokens").number(usage.cache_write_1h).end_object();
  json.key("output_tokens").number(output).key("service_tier").string("standard").end_object();
}

std::string_view stop_reason(const SimChoice& choice) {
  if (!choice.tool_calls.empty()) return "tool_use";
  return choice.cut_by_length ? "max_tokens" : "end_turn";
}

std::string anthropic_whole(const SimAnswer& answer, const RenderOptions& options) {
  const SimChoice& choice = answer.choices.front();
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("id").string("msg_" + answer.id).key("type").string("message");
  json.key("role").string("assistant").key("model").string(answer.model);
  json.key("content").begin_array();
  if (!choice.words.empty()) {
    json.begin_object()
        .key("type")
        .string("text")
        .key("text")
        .string(joined(choice.words))
        .end_object();
  }
  for (const SimToolCall& call : choice.tool_calls) {
    json.begin_object().key("type").string("tool_use").key("id").string(call.id);
    json.key("name").string(call.name).key("input").raw(joined(call.fragments)).end_object();
  }
  json.end_array().key("stop_reason").string(stop_reason(choice)).key("stop_sequence").null();
  if (options.usage == UsageReport::exact) {
    json.key("usage");
    write_usage(json, answer.usage, answer.usage.output);
  }
  json.end_object();
  return out;
}

// One event; `data` is what follows the type inside the object.
template <class WriteRest>
std::string event(std::string_view type, const WriteRest& write_rest) {
  std::string out = "event: ";
  out.append(type).append("\ndata: ");
  JsonWriter json(out);
  json.begin_object().key("type").string(type);
  write_rest(json);
  json.end_object();
  out += "\n\n";
  return out;
}

std::string message_start(const SimAnswer& answer, const RenderOptions& options) {
  return event("message_start", [&answer, &options](JsonWriter& json) {
    json.key("message")
        .begin_object()
        .key("id")
        .string("msg_" + answer.id)
        .key("type")
        .string("message");
    json.key("role").string("assistant").key("model").string(answer.model);
    json.key("content")
        .begin_array()
        .end_array()
        .key("stop_reason")
        .null()
        .key("stop_sequence")
        .null();
    if (options.usage == UsageReport::exact) {
      json.key("usage");
      write_usage(json, answer.usage,
                  std::min<std::uint64_t>(answer.usage.output, 1));  // a placeholder
    }
    json.end_object();
  });
}

std::string delta(unsigned index, std::string_view type, std::string_view key,
                  std::string_view text) {
  return event("content_block_delta", [index, type, key, text](JsonWriter& json) {
    json.key("index").number(index).key("delta").begin_object().key("type").string(type);
    json.key(key).string(text).end_object();
  });
}

std::string block_stop(unsigned index) {
  return event("content_block_stop",
               [index](JsonWriter& json) { json.key("index").number(index); });
}

std::string ping() {
  return event("ping", [](JsonWriter&) {});
}

// Adds events that carry no tokens.
void append_plain(Rendered& rendered, std::string bytes) {
  rendered.pieces.push_back({std::move(bytes), rendered.tokens, false});
}

void append_content(Rendered& rendered, std::string bytes, std::uint64_t tokens) {
  rendered.pieces.push_back({std::move(bytes), rendered.tokens, true});
  rendered.tokens += tokens;
}

void append_text_block(Rendered& rendered, const SimChoice& choice, unsigned index,
                       std::uint64_t chunk_tokens) {
  append_plain(rendered, event("content_block_start", [index](JsonWriter& json) {
                           json.key("index")
                               .number(index)
                               .key("content_block")
                               .begin_object()
                               .key("type")
                               .string("text");
                           json.key("text").string("").end_object();
                         }) + ping());
  for (std::size_t at = 0; at < choice.words.size(); at += chunk_tokens) {
    const std::size_t end = std::min<std::size_t>(at + chunk_tokens, choice.words.size());
    std::string text;
    for (std::size_t i = at; i < end; ++i) text += choice.words[i];
    append_content(rendered, delta(index, "text_delta", "text", text), end - at);
  }
  append_plain(rendered, block_stop(index));
}

void append_tool_block(Rendered& rendered, const SimToolCall& call, unsigned index) {
  append_plain(rendered, event("content_block_start", [&call, index](JsonWriter& json) {
                 json.key("index")
                     .number(index)
                     .key("content_block")
                     .begin_object()
                     .key("type")
                     .string("tool_use");
                 json.key("id").string(call.id).key("name").string(call.name);
                 json.key("input").begin_object().end_object().end_object();
               }));
  append_plain(rendered, delta(index, "input_json_delta", "partial_json", ""));
  for (const std::string& fragment : call.fragments) {
    append_content(rendered, delta(index, "input_json_delta", "partial_json", fragment), 1);
  }
  append_plain(rendered, block_stop(index));
}

void render_stream(Rendered& rendered, const SimAnswer& answer, const RenderOptions& options) {
  const SimChoice& choice = answer.choices.front();
  append_plain(rendered, message_start(answer, options));
  unsigned index = 0;
  if (!choice.words.empty()) append_text_block(rendered, choice, index++, options.chunk_tokens);
  for (const SimToolCall& call : choice.tool_calls) append_tool_block(rendered, call, index++);
  append_plain(rendered, event("message_delta", [&answer, &choice, &options](JsonWriter& json) {
                 json.key("delta").begin_object().key("stop_reason").string(stop_reason(choice));
                 json.key("stop_sequence").null().end_object();
                 if (options.usage == UsageReport::exact) {
                   json.key("usage");
                   write_usage(json, answer.usage, answer.usage.output);
                 }
               }));
  append_plain(rendered, event("message_stop", [](JsonWriter&) {}));
}

}  // namespace

Rendered render_anthropic(const SimRequest& request, const SimAnswer& answer,
                          const RenderOptions& options) {
  Rendered rendered;
  if (request.stream) {
    render_stream(rendered, answer, options);
  } else {
    rendered.whole = anthropic_whole(answer, options);
    rendered.tokens = answer.usage.output;
  }
  return rendered;
}

std::string anthropic_error(const ApiError& error, std::string_view request_id) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("type").string("error").key("error").begin_object();
  json.key("type").string(error.type).key("message").string(error.message).end_object();
  json.key("request_id").string(request_id).end_object();
  return out;
}

std::string anthropic_error_event(const ApiError& error, std::string_view request_id) {
  return "event: error\ndata: " + anthropic_error(error, request_id) + "\n\n";
}

std::string anthropic_models(const std::vector<std::string>& models) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("data").begin_array();
  for (const std::string& model : models) {
    json.begin_object().key("type").string("model").key("id").string(model);
    json.key("display_name")
        .string(model)
        .key("created_at")
        .string("2025-10-09T08:53:20Z")
        .end_object();
  }
  json.end_array().key("has_more").boolean(false);
  json.key("first_id").string(models.front()).key("last_id").string(models.back()).end_object();
  return out;
}

}  // namespace outlast::sim
