"""Stores of a cluster's shards that cannot be opened."""

import fcntl

import pytest

import history
from cluster import Cluster, why_no_cluster
from outlast_node import question, request, wait_for

pytestmark = pytest.mark.skipif(bool(why_no_cluster()), reason=why_no_cluster() or "a cluster can run here")

REST_S = 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster"), sim_options={"tokens": 8}) as cluster:
        yield cluster.start()


def settled(cluster):
    wait_for(cluster.at_rest, "all replicas are equal and nothing is open", REST_S)


def store_of(node, shard):
    return node.data / "shards" / f"s{int(shard):03}" / "ledger"


def some_requests(cluster):
    for organisation in ("ash", "birch", "cedar", "dune", "elm"):
        key = cluster.any().create_key(f"{organisation}/team/user")["key"]
        for node in cluster:
            wait_for(lambda: node.post(question(max_tokens=16), key, timeout=30).status == 200, f"{node.name} answers")


def test_a_store_that_another_process_has_open_is_opened_when_it_is_free(cluster):
    some_requests(cluster)
    settled(cluster)
    victim = cluster["n2"]
    victim.stop()
    with open(store_of(victim, "1") / "LOCK", "r+b") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        victim.start()
        wait_for(lambda: [problem["shard"] for problem in victim.status()["problems"]] == ["1"], "the problem is told", 20)
        assert "PROBLEM" in victim.cli("cluster", "status").stdout
        assert "outlast_shards_not_opened 1\n" in request(victim.admin_address, "GET", "/metrics")[2].decode()
        assert "1" not in victim.ledger()
    wait_for(lambda: victim.status()["problems"] == [], "the store is open", 30)
    settled(cluster)
    assert set(victim.ledger()) == set(cluster["n1"].ledger())


def test_a_damaged_store_goes_aside_and_is_taken_anew(cluster):
    some_requests(cluster)
    settled(cluster)
    victim = cluster["n3"]
    victim.kill()
    store = store_of(victim, "2")
    (store / "CURRENT").write_bytes(b"no manifest")
    victim.start()
    settled(cluster)
    ledgers = cluster.ledgers()
    assert set(ledgers["n3"]) == set(ledgers["n1"])
    assert history.check([], ledgers) == []
    assert (store.parent / "ledger.damaged" / "CURRENT").read_bytes() == b"no manifest"
    assert victim.status()["problems"] == []
