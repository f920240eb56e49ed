"""The official openai package, unchanged, against the node with upstreams of both dialects."""

import asyncio
import json

import openai
import pytest

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTION = [{"role": "user", "content": "What is the river's promise?"}]
TOOL_QUESTION = [{"role": "user", "content": "Use the weather tool."}]


@pytest.fixture
def client(node):
    with openai.OpenAI(base_url=f"http://{node.http}/v1", api_key=node.key) as client:
        yield client


def test_a_plain_answer(client, upstream):
    answer = client.chat.completions.create(model="smart", messages=QUESTION)
    choice = answer.choices[0]
    assert choice.finish_reason == "stop" and choice.message.role == "assistant"
    assert len(choice.message.content.split()) == 32
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 32)
    assert answer.object == "chat.completion" and answer.id and answer.created > 0


def test_headers_of_the_raw_answer(client):
    raw = client.chat.completions.with_raw_response.create(model="smart", messages=QUESTION)
    assert raw.headers["x-outlast-request-id"] and raw.headers["x-outlast-deployment"]
    assert raw.headers["x-outlast-attempts"] == "1"
    assert raw.parse().choices[0].message.content


def test_a_stream_gives_the_same_text(client):
    whole = client.chat.completions.create(model="smart", messages=QUESTION).choices[0].message.content
    pieces, ids, reasons = [], set(), []
    for chunk in client.chat.completions.create(model="smart", messages=QUESTION, stream=True):
        ids.add(chunk.id)
        assert chunk.usage is None
        pieces.append(chunk.choices[0].delta.content or "")
        reasons.append(chunk.choices[0].finish_reason)
    assert "".join(pieces) == whole
    assert len(ids) == 1 and [reason for reason in reasons if reason] == ["stop"]


def test_a_stream_with_usage(client):
    stream = client.chat.completions.create(
        model="smart", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 32
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_tool_call_and_its_result(client):
    answer = client.chat.completions.create(model="smart", messages=TOOL_QUESTION, tools=[WEATHER])
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    call = message.tool_calls[0]
    assert call.function.name == "weather" and "city" in json.loads(call.function.arguments)
    follow_up = client.chat.completions.create(
        model="smart",
        tools=[WEATHER],
        messages=[
            *TOOL_QUESTION,
            message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 degrees"},
        ],
    )
    assert follow_up.choices[0].finish_reason == "stop" and follow_up.choices[0].message.content


def test_a_streamed_tool_call(client):
    stream = client.chat.completions.create(model="smart", messages=TOOL_QUESTION, tools=[WEATHER], stream=True)
    arguments, names, ids, reason = "", [], [], None
    for chunk in stream:
        choice = chunk.choices[0]
        reason = choice.finish_reason or reason
        for call in choice.delta.tool_calls or []:
            assert call.index == 0
            ids += [call.id] if call.id else []
            names += [call.function.name] if call.function.name else []
            arguments += call.function.arguments or ""
    assert names == ["weather"] and len(ids) == 1 and reason == "tool_calls"
    assert "city" in json.loads(arguments)


def test_parallel_tool_calls(client):
    time_tool = json.loads(json.dumps(WEATHER).replace("weather", "clock"))
    messages = [{"role": "user", "content": "Use every tool."}]
    answer = client.chat.completions.create(model="smart", messages=messages, tools=[WEATHER, time_tool])
    calls = answer.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "clock"]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in calls]
    message = answer.choices[0].message.model_dump(exclude_none=True)
    follow_up = client.chat.completions.create(
        model="smart", messages=[*messages, message, *results], tools=[WEATHER, time_tool]
    )
    assert follow_up.choices[0].message.content


def test_a_forced_tool(client):
    answer = client.chat.completions.create(
        model="smart", messages=QUESTION, tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )
    assert answer.choices[0].message.tool_calls[0].function.name == "weather"


def test_system_messages_images_and_limits(client):
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    answer = client.chat.completions.create(
        model="smart",
        max_tokens=7,
        temperature=0.5,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64," + pixel}},
            ]},
        ],
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 7
    assert answer.usage.prompt_tokens == 2 + 3 + 85


def test_models(client):
    assert "smart" in {model.id for model in client.models.list()}
    assert client.models.retrieve("smart").id == "smart"


def test_a_wrong_key(node):
    with openai.OpenAI(base_url=f"http://{node.http}/v1", api_key="ol_wrong") as client:
        with pytest.raises(openai.AuthenticationError) as error:
            client.chat.completions.create(model="smart", messages=QUESTION)
    assert error.value.code == "invalid_api_key"


def test_an_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="nobody-knows-it", messages=QUESTION)
    assert error.value.code == "model_not_found"


def test_a_bad_request(client):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="smart", messages=QUESTION, max_tokens=-3)


def test_the_sdk_does_not_multiply_an_exhausted_failover(client, upstream):
    upstream.faults({"kind": "status", "status": 503})
    with pytest.raises(openai.InternalServerError) as error:
        client.chat.completions.create(model="smart", messages=QUESTION)
    assert error.value.response.headers["x-should-retry"] == "false"
    assert upstream.stats()["requests"] <= 2  # the node's own one retry, none by the SDK


def test_a_rate_limit(client, upstream):
    upstream.faults({"kind": "status", "status": 429, "retry_after_s": 30})
    with pytest.raises(openai.RateLimitError) as error:
        client.chat.completions.create(model="smart", messages=QUESTION)
    assert int(error.value.response.headers["retry-after"]) >= 1


def test_a_fault_that_passes_is_not_seen(client, upstream):
    upstream.faults({"kind": "error_first_event", "count": 1})
    chunks = list(client.chat.completions.create(model="smart", messages=QUESTION, stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_an_error_in_mid_stream_is_raised(client, upstream):
    upstream.faults({"kind": "cut", "after_tokens": 4})
    seen = ""
    with pytest.raises(openai.APIError):
        for chunk in client.chat.completions.create(model="smart", messages=QUESTION, stream=True):
            seen += chunk.choices[0].delta.content or ""
    assert len(seen.split()) == 4


def test_the_callers_timeout(node, upstream):
    upstream.faults({"kind": "slow", "first_token_ms": 400, "tokens_per_s": 1})
    with openai.OpenAI(base_url=f"http://{node.http}/v1", api_key=node.key, timeout=0.2, max_retries=0) as client:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="smart", messages=QUESTION)


def test_the_sdks_own_retry_after_a_dropped_connection(node):
    with openai.OpenAI(base_url=f"http://{node.http}/v1", api_key=node.key, max_retries=5) as client:
        assert client.chat.completions.create(model="smart", messages=QUESTION).choices
        address = node.http
        node.stop()
        # The same port, so that the client's kept connection is dead and its retry finds the new daemon.
        text = node.config_path.read_text().replace('listen = "127.0.0.1:0"', f'listen = "{address}"', 1)
        node.config_path.write_text(text)
        node.start()
        assert client.chat.completions.create(model="smart", messages=QUESTION).choices


def test_many_at_once(node):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"http://{node.http}/v1", api_key=node.key) as client:
            questions = [
                client.chat.completions.create(model="smart", messages=[{"role": "user", "content": f"number {i}"}])
                for i in range(64)
            ]
            return await asyncio.gather(*questions)

    answers = asyncio.run(ask())
    assert len({answer.choices[0].message.content for answer in answers}) == 64
