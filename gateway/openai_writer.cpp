#include "gateway/openai_writer.hpp"

#include "core/json_writer.hpp"
#include "gateway/openai_chunk.hpp"
#include "gateway/usage_reader.hpp"

namespace outlast::gateway {
namespace {

void write_identity(JsonWriter& json, std::string_view request_id, std::string_view object,
                    std::int64_t created_s, std::string_view model) {
  json.key("id").string(std::string("chatcmpl-").append(request_id));
  json.key("object").string(object);
  json.key("created").number(created_s);
  json.key("model").string(model);
}

}  // namespace

OpenaiStreamWriter::OpenaiStreamWriter(const AnswerContext& context)
    : include_usage_(context.include_usage),
      caller_model_(context.caller_model),
      request_id_(context.request_id),
      created_s_(context.created_s) {}

Result<void> OpenaiStreamWriter::write(const chat::Event& event, std::string& out) {
  if (auto legal = order_.accept(event); !legal) return legal;
  if (const auto* start = std::get_if<chat::Start>(&event)) {
    head_ = "data: ";
    JsonWriter json(head_);
    json.begin_object();
    write_identity(json, request_id_, "chat.completion.chunk", created_s_,
                   start->model.empty() ? caller_model_ : start->model);
    json.key("choices");
  }
  if (const auto* finish = std::get_if<chat::Finish>(&event)) write_finish(*finish, out);
  else write_delta(event, out);
  return {};
}

void OpenaiStreamWriter::begin_chunk(std::string& out) const { out += head_; }

void OpenaiStreamWriter::end_chunk(std::string& out) const {
  out += include_usage_ ? R"(,"usage":null})" : "}";
  out += "\n\n";
}

void OpenaiStreamWriter::write_delta(const chat::Event& event, std::string& out) const {
  begin_chunk(out);
  JsonWriter json(out);
  json.begin_array().begin_object().key("index").number(0).key("delta").begin_object();
  if (std::holds_alternative<chat::Start>(event)) {
    json.key("role").string("assistant").key("content").string("");
  } else if (const auto* text = std::get_if<chat::TextDelta>(&event)) {
    json.key("content").string(text->text);
  } else if (const auto* reasoning = std::get_if<chat::ReasoningDelta>(&event)) {
    json.key("reasoning_content").string(reasoning->text);
  } else if (const auto* call = std::get_if<chat::ToolCallStart>(&event)) {
    json.key("tool_calls").begin_array().begin_object();
    json.key("index").number(call->index).key("id").string(call->id).key("type").string("function");
    json.key("function")
        .begin_object()
        .key("name")
        .string(call->name)
        .key("arguments")
        .string("")
        .end_object();
    json.end_object().end_array();
  } else if (const auto* fragment = std::get_if<chat::ToolCallDelta>(&event)) {
    json.key("tool_calls").begin_array().begin_object().key("index").number(fragment->index);
    json.key("function").begin_object().key("arguments").string(fragment->arguments).end_object();
    json.end_object().end_array();
  }
  json.end_object().key("logprobs").null().key("finish_reason").null().end_object().end_array();
  end_chunk(out);
}

void OpenaiStreamWriter::write_finish(const chat::Finish& finish, std::string& out) const {
  begin_chunk(out);
  {
    JsonWriter json(out);
    json.begin_array()
        .begin_object()
        .key("index")
        .number(0)
        .key("delta")
        .begin_object()
        .end_object();
    json.key("logprobs").null().key("finish_reason").string(finish_reason_name(finish.reason));
    json.end_object().end_array();
  }
  end_chunk(out);
  if (include_usage_ && finish.usage.source != UsageSource::absent) {
    begin_chunk(out);
    out += R"([],"usage":)";
    JsonWriter json(out);
    write_openai_usage(json, finish.usage);
    out += "}\n\n";
  }
  out += "data: [DONE]\n\n";
}

std::string write_openai_response(const chat::Response& response, const AnswerContext& context) {
  std::string body;
  JsonWriter json(body);
  json.begin_object();
  write_identity(json, context.request_id, "chat.completion", context.created_s,
                 response.model.empty() ? context.caller_model : response.model);
  json.key("choices").begin_array().begin_object().key("index").number(0);
  json.key("message").begin_object().key("role").string("assistant");
  json.key("content");
  if (response.text.empty() && !response.tool_calls.empty()) json.null();
  else json.string(response.text);
  json.key("refusal").null();
  if (!response.reasoning.empty()) json.key("reasoning_content").string(response.reasoning);
  if (!response.tool_calls.empty()) {
    json.key("tool_calls").begin_array();
    for (const auto& call : response.tool_calls) {
      json.begin_object().key("id").string(call.id).key("type").string("function");
      json.key("function").begin_object().key("name").string(call.name);
      json.key("arguments").string(call.arguments).end_object().end_object();
    }
    json.end_array();
  }
  json.end_object().key("logprobs").null();
  json.key("finish_reason").string(finish_reason_name(response.reason)).end_object().end_array();
  if (response.usage.source != UsageSource::absent) {
    json.key("usage");
    write_openai_usage(json, response.usage);
  }
  json.end_object();
  return body;
}

}  // namespace outlast::gateway
