"""kill -9 of the daemon under load: what a caller saw completed is in the ledger, exactly once."""

import collections
import os
import random

from outlast_node import Load, question

ROUNDS = int(os.environ.get("OUTLAST_CRASH_ROUNDS", "50"))
SEED = int(os.environ.get("OUTLAST_CRASH_SEED", "20261101"))


def ends_by_request(entries):
    """How many entries ended the reservation of each request, and which requests were reserved."""
    ends = collections.Counter()
    reserved = set()
    for entry in entries:
        if entry["kind"] == "reserve":
            reserved.add(entry["request_id"])
        elif entry["kind"] in ("settle", "void"):
            ends[entry["request_id"]] += 1
    return ends, reserved


def test_every_completed_request_is_in_the_ledger_exactly_once_after_each_kill(make_sim, make_node):
    moments = random.Random(SEED)
    alpha = make_sim("alpha", dialect="openai", models=["a"], tokens=8, first_token_ms=4)
    beta = make_sim("beta", dialect="anthropic", models=["b"], tokens=8)
    node = make_node(alpha, beta)
    first = 0
    completed = set()
    in_doubt = 0
    for number in range(ROUNDS):
        with Load(node, threads=8, bodies=[question(), question(stream=True)]) as load:
            load.wait_for_more(moments.randrange(1, 60))
            node.kill()
        node.start()
        node.verify()
        entries = node.entries(first)
        ends, reserved = ends_by_request(entries)
        lost = [answer.request_id for answer in load.completed if ends[answer.request_id] != 1]
        assert lost == [], f"round {number} of seed {SEED}: completed, but not exactly once in the ledger"
        assert all(ends[request] == 1 for request in reserved), f"round {number}: a reservation has no end, or two"
        in_doubt += sum(entry.get("status") == "in_doubt" for entry in entries)
        completed.update(answer.request_id for answer in load.completed)
        first = entries[-1]["index"] + 1
    ends, _ = ends_by_request(node.entries())
    assert all(ends[request] == 1 for request in completed)
    # The kills did hit requests under way.
    assert len(completed) >= ROUNDS and in_doubt >= ROUNDS // 5
    print(f"{ROUNDS} kills: {len(completed)} requests completed, {in_doubt} were in doubt")


def test_what_was_in_doubt_is_settled_as_estimated(make_sim, make_node):
    alpha = make_sim("alpha", models=["a"], tokens=200, tokens_per_s=50)
    node = make_node(alpha)
    with node.stream() as stream:
        request_id = stream.headers["x-outlast-request-id"]
        next(iter(stream))
        node.kill()
    node.start()
    settled = node.settlement_of(request_id)
    assert settled["estimated"]
    assert int(settled["cost_pico_usd"]) > 0
    node.verify()
