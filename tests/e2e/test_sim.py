"""The simulator alone: what the other tests rely on."""

import http.client
import json
import os
import signal
import subprocess

import pytest

from outlast_node import BIN, Sim, request, wait_for

OPENAI = "/v1/chat/completions"
ANTHROPIC = "/v1/messages"
VERSION = {"anthropic-version": "2023-06-01", "content-type": "application/json"}


def messages(text="one two three"):
    return [{"role": "user", "content": text}]


def post(sim, body, path=None, headers=None):
    path = path or (OPENAI if sim.dialect == "openai" else ANTHROPIC)
    status, headers, data = request(sim.http, "POST", path, body, headers or VERSION)
    return status, headers, data


def events(data):
    """(event, data) pairs of a stream."""
    parsed = []
    for block in data.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if fields:
            parsed.append((fields.get("event"), fields["data"]))
    return parsed


def test_an_openai_answer_is_whole_and_its_usage_exact(alpha):
    status, headers, data = post(alpha, {"model": "gpt-sim", "messages": messages()})
    answer = json.loads(data)
    assert status == 200 and headers["content-type"] == "application/json"
    assert answer["object"] == "chat.completion" and answer["choices"][0]["finish_reason"] == "stop"
    assert len(answer["choices"][0]["message"]["content"].split()) == 32
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (3, 32)


def test_an_openai_stream_gives_the_same_text_and_usage_only_when_asked(alpha):
    body = {"model": "gpt-sim", "messages": messages()}
    whole = json.loads(post(alpha, body)[2])
    for asked in (False, True):
        options = {"stream_options": {"include_usage": True}} if asked else {}
        stream = events(post(alpha, {**body, "stream": True, **options})[2])
        assert stream[-1][1] == "[DONE]"
        chunks = [json.loads(data) for _, data in stream[:-1]]
        assert {chunk["id"] for chunk in chunks} == {whole["id"]}
        text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
        assert text == whole["choices"][0]["message"]["content"]
        assert ([chunk["usage"] for chunk in chunks if chunk.get("usage")] == [whole["usage"]]) == asked


def test_an_anthropic_stream_is_in_the_legal_order(beta):
    body = {"model": "claude-sim", "max_tokens": 100, "messages": messages(), "stream": True}
    stream = events(post(beta, body)[2])
    names = [name for name, _ in stream if name not in ("ping", "content_block_delta")]
    assert names == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    start, end = json.loads(stream[0][1]), json.loads(stream[-2][1])
    assert start["message"]["usage"]["input_tokens"] == 3
    assert end["usage"]["output_tokens"] == 32 and end["delta"]["stop_reason"] == "end_turn"
    text = "".join(json.loads(data)["delta"]["text"] for name, data in stream if name == "content_block_delta")
    whole = json.loads(post(beta, {**body, "stream": False})[2])
    assert text == whole["content"][0]["text"]


def test_cache_control_moves_input_tokens_to_the_cache_buckets(beta):
    system = [{"type": "text", "text": "a b c d", "cache_control": {"type": "ephemeral"}}]
    body = {"model": "claude-sim", "max_tokens": 9, "system": system, "messages": messages()}
    first = json.loads(post(beta, body)[2])["usage"]
    assert (first["input_tokens"], first["cache_creation_input_tokens"], first["cache_read_input_tokens"]) == (3, 4, 0)
    body["messages"] += [{"role": "assistant", "content": "x y"}, {"role": "user", "content": "z"}]
    later = json.loads(post(beta, body)[2])["usage"]
    assert (later["input_tokens"], later["cache_creation_input_tokens"], later["cache_read_input_tokens"]) == (6, 0, 4)


def test_answers_are_deterministic_and_differ_by_content(alpha, make_sim):
    body = {"model": "gpt-sim", "messages": messages()}
    assert post(alpha, body)[2] == post(alpha, body)[2]
    other = {"model": "gpt-sim", "messages": messages("four")}
    assert json.loads(post(alpha, body)[2])["id"] != json.loads(post(alpha, other)[2])["id"]
    twin = make_sim("twin", models=["gpt-sim"])
    assert post(alpha, body)[2] == post(twin, body)[2]
    seeded = make_sim("seeded", models=["gpt-sim"], seed=2)
    assert post(alpha, body)[2] != post(seeded, body)[2]


def test_the_length_follows_max_tokens_and_the_text(alpha):
    def ask(text, **fields):
        return json.loads(post(alpha, {"model": "gpt-sim", "messages": messages(text), **fields})[2])

    assert ask("x", max_tokens=5)["choices"][0]["finish_reason"] == "length"
    assert ask("x", max_tokens=5)["usage"]["completion_tokens"] == 5
    assert ask("x [tokens=77]")["usage"]["completion_tokens"] == 77
    assert ask("x", n=3)["usage"]["completion_tokens"] == 96


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_tools_are_called_when_the_text_says_so(alpha, beta, stream):
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    ask = {"messages": messages("use the weather tool"), "stream": stream}
    openai = {**ask, "model": "gpt-sim", "tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}]}
    data = post(alpha, openai)[2]
    if stream:
        chunks = [json.loads(text) for _, text in events(data)[:-1]]
        calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", [])]
        assert calls[0]["function"]["name"] == "weather" and all(call["index"] == 0 for call in calls)
        arguments = "".join(call["function"]["arguments"] for call in calls)
    else:
        choice = json.loads(data)["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        arguments = choice["message"]["tool_calls"][0]["function"]["arguments"]
    assert set(json.loads(arguments)) == {"city", "days"}
    anthropic = {**ask, "model": "claude-sim", "max_tokens": 99, "tools": [{"name": "weather", "input_schema": schema}]}
    data = post(beta, anthropic)[2]
    if stream:
        deltas = [json.loads(text)["delta"] for name, text in events(data) if name == "content_block_delta"]
        arguments = json.loads("".join(delta.get("partial_json", "") for delta in deltas))
    else:
        answer = json.loads(data)
        assert answer["stop_reason"] == "tool_use"
        arguments = answer["content"][-1]["input"]
    assert set(arguments) == {"city", "days"}


def test_bad_requests_get_the_providers_errors(alpha, beta, make_sim):
    status, _, data = post(alpha, {"model": "unknown", "messages": messages()})
    assert status == 404 and json.loads(data)["error"]["code"] == "model_not_found"
    assert post(alpha, b"{")[0] == 400
    assert post(alpha, {"model": "gpt-sim"})[0] == 400
    assert post(alpha, {"model": "gpt-sim", "messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]})[0] == 400
    status, _, data = post(beta, {"model": "claude-sim", "messages": messages()})
    assert status == 400 and "max_tokens" in json.loads(data)["error"]["message"]
    body = {"model": "claude-sim", "max_tokens": 9, "messages": messages()}
    assert post(beta, body, headers={"content-type": "application/json"})[0] == 400
    assert post(beta, {**body, "messages": [{"role": "system", "content": "x"}]})[0] == 400
    assert request(alpha.http, "GET", "/v1/nothing")[0] == 404


def test_the_right_key_is_asked_for(tmp_path):
    os.environ["SIM_KEY"] = "sk-right"
    sim = Sim(tmp_path, "keyed", models=["m"], api_key_env="SIM_KEY")
    try:
        body = {"model": "m", "messages": messages()}
        status, _, data = post(sim, body, headers={"authorization": "Bearer sk-wrong"})
        assert status == 401 and json.loads(data)["error"]["code"] == "invalid_api_key"
        assert post(sim, body, headers={"authorization": "Bearer sk-right"})[0] == 200
    finally:
        sim.kill()


def test_a_fault_hits_as_often_as_it_was_told(alpha):
    body = {"model": "gpt-sim", "messages": messages()}
    alpha.faults({"kind": "status", "status": 429, "retry_after_s": 3, "count": 2})
    first, second, third = (post(alpha, body) for _ in range(3))
    assert (first[0], second[0], third[0]) == (429, 429, 200)
    assert first[1]["retry-after"] == "3"
    stats = alpha.stats()
    assert stats["faults"] == 2 and stats["statuses"] == {"200": 1, "429": 2}
    assert json.loads(stats["last"]["body"]) == body
    assert "content-type" in [name.lower() for name in stats["last"]["header_names"]]


def test_a_cut_is_no_clean_end(alpha):
    alpha.faults({"kind": "cut", "after_tokens": 3})
    for stream in (False, True):
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            post(alpha, {"model": "gpt-sim", "messages": messages(), "stream": stream})


def test_refuse_closes_the_listener_until_the_faults_are_replaced(alpha):
    def reachable():
        try:
            return request(alpha.http, "GET", "/v1/models", timeout=2)[0] == 200
        except OSError:
            return False

    assert reachable()
    alpha.faults({"kind": "refuse"})
    wait_for(lambda: not reachable(), "the listener to close")
    alpha.faults()
    wait_for(reachable, "the listener to open again")
    alpha.faults({"kind": "refuse", "for_ms": 200})
    wait_for(lambda: not reachable(), "the listener to close")
    wait_for(reachable, "the listener to open by itself")


def test_unknown_faults_are_refused(alpha):
    for fault in ({"kind": "nothing"}, {"colour": 1}, {"kind": "status", "status": 200}, [7]):
        assert request(alpha.control, "POST", "/sim/faults", fault)[0] == 400


def test_a_caller_that_goes_is_noticed(make_sim):
    sim = make_sim("slow", models=["m"], tokens_per_s=5)
    connection = http.client.HTTPConnection(sim.http, timeout=10)
    connection.request("POST", OPENAI, json.dumps({"model": "m", "messages": messages(), "stream": True}))
    connection.getresponse().readline()
    assert sim.stats()["active"] == 1
    connection.close()
    wait_for(lambda: sim.stats()["cancelled"] == 1 and sim.stats()["active"] == 0, "the cancellation")


def test_sigterm_ends_with_0_also_in_mid_stream(make_sim):
    sim = make_sim("slow", models=["m"], tokens_per_s=5)
    connection = http.client.HTTPConnection(sim.http, timeout=10)
    connection.request("POST", OPENAI, json.dumps({"model": "m", "messages": messages(), "stream": True}))
    connection.getresponse().readline()
    sim.child.send_signal(signal.SIGTERM)
    assert sim.wait() == 0
    connection.close()


def test_wrong_flags_are_refused():
    for flags in ([], ["--models", "m", "--dialect", "gemini"], ["--models", "m", "--fault", "kind=nothing"]):
        result = subprocess.run([str(BIN / "outlast-sim"), *flags], capture_output=True, timeout=10)
        assert result.returncode == 2
