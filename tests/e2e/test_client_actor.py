"""The client actor, by the example service that uses it: Cap'n Proto over ZeroMQ with CURVE."""

import json
import os
import subprocess

import pytest

from outlast_node import BIN, Load, wait_for


def ask(node, *arguments, environment=None, key=None):
    described = json.loads((node.data / "node.json").read_text())
    return subprocess.run(
        [str(BIN / "outlast-ask"), *arguments], capture_output=True, text=True, timeout=30,
        env={**os.environ, "OUTLAST_ENDPOINT": "tcp://" + node.zmq, "OUTLAST_KEY": key or node.key,
             "OUTLAST_SERVER_KEY": described["zmq_public_key"], **(environment or {})})


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_the_example_service_gets_the_answer_that_http_gets(make_sim, make_node, dialect):
    sim = make_sim("alpha", dialect=dialect, models=["m"])
    node = make_node(sim)
    result = ask(node, "smart")
    assert result.returncode == 0, result.stderr
    # It asks twice: for a whole answer and for a stream.
    assert result.stdout.splitlines() == [node.chat("Say hello.").text, node.chat("Count to ten.").text]
    wait_for(lambda: sum(row["requests"] for row in node.usage()["rows"]) == 4, "all requests in the usage report")


def test_a_wrong_virtual_key_gets_no_answer(alpha, make_node):
    node = make_node(alpha)
    assert ask(node, "smart", key="ol_wrong").returncode != 0
    assert alpha.stats()["requests"] == 0


def test_the_client_actor_is_served_while_a_provider_is_gone(alpha, beta, make_node):
    node = make_node(alpha, beta)
    alpha.kill()
    for _ in range(4):
        assert ask(node, "smart").returncode == 0


def test_the_client_actor_is_served_under_http_load(alpha, make_node):
    node = make_node(alpha)
    with Load(node, threads=8) as load:
        load.wait_for_more(50)
        assert ask(node, "smart").returncode == 0
    assert load.failed == []
