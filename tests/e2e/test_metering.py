"""What the ledger and the usage report say about requests: tokens, costs, estimates, missing prices."""

import json
import subprocess

import pytest

from outlast_node import BIN, question, wait_for

PICO_PER_USD = 10**12


def cost_of(tokens_in, tokens_out, cached=0):
    """Of the prices that Node writes: $3 and $15 per million tokens."""
    return tokens_in * 3_000_000 + tokens_out * 15_000_000 + cached * 300_000


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_request_is_charged_what_the_provider_reports(make_sim, make_node, dialect, stream):
    sim = make_sim("alpha", dialect=dialect, models=["m"], tokens=20)
    node = make_node(sim)
    answer = node.stream().rest() if stream else node.chat()
    assert answer.status == 200
    assert len(answer.text.split()) == 20
    settled = node.settlement_of(answer.request_id)
    assert not settled["estimated"]
    assert int(settled["cost_pico_usd"]) == cost_of(len(question()["messages"][0]["content"].split()), 20)
    assert settled["attempt"] == 1
    assert answer.headers["x-outlast-attempts"] == "1"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_usage_in_the_answer_is_the_providers_in_the_callers_dialect(make_sim, make_node, dialect, stream):
    sim = make_sim("alpha", dialect=dialect, models=["m"], tokens=9)
    node = make_node(sim)
    if stream:
        answer = node.stream("one two three", stream_options={"include_usage": True}).rest()
        usage = [chunk["usage"] for chunk in answer.chunks if chunk.get("usage")]
        assert len(usage) == 1 and answer.chunks[-1]["choices"] == []
        usage = usage[0]
    else:
        usage = node.chat("one two three").json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (3, 9, 12)


def test_usage_is_asked_for_upstream_and_stripped_when_the_caller_did_not_ask(alpha, make_node):
    node = make_node(alpha)
    answer = node.stream().rest()
    sent = json.loads(alpha.stats()["last"]["body"])
    assert sent["stream_options"]["include_usage"] is True
    assert all("usage" not in chunk or chunk["usage"] is None for chunk in answer.chunks)
    assert all(chunk["choices"] for chunk in answer.chunks)
    assert answer.done


def test_the_model_is_replaced_and_the_callers_key_stays_here(alpha, make_node):
    node = make_node(alpha)
    node.chat(user="u-1", seed=7)
    last = alpha.stats()["last"]
    sent = json.loads(last["body"])
    assert sent["model"] == "gpt-sim" and sent["seed"] == 7
    assert node.key not in last["body"]


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_missing_usage_is_estimated(make_sim, make_node, dialect, stream):
    sim = make_sim("alpha", dialect=dialect, models=["m"])
    node = make_node(sim)
    sim.faults({"kind": "missing_usage"})
    answer = node.stream().rest() if stream else node.chat()
    assert answer.status == 200
    settled = node.settlement_of(answer.request_id)
    assert settled["estimated"]
    assert int(settled["cost_pico_usd"]) > 0


def test_usage_beyond_the_reservation_is_charged_in_full_and_does_not_break_the_ledger(alpha, make_node):
    node = make_node(alpha)
    alpha.faults({"kind": "wrong_usage", "factor": 100000})
    answer = node.chat(max_tokens=40)
    assert answer.status == 200
    settled = node.settlement_of(answer.request_id)
    assert not settled["estimated"]
    assert int(settled["cost_pico_usd"]) == cost_of(5 * 100000, 32 * 100000)
    node.verify()


def test_a_failed_attempt_has_its_own_line_and_the_request_is_charged_once(alpha, beta, make_node):
    deployments = [("d-alpha", "alpha", "gpt-sim", 1), ("d-beta", "beta", "claude-sim", 2)]
    node = make_node(alpha, beta, deployments=deployments)
    alpha.faults({"kind": "status", "status": 500, "count": 1})
    answer = node.chat()
    settled = node.settlement_of(answer.request_id)
    assert settled["attempt"] == 2
    attempts = node.entries_of(answer.request_id, "attempt")
    assert [entry["attempt"] for entry in attempts] == [1]
    assert int(attempts[0]["cost_pico_usd"]) == 0
    assert sum(row["requests"] for row in node.usage()["rows"]) == 1


def test_a_model_without_a_price_is_served_and_flagged(make_sim, make_node):
    sim = make_sim("alpha", models=["unpriced-model"])
    node = make_node(sim)
    answer = node.chat()
    assert answer.status == 200
    settled = node.settlement_of(answer.request_id)
    assert int(settled["cost_pico_usd"]) == 0
    assert settled["price_known"] is False


def test_a_model_without_a_price_is_refused_where_the_configuration_says_so(make_sim, make_node):
    sim = make_sim("alpha", models=["unpriced-model"])
    node = make_node(sim, unpriced="refuse")
    answer = node.chat()
    assert answer.status == 503
    assert answer.error["code"] == "price_missing"
    assert sim.stats()["requests"] == 0


def test_usage_by_model_and_user_adds_up(alpha, make_node):
    node = make_node(alpha)
    keys = [node.create_key(tenant)["key"] for tenant in ("acme/search/ann", "acme/search/bob", "acme/ads/cleo")]
    requests = 0
    for count, key in enumerate(keys, start=1):
        for _ in range(count):
            assert node.post(question(), key=key).status == 200
            requests += 1

    def settled():
        usage = node.usage("user")
        return usage if sum(row["requests"] for row in usage["rows"]) == requests else None

    usage = wait_for(settled, "every settlement in the report")
    assert sorted(row["requests"] for row in usage["rows"]) == [1, 2, 3]
    each = cost_of(5, 32)
    total = sum(round(float(row["cost_usd"]) * PICO_PER_USD) for row in usage["rows"])
    assert total == each * requests
    by_model = node.usage("model")["rows"]
    assert len(by_model) == 1 and by_model[0]["requests"] == requests
    assert by_model[0]["tokens"]["output_text"] == 32 * requests


def test_ledger_export_prints_an_entry_a_line(alpha, make_node):
    node = make_node(alpha)
    answer = node.chat()
    node.settlement_of(answer.request_id)
    lines = [json.loads(line) for line in node.cli("ledger", "export", "--format", "jsonl").stdout.splitlines()]
    assert [entry["index"] for entry in lines] == sorted(entry["index"] for entry in lines)
    mine = [entry for entry in lines if entry.get("request_id") == answer.request_id]
    for entry in mine:
        assert {"index", "kind", "request_id", "attempt", "cost_pico_usd", "estimated"} <= set(entry)
    assert [entry["kind"] for entry in mine] == ["reserve", "settle"]


def test_the_commands_explain_themselves():
    for arguments in ([], ["key"], ["usage"], ["ledger"], ["config"], ["chat"]):
        result = subprocess.run([str(BIN / "outlast"), *arguments, "--help"], capture_output=True, text=True, timeout=10)
        assert result.returncode == 0 and "help" in result.stdout


def test_chat_from_the_terminal_streams_an_answer(alpha, make_node):
    node = make_node(alpha)
    result = subprocess.run(
        [str(BIN / "outlast"), "chat", "-m", "smart", "--url", "http://" + node.http, "What is the river's promise?"],
        capture_output=True, text=True, timeout=20, env={"OUTLAST_KEY": node.key, "PATH": "/usr/bin"},
        stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stderr
    assert node.chat().text in result.stdout
