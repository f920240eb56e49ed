"""The official packages straight against the simulator. The node has no /v1/messages front yet, so for Anthropic this
shows that what the node speaks to in every other test speaks the dialect that the vendor's own package expects."""

import json

import anthropic
import openai
import pytest

QUESTION = [{"role": "user", "content": "What is the river's promise?"}]
TOOL_QUESTION = [{"role": "user", "content": "Use the weather tool."}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
OPENAI_TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
ANTHROPIC_TOOL = {"name": "weather", "description": "The weather", "input_schema": SCHEMA}


@pytest.fixture
def claude(anthropic_sim):
    with anthropic.Anthropic(base_url=f"http://{anthropic_sim.http}", api_key="sk-any") as client:
        yield client


@pytest.fixture
def gpt(openai_sim):
    with openai.OpenAI(base_url=f"http://{openai_sim.http}/v1", api_key="sk-any") as client:
        yield client


def test_anthropic_plain(claude):
    message = claude.messages.create(model="sim-model", max_tokens=100, messages=QUESTION)
    assert message.stop_reason == "end_turn" and len(message.content[0].text.split()) == 32
    assert (message.usage.input_tokens, message.usage.output_tokens) == (5, 32)


def test_anthropic_stream(claude):
    with claude.messages.stream(model="sim-model", max_tokens=100, messages=QUESTION) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[0].text == text and final.usage.output_tokens == 32


def test_anthropic_tools(claude):
    with claude.messages.stream(
        model="sim-model", max_tokens=100, messages=TOOL_QUESTION, tools=[ANTHROPIC_TOOL]
    ) as stream:
        streamed = stream.get_final_message()
    message = claude.messages.create(model="sim-model", max_tokens=100, messages=TOOL_QUESTION, tools=[ANTHROPIC_TOOL])
    assert message.stop_reason == streamed.stop_reason == "tool_use"
    use = message.content[-1]
    assert use.name == "weather" and use.input == streamed.content[-1].input and "city" in use.input
    follow_up = claude.messages.create(
        model="sim-model", max_tokens=100, tools=[ANTHROPIC_TOOL],
        messages=[
            *TOOL_QUESTION,
            {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}]},
        ],
    )
    assert follow_up.stop_reason == "end_turn"


def test_anthropic_cache_buckets(claude):
    system = [{"type": "text", "text": "a b c d", "cache_control": {"type": "ephemeral"}}]
    usage = claude.messages.create(model="sim-model", max_tokens=9, system=system, messages=QUESTION).usage
    assert usage.cache_creation_input_tokens == 4 and usage.input_tokens == 5


def test_anthropic_errors(claude, anthropic_sim):
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="unknown", max_tokens=9, messages=QUESTION)
    anthropic_sim.faults({"kind": "status", "status": 529, "count": 1})
    with pytest.raises(anthropic.APIStatusError) as error:
        claude.with_options(max_retries=0).messages.create(model="sim-model", max_tokens=9, messages=QUESTION)
    assert error.value.status_code == 529 and error.value.body["error"]["type"] == "overloaded_error"
    anthropic_sim.faults({"kind": "status", "status": 429, "count": 1, "retry_after_s": 0})
    assert claude.messages.create(model="sim-model", max_tokens=9, messages=QUESTION).content
    anthropic_sim.faults({"kind": "error_first_event", "count": 1})
    with pytest.raises(anthropic.APIStatusError):
        with claude.messages.stream(model="sim-model", max_tokens=9, messages=QUESTION) as stream:
            stream.get_final_message()


def test_anthropic_models(claude):
    assert [model.id for model in claude.models.list()] == ["sim-model"]


def test_openai_plain_stream_and_tools(gpt):
    whole = gpt.chat.completions.create(model="sim-model", messages=QUESTION).choices[0].message.content
    chunks = list(gpt.chat.completions.create(model="sim-model", messages=QUESTION, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    answer = gpt.chat.completions.create(model="sim-model", messages=TOOL_QUESTION, tools=[OPENAI_TOOL])
    assert "city" in json.loads(answer.choices[0].message.tool_calls[0].function.arguments)


def test_openai_errors(gpt, openai_sim):
    with pytest.raises(openai.NotFoundError):
        gpt.chat.completions.create(model="unknown", messages=QUESTION)
    openai_sim.faults({"kind": "status", "status": 500, "count": 1})
    assert gpt.chat.completions.create(model="sim-model", messages=QUESTION).choices
