"""Budgets on real processes: hard ones never overspend, requests that fit are served, refusals say why."""

import asyncio
import json
import os
import re
import subprocess

import pytest

from outlast_node import BIN, question, wait_for

USD = 10**12
COST = 5 * 3_000_000 + 32 * 15_000_000  # of a question with 32 tokens of answer


def usd(pico):
    return f"{pico // USD}.{pico % USD:012d}"


def pico(text):
    whole, _, fraction = text.partition(".")
    return int(whole) * USD + int((fraction + "0" * 12)[:12])


def set_budget(node, scope, amount, *options, per="total"):
    made = node.cli("budget", "set", scope, "--amount", amount, "--per", per, "--json", *options)
    return json.loads(made.stdout)["id"]


def budget(node, budget_id):
    budgets = json.loads(node.cli("budget", "list", "--json").stdout)["budgets"]
    return next(one for one in budgets if one["id"] == budget_id)


def settled_budget(node, budget_id):
    """The budget once nothing is held any more: settlements may follow answers by a commit."""
    def at_rest():
        now = budget(node, budget_id)
        return now if pico(now["held_usd"]) == 0 else None
    return wait_for(at_rest, "every reservation settled", 30)


def charged(node):
    """What the ledger has charged in all, and how much of it beyond reservations."""
    ends = [entry for entry in node.entries() if entry["kind"] in ("attempt", "settle")]
    return sum(int(entry["cost_pico_usd"]) for entry in ends)


async def post(address, key, body, headers=None):
    host, port = address.rsplit(":", 1)
    payload = json.dumps(body).encode()
    lines = ["POST /v1/chat/completions HTTP/1.1", f"host: {address}", "connection: close",
             f"authorization: Bearer {key}", "content-type: application/json", f"content-length: {len(payload)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)
    data = await asyncio.wait_for(reader.read(), 120)
    writer.close()
    head, _, rest = data.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:])
    return int(head.split()[1]), fields, rest


def all_at_once(requests):
    async def run():
        return await asyncio.gather(*requests)
    return asyncio.run(run())


def refused_rightly(message):
    """Whether what was left, by the ledger's word, was less than what was needed."""
    found = re.search(r"has (\S+) of \S+ USD left.* may cost (\S+?)[;.]? ", message + " ")
    return pico(found[1]) < pico(found[2].rstrip(";"))


def nearly_used_up(make_sim, make_node):
    """A node with a hard budget of which 2 % are left: room for some 40 requests at once, some 240 one after another."""
    sim = make_sim("alpha", models=["m"], tokens=4000)
    node = make_node(sim, lanes=2)
    budget_id = set_budget(node, "organisation:acme", "1000")
    for _ in range(100):
        assert node.chat(max_tokens=4000).status == 200
    used = pico(settled_budget(node, budget_id)["used_usd"])
    assert used == charged(node)
    set_budget(node, "organisation:acme", usd(used * 100 // 98))
    assert pico(budget(node, budget_id)["left_usd"]) < used // 40
    return node, budget_id


def check_nothing_overspent(node, budget_id):
    """And what still fits is served, to the last."""
    now = settled_budget(node, budget_id)
    assert pico(now["used_usd"]) <= pico(now["amount_usd"])
    assert pico(now["used_usd"]) == charged(node)
    while True:
        answer = node.chat(max_tokens=32)
        if answer.status != 200:
            break
    assert answer.status == 429, answer
    assert refused_rightly(answer.error["message"])
    now = settled_budget(node, budget_id)
    assert pico(now["used_usd"]) == charged(node) <= pico(now["amount_usd"])
    # Less is left than the worst case of one request: some 700 tokens of input at the dearest, 32 of output.
    assert pico(now["left_usd"]) < 700 * 3_750_000 + 32 * 15_000_000
    node.verify()


def test_a_thousand_requests_at_once_never_overspend_by_http(make_sim, make_node):
    node, budget_id = nearly_used_up(make_sim, make_node)
    body = question(max_tokens=32)
    answers = all_at_once(post(node.http, node.key, body) for _ in range(1000))
    statuses = [status for status, _, _ in answers]
    assert set(statuses) <= {200, 429}
    assert 40 <= statuses.count(200) <= 250
    for status, headers, data in answers:
        if status == 429:
            error = json.loads(data)["error"]
            assert error["code"] == "budget_exhausted" and error["type"] == "insufficient_quota"
            assert headers["x-should-retry"] == "false"
            assert refused_rightly(error["message"]), error["message"]
    assert budget(node, budget_id)["refusals"] == statuses.count(429)
    check_nothing_overspent(node, budget_id)


def ask_many(node, *arguments):
    described = json.loads((node.data / "node.json").read_text())
    result = subprocess.run(
        [str(BIN / "outlast-ask-many"), *map(str, arguments)], capture_output=True, text=True, timeout=120,
        env={**os.environ, "OUTLAST_ENDPOINT": "tcp://" + node.zmq, "OUTLAST_KEY": node.key,
             "OUTLAST_SERVER_KEY": described["zmq_public_key"]})
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_thousand_requests_at_once_never_overspend_by_the_client_actor(make_sim, make_node):
    node, budget_id = nearly_used_up(make_sim, make_node)
    ends = ask_many(node, "smart", 1000, 32)
    assert set(ends) == {"ok", "over_budget", "message"}
    assert ends["ok"] + ends["over_budget"] == 1000
    assert 40 <= ends["ok"] <= 250
    assert refused_rightly(ends["message"])
    check_nothing_overspent(node, budget_id)


def test_every_budget_on_the_path_counts_and_the_narrowest_refuses(make_sim, make_node):
    sim = make_sim("alpha", models=["m"])
    node = make_node(sim)
    wide = [set_budget(node, scope, "100") for scope in
            ("organisation:acme", "team:acme/search", "user:acme/search/ann", "provider:alpha", "model:m", "tag:batch")]
    narrow = set_budget(node, "tag:nightly", usd(3 * COST), "--name", "the night")
    other = set_budget(node, "team:acme/ads", "0")
    answer = node.post(question(max_tokens=32), headers={"x-outlast-tags": "batch"})
    assert answer.status == 200
    refused = node.post(question(max_tokens=32), headers={"x-outlast-tags": "batch, nightly"})
    assert refused.status == 429 and "'the night'" in refused.error["message"]
    assert "retry-after" not in refused.headers  # it never resets
    for one in wide:
        assert pico(settled_budget(node, one)["used_usd"]) == COST
    assert pico(budget(node, narrow)["used_usd"]) == 0 and budget(node, narrow)["refusals"] == 1
    assert pico(budget(node, other)["used_usd"]) == 0
    entry = node.entries_of(answer.request_id, "reserve")[0]
    assert entry["tags"] == ["batch"]
    assert sim.stats()["requests"] == 1


def test_tags_and_sessions_of_the_client_actor_reach_the_ledger(make_sim, make_node):
    node = make_node(make_sim("alpha", models=["m"]))
    budget_id = set_budget(node, "tag:nightly", "0")
    assert ask_many(node, "smart", 3, 32, "nightly")["over_budget"] == 3
    assert ask_many(node, "smart", 1, 32, "daily", "crawl-7")["ok"] == 1
    reserved = [entry for entry in node.entries() if entry["kind"] == "reserve"]
    assert [(entry["tags"], entry["session"]) for entry in reserved] == [(["daily"], "crawl-7")]
    assert budget(node, budget_id)["refusals"] == 3


def test_a_soft_budget_counts_and_refuses_nothing(make_sim, make_node):
    node = make_node(make_sim("alpha", models=["m"]))
    budget_id = set_budget(node, "organisation:acme", "0.000001", "--soft")
    assert node.chat(max_tokens=32).status == 200
    assert pico(settled_budget(node, budget_id)["used_usd"]) == COST


def test_a_refusal_says_when_the_budget_resets(make_sim, make_node):
    node = make_node(make_sim("alpha", models=["m"]))
    set_budget(node, "organisation:acme", "0", "--tz", "Europe/Berlin", per="day")
    refused = node.chat(max_tokens=32)
    assert refused.status == 429
    assert 0 < int(refused.headers["retry-after"]) <= 25 * 3600
    assert "resets at 20" in refused.error["message"]


def test_most_requests_under_budgets_are_admitted_by_slices(make_sim, make_node):
    node = make_node(make_sim("alpha", models=["m"]))
    set_budget(node, "organisation:acme", "1000")
    for _ in range(60):
        assert node.chat(max_tokens=32).status == 200
    metrics = dict(line.rsplit(" ", 1) for line in metrics_of(node).splitlines() if not line.startswith("#"))
    in_slice = int(metrics["outlast_budget_admissions_in_slice_total"])
    in_step = int(metrics["outlast_budget_admissions_synchronous_total"])
    assert in_slice + in_step == 60
    assert in_slice >= 50, metrics


def metrics_of(node):
    from outlast_node import request
    return request(node.admin_address, "GET", "/metrics")[2].decode()


def test_a_long_stream_is_cut_when_its_next_tranche_does_not_fit(make_sim, make_node):
    node = make_node(make_sim("alpha", models=["m"], tokens=20_000, chunk_tokens=50))
    budget_id = set_budget(node, "organisation:acme", "0.10", "--name", "small")
    answer = node.stream(max_tokens=20_000).rest()
    assert answer.status == 200 and not answer.done
    assert answer.error["code"] == "budget_exhausted" and "'small'" in answer.error["message"]
    assert len(answer.text) > 2000
    entry = node.settlement_of(answer.request_id)
    assert entry["status"] == "cut"
    now = settled_budget(node, budget_id)
    assert 0 < pico(now["used_usd"]) <= pico(now["amount_usd"])
    assert pico(now["used_usd"]) == int(entry["cost_pico_usd"])
    assert node.entries_of(answer.request_id, "extend")
    node.verify()


def test_a_long_stream_that_fits_is_served_whole_in_tranches(make_sim, make_node):
    node = make_node(make_sim("alpha", models=["m"], tokens=6_000, chunk_tokens=50))
    budget_id = set_budget(node, "organisation:acme", "50")
    answer = node.stream(max_tokens=40_000).rest()
    assert answer.done and len(answer.text.split()) == 6_000
    assert len(node.entries_of(answer.request_id, "extend")) >= 2
    assert pico(settled_budget(node, budget_id)["used_usd"]) == int(node.settlement_of(answer.request_id)["cost_pico_usd"])
    node.verify()


def test_budgets_outlive_a_crash_and_nothing_of_them_is_lost(make_sim, make_node):
    node = make_node(make_sim("alpha", models=["m"]))
    budget_id = set_budget(node, "organisation:acme", "1")
    for _ in range(20):
        assert node.chat(max_tokens=32).status == 200
    before = settled_budget(node, budget_id)
    node.kill()
    node.start()
    after = settled_budget(node, budget_id)
    assert after["used_usd"] == before["used_usd"]
    assert pico(after["left_usd"]) == USD - 20 * COST
    assert node.chat(max_tokens=32).status == 200
    node.verify()


def test_every_request_sent_one_to_five_times_is_charged_once(make_sim, make_node):
    sim = make_sim("alpha", models=["m"])
    node = make_node(sim, lanes=2)
    budget_id = set_budget(node, "organisation:acme", "1000")
    body = question(max_tokens=32)

    async def until_answered(number):
        while True:
            status, headers, data = await post(node.http, node.key, body, {"idempotency-key": f"request-{number}"})
            if status != 409:
                return status, headers, data
            assert json.loads(data)["error"]["code"] == "idempotency_key_in_progress", data
            assert headers["x-should-retry"] == "true"

    numbers = [number for number in range(200) for _ in range(1 + number % 5)]
    answers = all_at_once(until_answered(number) for number in numbers)
    by_number = {}
    for number, (status, headers, data) in zip(numbers, answers):
        assert status == 200, data
        by_number.setdefault(number, []).append((headers["x-outlast-request-id"], headers.get("idempotency-replayed"), data))
    for same in by_number.values():
        assert len({request_id for request_id, _, _ in same}) == 1
        assert len({data for _, _, data in same}) == 1
        assert [replayed for _, replayed, _ in same].count(None) == 1
    assert sim.stats()["requests"] == 200
    assert pico(settled_budget(node, budget_id)["used_usd"]) == 200 * COST == charged(node)
    other = node.post(question("something else"), headers={"idempotency-key": "request-1"})
    assert other.status == 422 and other.error["type"] == "idempotency_error"
    # After a restart the answers are gone, but not the keys.
    node.stop()
    node.start()
    again = node.post(body, headers={"idempotency-key": "request-1"})
    assert again.status == 409 and again.error["code"] == "idempotency_key_used"
    other = node.post(question("something else"), headers={"idempotency-key": "request-1"})
    assert other.status == 422
    assert pico(settled_budget(node, budget_id)["used_usd"]) == 200 * COST


def test_setting_the_same_budget_again_changes_it(make_sim, make_node):
    node = make_node(make_sim("alpha", models=["m"]))
    first = set_budget(node, "team:acme/search", "5", per="month")
    assert set_budget(node, "team:acme/search", "6", per="month") == first
    assert set_budget(node, "team:acme/search", "1", per="day") != first
    named = set_budget(node, "team:acme/search", "7", "--name", "extra", per="month")
    assert named != first
    assert budget(node, first)["amount_usd"] == "6.00"
    set_budget(node, "team:acme/search", "8", "--id", first, per="month")
    assert budget(node, first)["amount_usd"] == "8.00"
    assert json.loads(node.cli("budget", "remove", first, "--json").stdout) == {"id": first, "removed": True}
    assert node.cli("budget", "remove", first, check=False).returncode == 4
    assert named in node.cli("budget", "list").stdout


@pytest.mark.parametrize("arguments, said", [
    (["team:acme/search", "--amount", "0.0000000000001", "--per", "day"], "12 decimals"),
    (["team:acme/search", "--amount=-1", "--per", "day"], "negative"),
    (["team:acme/search", "--amount", "1e3", "--per", "day"], "not an amount"),
    (["team:acme/search", "--amount", "9" * 40, "--per", "day"], "too large"),
    (["group:acme", "--amount", "1", "--per", "day"], "organisation, team, user, key, tag, model, provider"),
    (["team:acme", "--amount", "1", "--per", "day"], "ORGANISATION/TEAM"),
    (["provider:alpa", "--amount", "1", "--per", "day"], "no provider"),
    (["model:gpt", "--amount", "1", "--per", "day"], "no model"),
    (["key:key_x", "--amount", "1", "--per", "day"], "no key"),
    (["organisation:acme", "--amount", "1", "--per", "day", "--tz", "Mars/Olympus"], "Mars/Olympus"),
    (["organisation:acme", "--amount", "1", "--per", "hour"], "hour"),
    (["organisation:acme", "--amount", "1", "--per", "day", "--id", "bud_none"], "no budget"),
])
def test_a_malformed_budget_is_refused_and_nothing_changes(make_sim, make_node, arguments, said):
    node = make_node(make_sim("alpha", models=["m"]))
    before = len(node.entries())
    result = node.cli("budget", "set", *arguments, check=False)
    assert result.returncode != 0 and said in result.stderr, result.stderr
    assert len(node.entries()) == before
