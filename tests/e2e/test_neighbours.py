"""Nodes of two neighbouring versions in one cluster: the daemon of the version before, and this one.

Run by scripts/neighbours, which builds the version before and names its programs in OUTLAST_PREVIOUS_BIN.
"""

import json
import os
import pathlib
import subprocess

import pytest

import history
from cluster import LEASE_TTL_S, Cluster, load, why_no_cluster
from outlast_node import BIN, question, wait_for

PREVIOUS = pathlib.Path(os.environ.get("OUTLAST_PREVIOUS_BIN", "/nonexistent"))
pytestmark = [
    pytest.mark.skipif(not (PREVIOUS / "outlastd").exists(), reason="scripts/neighbours builds the version before and runs this"),
    pytest.mark.skipif(bool(why_no_cluster()), reason=why_no_cluster() or "a cluster can run here"),
]
FORMAT_OF_ALLOTMENTS = 2


@pytest.fixture
def cluster(tmp_path):
    """Not started yet."""
    with Cluster(tmp_path, sim_options={"tokens": 8}) as made:
        yield made


def start(cluster, founder, joiners):
    """`founder`: the programs of n1; `joiners`: of the others."""
    first, *others = cluster
    first.programs = founder
    cluster.etcd.start()
    first.found().start()
    for node in others:
        node.programs = joiners
        node.join(first).start()


def ask(node, key):
    return node.post(question(max_tokens=16), key, timeout=30)


def settled(cluster):
    wait_for(cluster.at_rest, "all replicas are equal and nothing is open", 60)


def new_key(cluster, tenant, at):
    key = at.create_key(tenant)["key"]
    for node in cluster:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} knows the key")
    return key


def log_format(node):
    settings = json.loads(node.cli("cluster", "settings", "--json").stdout)
    return int(next((one["value"] for one in settings["settings"] if one["name"] == "log_format"), 1))


def exchange(node, programs):
    node.stop()
    node.programs = programs
    node.start()


def test_a_cluster_is_upgraded_node_by_node_under_load(cluster):
    start(cluster, PREVIOUS, PREVIOUS)
    first = cluster["n1"]
    key = new_key(cluster, "acme/team/user", first)
    with load(cluster, lambda node: ask(node, key)) as answered:
        for node in cluster:
            exchange(node, BIN)
            before = len(answered)
            wait_for(lambda: len(answered) > before + 20, "requests go on", 30)
            if node.name == "n2":
                # Two of this version, one of the version before: what that cannot read is not written.
                refused = node.cli("budget", "set", "tag:nightly", "--amount", "5", "--per", "total", check=False)
                assert refused.returncode != 0 and "upgrade" in refused.stderr
                assert log_format(node) < FORMAT_OF_ALLOTMENTS
    wait_for(lambda: log_format(first) == FORMAT_OF_ALLOTMENTS, "the log's format rises once all can read it")
    first.cli("budget", "set", "tag:nightly", "--amount", "5", "--per", "total")
    for node in cluster:
        assert ask(node, key).status == 200
    settled(cluster)
    assert history.check([], cluster.ledgers()) == []

    # There is no way back.
    victim = cluster["n3"]
    victim.stop()
    ended = subprocess.run(victim.network.command("n3", [str(PREVIOUS / "outlastd"), "--config", str(victim.config_path)]),
                           capture_output=True, text=True, timeout=60, env={**os.environ, "OUTLAST_E2E_KEY": "sk-sim"})
    assert ended.returncode != 0
    assert "log" in ended.stderr + ended.stdout and str(FORMAT_OF_ALLOTMENTS) in ended.stderr + ended.stdout


def test_nodes_of_both_versions_own_shards_and_take_over_from_each_other(cluster):
    start(cluster, PREVIOUS, BIN)
    old, *new = cluster
    for node in cluster:
        new_key(cluster, f"{node.name}/team/user", node)
    keys = [new_key(cluster, f"tenant{number}/team/user", new[0]) for number in range(6)]
    old.cli("budget", "set", "organisation:tenant0", "--amount", "5", "--per", "total")
    for victim in (old, new[0]):
        victim.kill()
        alive = cluster.others(victim.name)
        for key in keys:
            for node in alive:
                wait_for(lambda: ask(node, key).status == 200, f"{node.name} answers again", 2 * LEASE_TTL_S + 8)
        cluster.heal()
        assert all(ask(victim, key).status == 200 for key in keys)
    settled(cluster)
    assert history.check([], cluster.ledgers()) == []


def test_an_upgrade_can_be_taken_back_before_the_format_rises(cluster):
    start(cluster, PREVIOUS, PREVIOUS)
    key = new_key(cluster, "acme/team/user", cluster["n1"])
    with load(cluster, lambda node: ask(node, key)) as answered:
        for programs in (BIN, PREVIOUS):
            for name in ("n2", "n3"):
                exchange(cluster[name], programs)
                before = len(answered)
                wait_for(lambda: len(answered) > before + 20, "requests go on", 30)
    settled(cluster)
    assert history.check([], cluster.ledgers()) == []
