"""Budgets of a tag, a model or a provider, and commitments: they concern all shards of a cluster, which hold parts of them."""

import concurrent.futures
import json
import time

import pytest

import history
from cluster import LEASE_TTL_S, Cluster, why_no_cluster
from outlast_node import question, wait_for

pytestmark = pytest.mark.skipif(bool(why_no_cluster()), reason=why_no_cluster() or "a cluster can run here")

USD = 10**12
MOST = 16 * 15 * 10**6  # what an answer of the most tokens costs, in pico-dollars
ORGANISATIONS = 8       # in several shards


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("crossing"), sim_options={"tokens": 8}) as cluster:
        yield cluster.start()


@pytest.fixture
def cluster(shared):
    shared.heal()
    return shared


def ask(node, key, tags):
    return node.post(question(max_tokens=16), key, headers={"x-outlast-tags": tags}, timeout=30)


def keys_of(cluster, prefix):
    keys = [cluster.any().create_key(f"{prefix}{number}/team/user")["key"] for number in range(ORGANISATIONS)]
    for node in cluster:
        for key in keys:
            wait_for(lambda: ask(node, key, "warm").status == 200, f"{node.name} knows the key")
    return keys


def ask_all(cluster, keys, count, tags):
    nodes = list(cluster)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda number: ask(nodes[number % 3], keys[number % len(keys)], tags), range(count)))


def budget_of(node, budget_id):
    budgets = json.loads(node.cli("budget", "list", "--json").stdout)["budgets"]
    return next(one for one in budgets if one["id"] == budget_id)


def settled(cluster):
    wait_for(cluster.at_rest, "all replicas are equal and nothing is open", 60)


def set_budget(cluster, scope, amount):
    made = cluster.any().cli("budget", "set", scope, "--amount", f"{amount / USD:.12f}", "--per", "total", "--json")
    return json.loads(made.stdout)["id"]


def test_a_hard_budget_of_a_tag_holds_over_all_shards_and_what_fits_is_served(cluster):
    keys = keys_of(cluster, "tagged")
    amount = 40 * MOST
    budget = set_budget(cluster, "tag:nightly", amount)
    answers = ask_all(cluster, keys, 120, "nightly")
    assert {answer.status for answer in answers} == {200, 429}
    # What is left is somewhere: each organisation finds it, though perhaps not at once.
    refused, number = 0, 0
    until = time.monotonic() + 90
    while refused < 2 * len(keys):
        assert time.monotonic() < until, "the budget is never used up"
        answer = ask(list(cluster)[number % 3], keys[number % len(keys)], "nightly")
        number += 1
        assert answer.status in (200, 429)
        refused = 0 if answer.status == 200 else refused + 1
    settled(cluster)
    ledgers = cluster.ledgers()
    assert history.check([], ledgers) == []
    worst_case = max(int(entry["amount_pico_usd"]) for shard in ledgers["n1"].values() for entry in shard
                     if entry["kind"] == "reserve" and "nightly" in entry["tags"])
    used = float(budget_of(cluster.any(), budget)["used_usd"]) * USD
    assert used <= amount
    assert amount - used < worst_case
    # Requests without the tag go on.
    assert all(answer.status == 200 for answer in ask_all(cluster, keys, 8, "other"))


def test_a_budget_of_a_model_outlives_the_owner_of_its_home(cluster):
    keys = keys_of(cluster, "modelled")
    model = "gpt-sim"
    budget = set_budget(cluster, f"model:{model}", 10_000 * MOST)
    assert {answer.status for answer in ask_all(cluster, keys, 48, "x")} == {200}
    victim = cluster["n2"]
    victim.kill()
    until = time.monotonic() + 2 * LEASE_TTL_S + 1
    alive = cluster.others("n2")
    for number, key in enumerate(keys):
        wait_for(lambda: ask(alive[number % 2], key, "x").status == 200, "it is served again", max(1.0, until - time.monotonic()))
    cluster.heal()
    assert {answer.status for answer in ask_all(cluster, keys, 48, "x")} == {200}
    settled(cluster)
    assert history.check([], cluster.ledgers()) == []
    before = float(budget_of(cluster.any(), budget)["used_usd"])
    assert before > 0
    statuses = [budget_of(node, budget)["used_usd"] for node in cluster]
    assert len(set(statuses)) == 1
    cluster.any().cli("budget", "remove", budget)


def test_a_commitment_is_drawn_by_all_shards_and_never_beyond_what_was_bought(cluster):
    keys = keys_of(cluster, "bulk")
    days = [time.strftime("%Y-%m-%d", time.gmtime(time.time() + day * 86400)) for day in (-1, 30)]
    made = cluster.any().cli("commitment", "add", "--provider", "sim", "--tokens", "1000", "--price", "1", "--from", days[0],
                             "--until", days[1], "--json")
    commitment = json.loads(made.stdout)["id"]

    def status(node):
        listed = json.loads(node.cli("commitment", "list", "--json").stdout)["commitments"]
        return next(one for one in listed if one["id"] == commitment)
    until = time.monotonic() + 60
    while float(status(cluster.any())["used"]) < 900:
        assert time.monotonic() < until, status(cluster.any())
        assert {answer.status for answer in ask_all(cluster, keys, 32, "bulk")} == {200}
    settled(cluster)
    assert float(status(cluster.any())["used"]) <= 1000
    assert history.check([], cluster.ledgers()) == []
    cluster.any().cli("commitment", "end", commitment)
    wait_for(lambda: status(cluster["n3"])["ended"], "the end is known everywhere")
