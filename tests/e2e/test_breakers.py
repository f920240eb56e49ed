"""Spend breakers: each kind trips against real processes, tells a webhook, and lets go again."""

import hashlib
import hmac
import http.server
import json
import os
import stat
import subprocess
import threading
import time

import pytest

from outlast_node import BIN, Node, Stream, question, request, wait_for

SECRET = "a-webhook-secret-of-the-tests"
# $15 a million output tokens: what makes a request dear or cheap here.
USD_PER_TOKEN = 15e-6


class Receiver:
    """A webhook's receiver as docs/breakers.md shows it. Answers with `statuses` first, then with 204."""

    def __init__(self, statuses=()):
        self.notices = []   # of deliveries whose signature holds
        self.attempts = []  # (delivery id, status)
        self.forged = []
        self.statuses = list(statuses)
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                timestamp = self.headers["x-outlast-timestamp"]
                expected = "v1=" + hmac.new(SECRET.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
                signed = hmac.compare_digest(expected, self.headers["x-outlast-signature"])
                if not signed or abs(time.time() - int(timestamp)) > 300:
                    receiver.forged.append(dict(self.headers))
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                receiver.attempts.append((self.headers["x-outlast-delivery"], status))
                if status == 204:
                    receiver.notices.append({**json.loads(body), "path": self.path})
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?team=ops"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, event, count=1):
        found = wait_for(
            lambda: (lambda got: got if len(got) >= count else None)([n for n in self.notices if n["event"] == event]),
            f"{count} notices of '{event}'", 30)
        assert self.forged == []
        return found[count - 1]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


def rule(name="r", scope="key:*", limit='window = { amount_usd = "0.002", window_s = 3600 }', **keys):
    lines = ["[[breaker]]", f'name = "{name}"', f'scope = "{scope}"', limit]
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


@pytest.fixture
def make_breakers(make_node, tmp_path):
    """A node with rules, that tells a receiver when there is one."""

    def make(*sims, rules, receiver=None, link_base="https://ops.example/outlast", extra="", **options):
        node = make_node(*sims, start=False, **options)
        (node.folder / "hook.secret").write_text(SECRET + "\n")
        text = "[breakers]\n" + (f'link_base = "{link_base}"\n' if link_base else "")
        if receiver is not None:
            text += f'notify = {{ url = "{receiver.url}", secret = {{ file = "hook.secret" }}, timeout_ms = 5000 }}\n'
        node.breaker_text = lambda more: text + extra + more
        set_rules(node, rules)
        return node.start()

    return make


def set_rules(node, rules):
    node.config_path.write_text(node.config_text() + node.breaker_text(rules))


def chat(node, key=None, text="What is the river's promise?", **fields):
    return node.post(question(text, **fields), key=key)


def spend_until(node, status, deadline_s=20, **fields):
    """Sends requests until one is refused with `status`; all before it pass."""

    def refused():
        answer = chat(node, **fields)
        assert answer.status in (200, status), answer
        return answer if answer.status == status else None

    return wait_for(refused, f"a request that is answered {status}", deadline_s)


def open_breakers(node):
    return json.loads(node.cli("breaker", "list", "--json").stdout)["breakers"]


def entries(node, kind):
    return [entry for entry in node.entries() if entry["kind"] == kind]


def metric(node, name):
    text = node_metrics(node)
    return int(next(line.split()[-1] for line in text.splitlines() if line.startswith(name + " ") or line.startswith(name + "{")))


def node_metrics(node):
    return request(node.admin_address, "GET", "/metrics")[2].decode()


def test_an_amount_in_a_window_holds_a_key_until_a_person_resets_it(alpha, make_breakers, receiver):
    node = make_breakers(alpha, rules=rule("daily"), receiver=receiver)
    made = node.create_key()
    refused = spend_until(node, 402, key=made["key"])
    (breaker,) = open_breakers(node)
    assert breaker["scope"] == "key:" + made["id"] and breaker["rule"] == "daily" and breaker["state"] == "open"
    error = refused.error
    assert error["code"] == "spend_breaker_open" and error["type"] == "insufficient_quota" and error["param"] is None
    assert error["breaker"] == breaker["id"]
    assert error["link"] == f"https://ops.example/outlast/breakers/{breaker['id']}"
    assert "'daily'" in error["message"] and breaker["why"] in error["message"] and error["link"] in error["message"]
    assert f"outlast breaker reset {breaker['id']} --reason" in error["message"]
    assert refused.headers["x-should-retry"] == "false"
    notice = receiver.wait_for("tripped")
    assert notice["breaker"] == breaker["id"] and notice["rule"] == "daily" and notice["link"] == error["link"]
    assert notice["path"] == "/hook?team=ops" and notice["node"] == "e2e" and notice["action"] == "hold"
    assert chat(node, key=node.key).status == 200  # another key is another scope

    missing = node.cli("breaker", "reset", breaker["id"], check=False)
    assert missing.returncode == 2 and "--reason" in missing.stderr
    node.cli("breaker", "reset", breaker["id"], "--reason", "it was a test", "--by", "ann")
    assert open_breakers(node) == []
    assert chat(node, key=made["key"]).status == 200
    assert receiver.wait_for("reset")["by"] == "ann"
    again = node.cli("breaker", "reset", breaker["id"], "--reason", "again", check=False)
    assert again.returncode == 4 and "outlast breaker list" in again.stderr

    (tripped,) = entries(node, "breaker_tripped")
    assert tripped["breaker"] == breaker["id"] and tripped["why"] == breaker["why"]
    (reset,) = entries(node, "breaker_reset")
    assert (reset["by"], reset["reason"], reset["allowance_pico_usd"]) == ("ann", "it was a test", "0")
    node.verify()
    assert metric(node, "outlast_spend_breaker_trips_total") == 1
    assert metric(node, "outlast_requests_spend_held_total") >= 1


def test_an_allowance_is_spent_before_it_trips_again(alpha, make_breakers):
    node = make_breakers(alpha, rules=rule())
    spend_until(node, 402)
    (breaker,) = open_breakers(node)
    node.cli("breaker", "reset", breaker["id"], "--reason", "a little more", "--allow", "0.004")
    before = alpha.stats()["requests"]
    spend_until(node, 402)
    spent = (alpha.stats()["requests"] - before) * 32 * USD_PER_TOKEN
    assert spent >= 0.004  # and no new window of 0.002 on top, but for what lanes had not reported yet
    assert [entry["allowance_pico_usd"] for entry in entries(node, "breaker_reset")] == [str(4 * 10**9)]
    node.verify()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_restart_keeps_a_hold(alpha, make_breakers, how):
    rules = rule("file") + rule("talk", limit='session = { max_amount_usd = "0.001" }')
    node = make_breakers(alpha, rules=rules)
    node.cli("breaker", "add", "made", "--scope", "key:*", "--repeats", "3", "--within", "1h", "--reason", "loops")
    for number in range(12):
        chat(node, text="again" if number < 6 else "other")
    wait_for(lambda: len(open_breakers(node)) >= 3, "all three breakers")
    wait_for(lambda: len(entries(node, "breaker_tripped")) >= 3, "their entries")
    before = {breaker["id"]: breaker["why"] for breaker in open_breakers(node)}
    getattr(node, how)()
    node.start()
    assert {breaker["id"]: breaker["why"] for breaker in open_breakers(node)} == before
    assert chat(node, text="again").status == 402
    (whole,) = [breaker for breaker in open_breakers(node) if breaker["rule"] == "file"]
    node.cli("breaker", "reset", whole["id"], "--reason", "seen")
    assert chat(node, text="again").status == 402       # the conversation and the request are known again
    assert chat(node, text="fresh").status == 200
    rules = json.loads(node.cli("breaker", "rules", "--json").stdout)["rules"]
    assert {(one["rule"]["name"], one["source"]) for one in rules} == {("file", "file"), ("talk", "file"), ("made", "api")}
    node.verify()


def test_a_rise_against_the_scopes_own_median_trips(make_sim, make_breakers, receiver):
    sim = make_sim("alpha", models=["m"], tokens=5000)
    limit = 'rate = { factor = 20, min_amount_usd = "0.05", sample_s = 1, history = 4 }'
    node = make_breakers(sim, rules=rule("rise", limit=limit), receiver=receiver)
    steady_until = time.monotonic() + 5
    while time.monotonic() < steady_until:  # a few samples of cheap requests
        assert chat(node, max_tokens=1).status == 200
    assert open_breakers(node) == []
    spend_until(node, 402, max_tokens=5000)
    assert "times its median" in receiver.wait_for("tripped")["why"]
    (breaker,) = open_breakers(node)
    node.cli("breaker", "reset", breaker["id"], "--reason", "a batch, on purpose")
    assert chat(node, max_tokens=1).status == 200


def test_a_conversation_that_costs_too_much_is_held_and_others_are_not(alpha, make_breakers, receiver):
    limit = 'session = { max_amount_usd = "0.002" }'
    node = make_breakers(alpha, rules=rule("talk", limit=limit), receiver=receiver)

    def turn(number, opening="Plan my trip."):
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": opening}]
        for one in range(number):
            messages += [{"role": "assistant", "content": f"answer {one}"}, {"role": "user", "content": f"more {one}"}]
        return node.post({"model": "smart", "messages": messages})

    turns = iter(range(1000))
    wait_for(lambda: turn(next(turns)).status == 402, "the conversation held")
    (breaker,) = open_breakers(node)
    assert breaker["session"].startswith("conversation ")
    assert receiver.wait_for("tripped")["session"] == breaker["session"]
    assert turn(3, "Another trip.").status == 200
    node.cli("breaker", "reset", breaker["id"], "--reason", "go on")
    assert turn(3).status == 200


def test_a_session_that_lasts_too_long_trips_and_half_opens_into_a_new_one(alpha, make_breakers, receiver):
    limit = "session = { max_duration_s = 2, idle_gap_s = 1 }"
    node = make_breakers(alpha, rules=rule("long", limit=limit, half_open_after_s=2), receiver=receiver)
    begun = time.monotonic()
    spend_until(node, 402)
    assert time.monotonic() - begun >= 2
    assert "it has lasted" in receiver.wait_for("tripped")["why"]
    wait_for(lambda: chat(node).status == 200, "the probe of the half-open breaker", 20)
    assert "half-open" in receiver.wait_for("closed")["reason"]
    assert open_breakers(node) == []


def test_identical_requests_are_held_and_others_pass(alpha, make_breakers, receiver):
    limit = "repeats = { count = 3, window_s = 2 }"
    node = make_breakers(alpha, rules=rule("loop", limit=limit, half_open_after_s=3), receiver=receiver)
    spend_until(node, 402, text="the same")
    assert receiver.wait_for("tripped")["session"].startswith("request ")
    assert chat(node, text="another").status == 200
    wait_for(lambda: chat(node, text="the same").status == 200, "the half-open breaker's probe", 20)
    receiver.wait_for("closed")
    (reset,) = entries(node, "breaker_reset")
    assert reset["by"] == "outlastd" and "satisfied again" in reset["reason"]


def test_half_open_opens_again_while_the_rule_is_broken(alpha, make_breakers, receiver):
    node = make_breakers(alpha, rules=rule("w", half_open_after_s=1), receiver=receiver)
    spend_until(node, 402)
    wait_for(lambda: chat(node).status == 200, "the first probe", 20)
    receiver.wait_for("tripped", 2)
    assert chat(node).status == 402
    assert len(entries(node, "breaker_tripped")) >= 2 and entries(node, "breaker_reset") == []
    node.verify()


def test_a_throttle_lets_some_pass_and_says_when(alpha, make_breakers):
    node = make_breakers(alpha, rules=rule("slow", action="throttle", requests_per_minute=30))
    refused = spend_until(node, 429)
    assert refused.error["code"] == "spend_breaker_throttled" and refused.error["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    begun = time.monotonic()
    wait_for(lambda: chat(node).status == 200, "the next request that passes", 20)
    wait_for(lambda: chat(node).status == 200, "the one after it", 20)
    assert time.monotonic() - begun >= 1.5  # two seconds apart, of which some had passed
    assert metric(node, "outlast_requests_spend_throttled_total") >= 1


def test_notify_stops_nothing_and_runs_the_command(alpha, make_breakers, receiver, tmp_path):
    told = tmp_path / "told.json"
    script = tmp_path / "on-breaker"
    script.write_text("#!/usr/bin/python3\nimport os, sys\n"
                      f"open({str(told) + '.part'!r}, 'w').write(sys.stdin.read() + repr((sys.argv[1:], sorted(os.environ),"
                      " sorted(os.listdir('/proc/self/fd'))[:8])))\n"
                      f"os.rename({str(told) + '.part'!r}, {str(told)!r})\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    os.environ["OUTLAST_E2E_LEAK"] = "must not be seen"
    try:
        node = make_breakers(alpha, rules=rule("tell", action="notify"), receiver=receiver,
                             extra=f'command = ["{script}", "--page", "a b"]\n')
    finally:
        del os.environ["OUTLAST_E2E_LEAK"]
    for _ in range(20):
        assert chat(node).status == 200
    text = wait_for(lambda: told.exists() and told.read_text(), "the command's file")
    line, rest = text.split("\n", 1)
    assert json.loads(line)["event"] == "tripped" and json.loads(line)["action"] == "notify"
    assert "['--page', 'a b']" in rest and "OUTLAST" not in rest and "PATH" not in rest
    assert receiver.wait_for("tripped")["breaker"] == json.loads(line)["breaker"]
    assert len(entries(node, "breaker_tripped")) == 1  # once, not with every request
    wait_for(lambda: 'outlast_spend_notices_total{outcome="command_done"} 1' in node_metrics(node), "the metric")


def test_a_delivery_is_tried_again_with_the_same_id(alpha, make_breakers):
    failing = Receiver(statuses=[503, 500])
    try:
        node = make_breakers(alpha, rules=rule(), receiver=failing)
        spend_until(node, 402)
        failing.wait_for("tripped")
        assert [status for _, status in failing.attempts] == [503, 500, 204]
        assert len({delivery for delivery, _ in failing.attempts}) == 1
        assert metric(node, "outlast_spend_webhook_retries_total") == 2
    finally:
        failing.close()


def test_a_delivery_that_the_receiver_refuses_is_given_up(alpha, make_breakers):
    refusing = Receiver(statuses=[400] * 9)
    try:
        node = make_breakers(alpha, rules=rule(), receiver=refusing)
        spend_until(node, 402)
        wait_for(lambda: 'outcome="webhook_failed"} 1' in node_metrics(node), "the delivery given up")
        assert [status for _, status in refusing.attempts] == [400]
    finally:
        refusing.close()


def test_a_running_stream_counts_before_its_end(make_sim, make_breakers):
    sim = make_sim("alpha", models=["m"], tokens=100000, tokens_per_s=300, chunk_tokens=10)
    node = make_breakers(sim, rules=rule(limit='window = { amount_usd = "0.01", window_s = 3600 }'))
    with Stream(node.http, question(), node.key) as stream:
        events = iter(stream)

        def held():
            next(events)
            return open_breakers(node)

        (breaker,) = wait_for(held, "a breaker that trips during the stream", 30)
        assert entries(node, "settle") == []  # it goes on
        assert chat(node, max_tokens=1).status == 402
    wait_for(lambda: entries(node, "settle"), "the stream's settlement")


def test_a_held_provider_is_left_out_of_the_plan(alpha, beta, make_breakers):
    node = make_breakers(alpha, beta, rules=rule("cap", scope="provider:alpha"),
                         deployments=[("d-alpha", "alpha", "gpt-sim", 1), ("d-beta", "beta", "claude-sim", 2)])
    wait_for(lambda: chat(node).deployment == "d-beta", "requests that go elsewhere")
    (breaker,) = open_breakers(node)
    assert breaker["scope"] == "provider:alpha"
    assert chat(node, model="gpt-sim").status == 402  # nobody else serves it


def test_the_client_actor_is_told_the_same(alpha, make_breakers):
    node = make_breakers(alpha, rules=rule())
    message = spend_until(node, 402).error["message"]
    described = json.loads((node.data / "node.json").read_text())
    asked = subprocess.run(
        [str(BIN / "outlast-ask"), "smart"], capture_output=True, text=True, timeout=30,
        env={**os.environ, "OUTLAST_ENDPOINT": "tcp://" + node.zmq, "OUTLAST_KEY": node.key,
             "OUTLAST_SERVER_KEY": described["zmq_public_key"]})
    assert asked.returncode == 1 and message in asked.stderr


def test_rules_by_command_line(alpha, make_breakers):
    node = make_breakers(alpha, rules=rule("file"), link_base=None)
    added = node.cli("breaker", "add", "made", "--scope", "user:*", "--window-usd", "0.001", "--window", "1h",
                     "--half-open-after", "10m", "--by", "ann", "--reason", "new team", "--json")
    assert json.loads(added.stdout)["window"] == {"amount_usd": "0.001", "window_s": 3600}
    assert "made" in node.cli("breaker", "rules").stdout
    refused = spend_until(node, 402)
    assert "user:acme/search/ann" in refused.error["message"]
    assert refused.error["link"].startswith(f"http://{node.admin_address}/admin/v1/breakers/brk_")
    shown = node.cli("breaker", "show", refused.error["breaker"], "--json")
    assert json.loads(shown.stdout)["rule"] == "made"
    node.cli("breaker", "remove", "made", "--reason", "not needed")
    assert chat(node).status == 200 or open_breakers(node)[0]["rule"] == "file"
    kinds = [(entry["rule"], entry["by"], bool(entry["definition"])) for entry in entries(node, "breaker_rule")]
    assert kinds[0] == ("made", "ann", True) and kinds[1][0] == "made" and kinds[1][2] is False
    node.verify()


@pytest.mark.parametrize("arguments, says", [
    (["add", "x", "--scope", "user:acme/a/b", "--action", "hold"], "has no limit"),
    (["add", "x", "--scope", "planet:earth", "--window-usd", "1", "--window", "1h"], "KIND:VALUE"),
    (["add", "x", "--scope", "key:*", "--window-usd", "1.0000000000001", "--window", "1h"], "12"),
    (["add", "x", "--scope", "key:*", "--window-usd", "-1", "--window", "1h"], "not more than nothing"),
    (["add", "x", "--scope", "key:*", "--window-usd", "1", "--window", "soon"], "90s, 30m, 10h or 7d"),
    (["add", "x", "--scope", "key:*", "--window-usd", "1"], "window_s"),
    (["add", "x", "--scope", "key:*", "--repeats", "3", "--within", "1h", "--action", "throttle"], "requests_per_minute"),
    (["add", "x y", "--scope", "key:*", "--repeats", "3", "--within", "1h"], "A-Z a-z 0-9"),
    (["add", "file", "--scope", "key:*", "--repeats", "3", "--within", "1h"], "configuration has a rule 'file'"),
    (["remove", "file"], "remove it there"),
    (["remove", "nothing"], "outlast breaker rules"),
    (["show", "brk_nothing"], "outlast breaker list"),
    (["reset", "brk_nothing", "--reason", "r"], "outlast breaker list"),
    (["reset", "brk_nothing", "--reason", "r", "--allow", "much"], "much"),
])
def test_bad_commands_say_what_would_be_right_and_change_nothing(breaker_node, arguments, says):
    result = breaker_node.cli("breaker", *arguments, check=False)
    assert result.returncode != 0 and says in result.stderr, result.stderr
    assert result.stderr.count("\n") == 1
    assert [one["rule"]["name"] for one in json.loads(breaker_node.cli("breaker", "rules", "--json").stdout)["rules"]] == ["file"]


@pytest.fixture(scope="module")
def breaker_node(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("breakers"), [])
    node.config_path.write_text("\n".join(
        line for line in node.config_text().splitlines() if not line.startswith(("[[route", 'name = "smart"', "deployments")))
        + "\n" + rule("file"))
    node.start()
    yield node
    node.kill()


def test_a_reload_takes_new_rules_and_closes_what_has_none_any_more(alpha, make_breakers):
    node = make_breakers(alpha, rules=rule("one") + rule("two", scope="team:*", action="notify"))
    spend_until(node, 402)
    wait_for(lambda: len(open_breakers(node)) == 2, "both breakers")
    set_rules(node, rule("two", scope="team:*", action="throttle", requests_per_minute=1))
    node.cli("config", "reload")
    (breaker,) = open_breakers(node)
    assert breaker["rule"] == "two" and breaker["action"] == "throttle"
    spend_until(node, 429)
    (closed,) = entries(node, "breaker_reset")
    assert closed["reason"] == "its rule was removed"
    node.verify()


def test_errors_in_the_file_name_line_and_key(alpha, make_breakers):
    node = make_breakers(alpha, rules=rule())
    set_rules(node, rule("bad", limit='window = { amount_usd = "0.1234567890123", window_s = 0 }', actoin="hold"))
    result = node.cli("config", "check", str(node.config_path), check=False)
    assert result.returncode == 1
    text = node.config_path.read_text().splitlines()
    line = next(number for number, one in enumerate(text, 1) if one.startswith("window"))
    assert f"outlast.toml:{line}: key 'breaker.window.amount_usd': " in result.stderr + result.stdout
    assert f"outlast.toml:{line}: key 'breaker.window.window_s': " in result.stderr + result.stdout
    assert f"outlast.toml:{line + 1}: key 'breaker.actoin': is not known; did you mean 'action'?" in result.stderr + result.stdout


def test_what_was_spent_before_a_restart_still_counts(alpha, make_breakers):
    node = make_breakers(alpha, rules=rule(limit='window = { amount_usd = "0.02", window_s = 3600 }'))
    for _ in range(36):
        assert chat(node).status == 200
    wait_for(lambda: len(entries(node, "settle")) == 36, "every settlement")
    node.kill()
    node.start()
    assert open_breakers(node) == []
    before = alpha.stats()["requests"]
    spend_until(node, 402)
    assert (alpha.stats()["requests"] - before) * 32 * USD_PER_TOKEN < 0.015  # not a whole window more


def test_a_named_session_and_a_tag_are_held_alone(alpha, make_breakers):
    rules = rule("run", limit='session = { max_amount_usd = "0.002" }') + rule("batch", scope="tag:batch")
    node = make_breakers(alpha, rules=rules)

    def ask(number, **labels):
        headers = {"x-outlast-" + name: value for name, value in labels.items()}
        return node.post(question(f"question {number}"), headers=headers).status

    numbers = iter(range(1000))
    wait_for(lambda: ask(next(numbers), session="nightly") == 402, "the session held, whatever it talks about")
    assert open_breakers(node)[0]["session"] == "session nightly"
    assert ask(next(numbers), session="daily") == 200
    wait_for(lambda: ask(next(numbers), tags="batch,blue", session=f"s{next(numbers)}") == 402, "the tag held")
    assert ask(next(numbers), tags="blue") == 200
    node.kill()
    node.start()
    assert ask(next(numbers), session="nightly") == 402 and ask(next(numbers), tags="batch") == 402
