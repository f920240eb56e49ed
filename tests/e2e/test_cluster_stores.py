"""Stores of a cluster's shards that cannot be opened."""

import fcntl
import re

import pytest

import history
from cluster import Cluster, ClusterNode, why_no_cluster
from outlast_node import question, request, wait_for

pytestmark = pytest.mark.skipif(bool(why_no_cluster()), reason=why_no_cluster() or "a cluster can run here")

REST_S = 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster"), sim_options={"tokens": 8}) as cluster:
        yield cluster.start()


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory):
    """A cluster whose logs in etcd are short."""
    with Cluster(tmp_path_factory.mktemp("trimmed"), sim_options={"tokens": 8}, settings={"trim_keep": 16}) as cluster:
        yield cluster.start()


def settled(cluster):
    wait_for(cluster.at_rest, "all replicas are equal and nothing is open", REST_S)


def store_of(node, shard):
    return node.data / "shards" / f"s{int(shard):03}" / "ledger"


def some_requests(cluster):
    for organisation in ("ash", "birch", "cedar", "dune", "elm"):
        key = cluster.any().create_key(f"{organisation}/team/user")["key"]
        for node in filter(ClusterNode.running, cluster):
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


def metrics(node):
    return request(node.admin_address, "GET", "/metrics")[2].decode()


def figures(node, name):
    """{shard: value} of a metric."""
    found = re.findall(rf'^{name}{{shard="(?:s0*)?(\w+)"}} (\d+)$', metrics(node), re.MULTILINE)
    return {shard: int(value) for shard, value in found}


def told_of(node, other):
    """What a node tells of the entries of another's replicas."""
    return {replica["entries"] for shard in node.status()["shards"] for replica in shard["replicas"] if replica["node"] == other}


def copied(node):
    """The shards that it has taken from a peer since it started."""
    log = node.daemon.log_path.read_text(errors="replace")
    return set(re.findall(r"checkpoint_taken.*?shard\W+(?:s0*)?(\w+)", log))


def trim_beyond(cluster, entries):
    """Load, until etcd has trimmed these shards' logs further than `entries`, {shard: entries}."""
    def is_trimmed():
        some_requests(cluster)
        reached = {}
        for node in filter(ClusterNode.running, cluster):
            for shard, value in figures(node, "outlast_shard_trimmed_entries").items():
                reached[shard] = max(value, reached.get(shard, 0))
        return all(reached.get(shard, 0) > end for shard, end in entries.items())
    wait_for(is_trimmed, "the logs are trimmed", 90)


def test_a_node_that_was_away_for_too_long_takes_copies_from_a_peer(trimmed):
    some_requests(trimmed)
    settled(trimmed)
    victim = trimmed["n3"]
    had = figures(victim, "outlast_shard_entries")
    busy = {shard for shard, entries in had.items() if shard != "control" and entries > 5}
    assert busy
    victim.kill()
    wait_for(lambda: told_of(trimmed["n1"], "n3") == {None}, "n1 has nothing heard of n3's replicas any more", 20)
    # What it may have applied after it was asked.
    had = {shard: max(figures(node, "outlast_shard_entries")[shard] for node in trimmed.others("n3")) for shard in busy}
    trim_beyond(trimmed, had)
    victim.start()
    settled(trimmed)
    assert busy <= copied(victim), victim.daemon.log()
    ledgers = trimmed.ledgers()
    assert ledgers["n3"] == ledgers["n1"]
    assert history.check([], ledgers) == []
