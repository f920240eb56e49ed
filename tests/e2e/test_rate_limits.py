"""Rate limits: headers, refusals and waits as OpenAI's SDKs expect them, over all lanes, by HTTP and by message."""

import concurrent.futures
import json
import os
import re
import subprocess
import time

import pytest

from outlast_node import BIN, request, wait_for

HEADERS = [f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")]


def limit(scope, **fields):
    return {"scope": scope, **fields}


def metric(node, scope, of="requests"):
    text = request(node.admin_address, "GET", "/metrics")[2].decode()
    return int(re.search(rf'^outlast_rate_limited_total{{scope="{scope}",limit="{of}"}} (\d+)$', text, re.M).group(1))


def test_an_unlimited_node_sends_no_headers_of_limits(alpha, make_node):
    answer = make_node(alpha).chat()
    assert answer.status == 200 and not [name for name in answer.headers if name.startswith("x-ratelimit")]


def test_headers_refusal_and_success_after_the_wait(alpha, make_node):
    node = make_node(alpha, rate_limits=[limit("key:*", requests_per_minute=60, burst=2, tokens_per_minute=100_000)])
    first = node.chat()
    assert first.status == 200
    assert all(name in first.headers for name in HEADERS), first.headers
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert re.fullmatch(r"1s|9\d\dms|9\dms", first.headers["x-ratelimit-reset-requests"])
    assert first.headers["x-ratelimit-limit-tokens"] == "100000"
    # What was not used is back before the answer is.
    assert int(first.headers["x-ratelimit-remaining-tokens"]) >= 100_000 - first.json["usage"]["total_tokens"]
    with node.stream() as stream:
        assert stream.status == 200 and stream.headers["x-ratelimit-remaining-requests"] == "0"
        assert stream.rest().done

    refused = wait_for(lambda: next((one for one in [node.chat()] if one.status == 429), None), "a refusal")
    error = refused.error
    assert error["code"] == "rate_limit_exceeded" and error["type"] == "requests" and error["param"] is None
    assert f"Rate limit reached for key:" in error["message"] and "Limit 60 (at once 2)" in error["message"]
    assert refused.headers["x-should-retry"] == "true"
    assert refused.headers["retry-after"] == "1" and 1 <= int(refused.headers["retry-after-ms"]) <= 1000
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert wait_for(lambda: node.chat().status == 200, "success after the wait", 5)
    assert metric(node, "key") >= 1 and metric(node, "team") == 0
    # Refusals are no entries of the ledger: every reservation there has an end.
    assert node.verify()


def test_a_limit_is_exact_over_all_lanes(alpha, make_node):
    node = make_node(alpha, lanes=2, rate_limits=[limit("team:acme/search", requests_per_minute=1, burst=25)])
    keys = [node.create_key(f"acme/search/{user}")["key"] for user in ("ann", "bob")]
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        body = {"model": "smart", "messages": [{"role": "user", "content": "hi"}]}
        statuses = list(pool.map(lambda number: node.post(body, key=keys[number % 2]).status, range(100)))
    more = int((time.monotonic() - begin) / 60) + 1
    assert 25 <= statuses.count(200) < 25 + more
    assert statuses.count(200) + statuses.count(429) == 100
    other = node.create_key("acme/ads/eve")["key"]
    assert node.post(body, key=other).status == 200


def test_tokens_are_limited_by_the_worst_case(alpha, make_node):
    node = make_node(alpha, rate_limits=[limit("user:*", tokens_per_minute=6_000, burst_tokens=2_000)])
    assert node.chat(max_tokens=100).status == 200
    refused = None
    for _ in range(100):
        answer = node.chat(max_tokens=1_500)
        if answer.status == 429:
            refused = answer
            break
    assert refused is not None and refused.error["type"] == "tokens"
    assert "on tokens per minute (TPM): Limit 6000 (at once 2000)" in refused.error["message"]
    assert wait_for(lambda: node.chat(max_tokens=100).status == 200, "a smaller request fits", 5)


def test_a_limited_deployment_is_skipped(alpha, beta, make_node):
    node = make_node(alpha, beta, rate_limits=[
        limit("deployment:alpha-gpt-sim", requests_per_minute=1, burst=3),
        limit("deployment:beta-claude-sim", requests_per_minute=1, burst=4)])
    answers = [node.chat() for _ in range(8)]
    assert [answer.status for answer in answers] == [200] * 7 + [429]
    served = [answer.deployment for answer in answers[:7]]
    assert served.count("alpha-gpt-sim") == 3 and served.count("beta-claude-sim") == 4
    assert all(answer.headers["x-outlast-attempts"] == "1" for answer in answers[:7])
    assert "deployment:" in answers[7].error["message"] and answers[7].headers["x-should-retry"] == "true"
    assert 1 <= int(answers[7].headers["retry-after"]) <= 60


def test_the_client_actor_is_limited_by_the_same_limit(alpha, make_node):
    node = make_node(alpha, rate_limits=[limit("key:*", requests_per_minute=1, burst=1)])
    assert node.chat().status == 200
    described = json.loads((node.data / "node.json").read_text())
    result = subprocess.run(
        [str(BIN / "outlast-ask"), "smart"], capture_output=True, text=True, timeout=30,
        env={**os.environ, "OUTLAST_ENDPOINT": "tcp://" + node.zmq, "OUTLAST_KEY": node.key,
             "OUTLAST_SERVER_KEY": described["zmq_public_key"]})
    assert result.returncode != 0
    assert "Rate limit reached for key:" in result.stderr + result.stdout
    assert alpha.stats()["requests"] == 1


def test_a_reload_keeps_what_was_taken_and_a_wrong_file_changes_nothing(alpha, make_node):
    limits = [limit("team:acme/search", requests_per_minute=1, burst=1)]
    node = make_node(alpha, rate_limits=limits)
    assert node.chat().status == 200
    node.write_config(rate_limits=limits + [limit("organisation:acme", requests_per_minute=1, burst=1)])
    node.cli("config", "reload")
    assert node.chat().status == 429
    node.write_config(rate_limits=[limit("team:acme", requests_per_minute=1)])
    result = node.cli("config", "reload", check=False)
    assert result.returncode == 1 and "rate_limit.scope" in result.stderr and "team:ORGANISATION/TEAM" in result.stderr
    assert node.chat().status == 429
    node.write_config(rate_limits=[])
    node.cli("config", "reload")
    assert node.chat().status == 200


def test_the_state_of_limits_by_admin_api_and_command_line(alpha, make_node):
    node = make_node(alpha, rate_limits=[
        limit("team:acme/search", requests_per_minute=2, burst=5, tokens_per_minute=10),
        limit("key:*", requests_per_minute=600)])
    node.chat()
    shown = json.loads(node.cli("rate-limits", "--json").stdout)["rate_limits"]
    assert [one["scope"] for one in shown] == ["team:acme/search", "key:*"]
    requests = shown[0]["requests"]
    assert (requests["per_minute"], requests["burst"], requests["remaining"]) == (2, 5, 4)
    assert 0 < requests["reset_ms"] <= 30_000
    assert shown[0]["tokens"]["burst"] == 10 and shown[0]["live"] is None
    assert shown[1]["tokens"] is None and shown[1]["requests"]["remaining"] is None and shown[1]["live"] in (0, 1)
    text = node.cli("rate-limits").stdout
    assert "SCOPE" in text and "team:acme/search" in text and "key:*" in text
    assert json.loads(node.admin("GET", "rate-limits")[1])["rate_limits"][0]["scope"] == "team:acme/search"


def test_without_limits_the_command_says_how_to_add_one(alpha, make_node):
    assert "[[rate_limit]]" in make_node(alpha).cli("rate-limits").stdout


@pytest.mark.parametrize("fields, message", [
    ({"scope": "tag:x", "requests_per_minute": 1}, "KIND is one of organisation, team, user, key, deployment"),
    ({"scope": "key:*"}, "tokens_per_minute is too; write at least one of them"),
    ({"scope": "deployment:alpha-gpt-sm", "requests_per_minute": 1}, "did you mean 'alpha-gpt-sim'?"),
])
def test_a_wrong_limit_stops_the_start_with_its_line(alpha, make_node, fields, message):
    status, output = make_node(alpha, start=False, rate_limits=[fields]).start_expecting_failure()
    assert status != 0 and "rate_limit." in output and message in output
