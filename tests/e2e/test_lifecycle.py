"""Start, drain, reload, disconnection, and data that cannot be used."""

import json
import signal
import subprocess

import pytest

from outlast_node import BIN, request, wait_for


@pytest.fixture
def paced(make_sim):
    """A provider whose streams last a second and a half."""
    return make_sim("alpha", models=["gpt-sim"], tokens=60, tokens_per_s=40)


def test_the_ready_line_names_every_listener_and_health_answers(alpha, make_node):
    node = make_node(alpha)
    assert set(node.daemon.addresses) == {"http", "admin", "zmq"}
    for address in (node.http, node.admin_address):
        assert request(address, "GET", "/healthz")[0] == 200
        assert request(address, "GET", "/readyz")[0] == 200
    metrics = request(node.admin_address, "GET", "/metrics")[2].decode()
    assert "outlast_" in metrics
    described = json.loads((node.data / "node.json").read_text())
    assert described["pid"] == node.daemon.pid
    assert (node.data / "admin.token").stat().st_mode & 0o777 == 0o600


def test_a_cold_start_is_quick(alpha, make_node):
    times = []
    for number in range(5):
        node = make_node(alpha, name=f"node-{number}")
        times.append(node.daemon.ready_s)
        node.stop()
    print(f"cold start: {min(times) * 1000:.0f}–{max(times) * 1000:.0f} ms")
    assert min(times) < 2  # a sane bound; the goal of 100 ms is the benchmark's to show


def test_sigterm_lets_the_running_stream_finish_and_refuses_new_requests(paced, make_node):
    node = make_node(paced)
    key = node.key
    with node.stream() as stream:
        next(iter(stream))
        node.daemon.child.send_signal(signal.SIGTERM)
        wait_for(lambda: refused(node, key), "new requests to be refused")
        answer = stream.rest()
    assert answer.done and answer.clean
    assert len(answer.text.split()) >= 59
    assert node.daemon.wait() == 0
    node.start()
    assert not node.settlement_of(answer.request_id)["estimated"]


def refused(node, key):
    try:
        body = {"model": "smart", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        return node.post(body, key=key).status == 503
    except OSError:
        return True


@pytest.mark.parametrize("how", ["signal", "command"])
def test_a_reload_adds_a_route_without_dropping_an_open_stream(paced, make_node, how):
    node = make_node(paced)
    assert node.chat(model="added", max_tokens=1).status == 404
    with node.stream() as stream:
        next(iter(stream))
        node.write_config(routes={"smart": ["alpha-gpt-sim"], "added": ["alpha-gpt-sim"]})
        if how == "signal":
            node.daemon.child.send_signal(signal.SIGHUP)
        else:
            node.cli("config", "reload")
        wait_for(lambda: node.chat(model="added", max_tokens=1).status == 200, "the new route")
        answer = stream.rest()
    assert answer.done and answer.clean


def test_a_bad_reload_changes_nothing_and_says_why(alpha, make_node):
    node = make_node(alpha)
    node.config_path.write_text(node.config_text().replace("[node]", "[node]\ncolour = 1"))
    result = node.cli("config", "reload", check=False)
    assert result.returncode != 0
    assert "colour" in result.stdout + result.stderr
    assert node.chat().status == 200


def test_a_caller_that_disconnects_in_mid_stream_is_still_charged(paced, make_node):
    node = make_node(paced)
    with node.stream() as stream:
        request_id = stream.headers["x-outlast-request-id"]
        events = iter(stream)
        for _ in range(5):
            next(events)
    settled = node.settlement_of(request_id)
    assert settled["estimated"]
    assert int(settled["cost_pico_usd"]) > 0
    wait_for(lambda: paced.stats()["cancelled"] == 1, "the provider's stream to be cancelled")


def test_a_route_that_drains_reads_the_exact_usage_after_a_disconnect(paced, make_node):
    node = make_node(paced, policy="drain_on_disconnect = true")
    with node.stream() as stream:
        request_id = stream.headers["x-outlast-request-id"]
        next(iter(stream))
    settled = node.settlement_of(request_id)
    assert not settled["estimated"]
    assert int(settled["cost_pico_usd"]) == 5 * 3_000_000 + 60 * 15_000_000
    assert paced.stats()["cancelled"] == 0


def test_a_second_daemon_on_the_same_data_is_refused(alpha, make_node):
    node = make_node(alpha)
    status, output = node.start_expecting_failure()
    assert status != 0
    assert str(node.data) in output
    assert node.chat().status == 200


@pytest.mark.parametrize("damage", ["CURRENT", "MANIFEST"])
def test_a_corrupt_store_is_refused_and_the_file_named(alpha, make_node, damage):
    node = make_node(alpha)
    assert node.chat().status == 200
    node.stop()
    files = [path for path in node.data.rglob("*") if path.is_file() and path.name.startswith(damage)]
    assert files, list(node.data.rglob("*"))
    files[0].write_bytes(b"\x00garbage\x00" * 8)
    status, output = node.start_expecting_failure()
    assert status != 0
    assert damage in output or str(files[0]) in output


def test_config_check_names_file_line_key_and_remedy(alpha, make_node):
    node = make_node(alpha, start=False)
    path = node.config_path
    environment = {"OUTLAST_E2E_KEY": "sk-sim", "PATH": "/usr/bin"}

    def check():
        return subprocess.run([str(BIN / "outlast"), "config", "check", str(path)], capture_output=True, text=True,
                              timeout=10, env=environment)

    assert check().returncode == 0
    good = path.read_text()
    for old, new, expected in (
        ('dialect = "openai"', 'dialect = "opena"', ["opena", "openai"]),
        ('provider = "alpha"', 'provider = "alphe"', ["alphe", "alpha"]),
        ("lanes = 1", "lanes = 1\nlane = 2", ["lane"]),
        ('data = ', 'date = ', ["date", "data"]),
    ):
        path.write_text(good.replace(old, new, 1))
        result = check()
        assert result.returncode != 0
        output = result.stdout + result.stderr
        line = 1 + good[:good.index(old)].count("\n")
        assert f"{path}:{line}" in output or f"{path}:{line + 1}" in output, output
        assert all(word in output for word in expected), output


def test_a_daemon_with_a_bad_configuration_says_so_and_does_not_start(alpha, make_node):
    node = make_node(alpha, start=False)
    node.config_path.write_text(node.config_text() + "\n[colour]\nred = 1\n")
    status, output = node.start_expecting_failure()
    assert status == 2 and "colour" in output


@pytest.mark.parametrize("words", [[], ["--config"], ["--colour", "red"]], ids=["none", "no-file", "unknown"])
def test_wrong_options_end_with_2_so_that_no_supervisor_tries_again(words):
    done = subprocess.run([str(BIN / "outlastd"), *words], capture_output=True, text=True, timeout=10)
    assert done.returncode == 2, done.stderr


def test_a_taken_port_ends_with_1_since_it_may_be_free_later(alpha, make_node):
    node = make_node(alpha)
    other = make_node(alpha, name="other", start=False)
    other.config_path.write_text(other.config_text().replace('listen = "127.0.0.1:0"', f'listen = "{node.admin_address}"', 1))
    status, output = other.start_expecting_failure()
    assert status == 1, output
