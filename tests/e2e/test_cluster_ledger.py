"""`outlast ledger` at the nodes of a cluster: running, stopped, and where a shard has no replica."""

import csv
import io
import json
import subprocess
import threading

import pytest

from cluster import Cluster, why_no_cluster
from outlast_node import ANSWER_DEADLINE_S, BIN, question, request, wait_for

pytestmark = pytest.mark.skipif(bool(why_no_cluster()), reason=why_no_cluster() or "a cluster can run here")

REST_S = 60


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Three nodes with two replicas of each shard, so that no node needs to have all; with a request of each of five organisations."""
    with Cluster(tmp_path_factory.mktemp("cluster"), sim_options={"tokens": 8}, shards=8, replicas=2) as cluster:
        yield cluster.start()


@pytest.fixture
def cluster(shared):
    shared.heal()
    for organisation in ("ash", "birch", "cedar", "dune", "elm"):
        key = shared.any().create_key(f"{organisation}/team/user")["key"]
        for node in shared:
            wait_for(lambda: node.post(question(max_tokens=16), key, timeout=30).status == 200, f"{node.name} answers")
    wait_for(shared.at_rest, "all replicas are equal and nothing is open", REST_S)
    return shared


def outlast(*arguments):
    return subprocess.run([str(BIN / "outlast"), *map(str, arguments)], capture_output=True, text=True, timeout=60)


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def by_shard(lines):
    """{shard: entries}."""
    shards = {}
    for line in lines:
        shards.setdefault(line["ledger_shard"], []).append(line)
    return shards


def replicas(node):
    """{shard: the nodes that have it}, as a node says."""
    return {shard["shard"]: {replica["node"] for replica in shard["replicas"] if replica["entries"] is not None}
            for shard in node.status()["shards"]}


def absent_at(node):
    """A shard without a replica at the node."""
    return next(shard for shard, nodes in replicas(node).items() if node.name not in nodes)


def any_that_lacks(cluster):
    """A node that has not all shards."""
    return next(node for node in cluster if any(node.name not in nodes for nodes in replicas(node).values()))


def test_an_export_has_every_entry_of_every_replica_and_names_what_is_elsewhere(cluster):
    for node in cluster:
        here = {shard for shard, nodes in replicas(node).items() if node.name in nodes}
        done = node.cli("ledger", "export")
        exported = by_shard(lines_of(done.stdout))
        assert set(exported) == here and "control" in here
        for shard, entries in exported.items():
            assert [entry["index"] for entry in entries] == list(range(len(entries)))
            # Nodes may have something to write by themselves meanwhile.
            assert entries == node.shard_entries(shard)[:len(entries)]
            assert entries == lines_of(node.cli("ledger", "export", "--shard", shard).stdout)[:len(entries)]
        for shard, nodes in replicas(node).items():
            assert (f"shard {shard} ({', '.join(sorted(nodes))})" in done.stderr) == (shard not in here)
    node = cluster.any()

    def csv_is_the_same():
        rows = csv.DictReader(io.StringIO(node.cli("ledger", "export", "--format", "csv").stdout))
        lines = lines_of(node.cli("ledger", "export").stdout)
        return [(row["ledger_shard"], row["index"], row["hash"]) for row in rows] == [
            (line["ledger_shard"], str(line["index"]), line["hash"]) for line in lines]
    wait_for(csv_is_the_same, "two exports of one moment")


def test_tail_shows_the_newest_of_all_shards_by_time_or_of_one(cluster):
    node = cluster.any()

    def newest_of_all():
        shown = lines_of(node.cli("ledger", "tail", "-n", "30", "--json").stdout)
        times = [line["time_ms"] for line in shown]
        assert len(shown) == 30 and times == sorted(times) and len({line["ledger_shard"] for line in shown}) > 1
        return times == sorted(line["time_ms"] for line in lines_of(node.cli("ledger", "export").stdout))[-30:]
    wait_for(newest_of_all, "a tail and an export of one moment")

    def newest_of_one():
        shown = lines_of(node.cli("ledger", "tail", "--shard", "control", "-n", "3", "--json").stdout)
        return len(shown) == 3 and shown == node.shard_entries("control")[-3:]
    wait_for(newest_of_one, "the last three of the control shard")
    assert node.cli("ledger", "tail", "--shard", "control", "-n", "1").stdout.startswith("control ")


def test_tail_follows_all_shards_of_a_node(cluster):
    node = cluster.any()
    command = [str(BIN / "outlast"), "--data", str(node.data), "ledger", "tail", "-n", "1", "--follow", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as tail:
        deadline = threading.Timer(ANSWER_DEADLINE_S, tail.kill)
        deadline.start()
        try:
            assert json.loads(tail.stdout.readline())
            made = node.create_key("hazel/team/user")
            found = next(line for line in map(json.loads, tail.stdout) if line.get("key_id") == made["id"])
            assert (found["ledger_shard"], found["kind"]) == ("control", "key_created")
            wait_for(lambda: node.post(question(max_tokens=16), made["key"]).status == 200, "an answer")
            found = next(line for line in map(json.loads, tail.stdout) if line["ledger_shard"] != "control")
            assert found["index"] > 0
        finally:
            deadline.cancel()
            tail.kill()


def test_verify_has_a_line_for_each_shard_and_a_sum(cluster):
    for node in cluster:
        here = {shard for shard, nodes in replicas(node).items() if node.name in nodes}
        report = json.loads(node.cli("ledger", "verify", "--json").stdout)
        assert report["ok"] and {row["shard"] for row in report["shards"]} == here
        assert report["entries"] == sum(row["entries"] for row in report["shards"])
        for row in report["shards"]:
            entries = node.shard_entries(row["shard"])
            assert row["ok"] and row["entries"] >= 1 and entries[row["entries"] - 1]["hash"] == row["head"]
        lines = node.cli("ledger", "verify").stdout.splitlines()
        assert len(lines) == len(here) + 1 and lines[-1].startswith(f"{len(here)} shards, ")
        assert all(any(line.startswith(f"shard {shard}: ") and " entries are whole; head " in line for line in lines) for shard in here)
        assert node.cli("ledger", "verify", "--shard", "control").stdout.startswith("shard control: ")


def test_a_shard_that_is_elsewhere_is_not_found_and_the_nodes_that_have_it_are_named(cluster):
    node = any_that_lacks(cluster)
    shard = absent_at(node)
    nodes = sorted(replicas(node)[shard])
    assert len(nodes) == 2
    for words in (["tail"], ["export"], ["verify"], ["backup", "/srv/nowhere"]):
        refused = node.cli("ledger", *words, "--shard", shard, check=False)
        assert refused.returncode == 4, refused
        assert f"no replica of shard {shard}; ask a node that has one: {', '.join(nodes)}" in refused.stderr
        assert cluster[nodes[0]].cli("ledger", "tail", "--shard", shard).stdout
        refused = node.cli("ledger", *words, "--shard", "8", check=False)
        assert refused.returncode == 4 and "there is no shard '8' here" in refused.stderr


def test_the_admin_api_says_what_is_wrong_with_a_shard(cluster):
    node = any_that_lacks(cluster)

    def refusal(method, path, body=None):
        headers = {"authorization": "Bearer " + node.token()}
        status, _, data = request(node.admin_address, method, "/admin/v1/" + path, body, headers)
        return status, json.loads(data)["error"]["message"]
    for method, path in (("GET", "ledger/entries"), ("POST", "ledger/verify")):
        assert refusal(method, f"{path}?shard={absent_at(node)}")[0] == 503
        assert refusal(method, f"{path}?shard=8") == (400, "there is no shard 8; the cluster's are control and 0 to 7")
        assert refusal(method, f"{path}?shard=s000")[0] == 400
    for asked in (("GET", "ledger/entries"), ("POST", "ledger/backup", {"folder": "/srv/nowhere"})):
        status, message = refusal(*asked)
        assert status == 400 and message.startswith("say which ledger: shard control, 0 and so on")
    assert refusal("GET", "ledger/heads")[0] == 409
    refused = node.cli("ledger", "heads", check=False)
    assert refused.returncode == 1 and "the shards of a cluster have no signed heads" in refused.stderr


def test_the_folder_of_a_stopped_node_is_read_as_the_running_node_was(cluster):
    node = cluster["n3"]
    exported = by_shard(lines_of(node.cli("ledger", "export").stdout))
    node.stop()
    folder = ["--data", node.data]
    from_folder = by_shard(lines_of(outlast("ledger", "export", *folder).stdout))
    assert set(from_folder) == set(exported)
    for shard, entries in exported.items():
        assert from_folder[shard][:len(entries)] == entries
    one = next(shard for shard in exported if shard != "control")
    assert lines_of(outlast("ledger", "export", *folder, "--shard", one).stdout) == from_folder[one]
    assert lines_of(outlast("ledger", "tail", *folder, "--shard", one, "-n", "2", "--json").stdout) == from_folder[one][-2:]
    assert len(outlast("ledger", "tail", *folder, "-n", "5").stdout.splitlines()) == 5
    report = json.loads(outlast("ledger", "verify", *folder, "--json").stdout)
    assert report["ok"] and report["entries"] == sum(map(len, from_folder.values()))
    for refused, words in ((outlast("ledger", "heads", *folder), "have no signed heads"),
                           (outlast("ledger", "export", *folder, "--shard", "77"), "there is no shard '77' here"),
                           (outlast("usage", *folder), "need a node that runs")):
        assert refused.returncode != 0 and words in refused.stderr


def test_a_damaged_replica_is_named_and_the_others_are_verified_all_the_same(cluster):
    node = cluster["n2"]
    node.kill()
    stores = sorted(node.data.glob("shards/s*/ledger"))
    (stores[0] / "CURRENT").write_bytes(b"no manifest")
    shard = str(int(stores[0].parent.name[1:]))
    done = outlast("ledger", "verify", "--data", node.data)
    assert done.returncode == 5
    assert f"replica is damaged of shard {shard};" in done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(stores) + 2  # the control shard, and the sum
    assert [line.startswith(f"shard {shard}: damaged") for line in lines].count(True) == 1
    report = json.loads(outlast("ledger", "verify", "--data", node.data, "--json").stdout)
    assert not report["ok"] and [row["shard"] for row in report["shards"] if not row["ok"]] == [shard]


def test_a_backup_of_a_running_node_has_its_shards_and_each_is_restored_and_read(cluster, tmp_path):
    node = cluster["n1"]
    here = {shard for shard, nodes in replicas(node).items() if node.name in nodes}
    made = json.loads(node.cli("ledger", "backup", str(tmp_path / "backups"), "--json").stdout)
    assert {row["shard"] for row in made["shards"]} == here
    again = node.cli("ledger", "backup", str(tmp_path / "backups"), "--shard", "control").stdout
    assert again.startswith(f"backup 2 in {tmp_path}/backups/control holds ")
    refused = outlast("ledger", "restore", tmp_path / "backups", "--data", tmp_path / "all")
    assert refused.returncode == 1 and "name one of them" in refused.stderr
    for row in made["shards"]:
        data = tmp_path / row["shard"]
        restored = outlast("ledger", "restore", tmp_path / "backups" / row["shard"], "--data", data)
        assert restored.returncode == 0, restored.stderr
        entries = lines_of(outlast("ledger", "export", "--data", data).stdout)
        expected = [{name: value for name, value in entry.items() if name != "ledger_shard"}
                    for entry in node.shard_entries(row["shard"])]
        assert len(entries) >= row["entries"] and entries == expected[:len(entries)]
        assert entries[row["entries"] - 1]["hash"] == row["head"]
    blocked = sorted(here)[0]
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / blocked).write_text("a file where a folder should be")
    partly = node.cli("ledger", "backup", str(tmp_path / "blocked"), "--json", check=False)
    assert partly.returncode == 1 and f"shard {blocked}: " in partly.stderr
    assert {row["shard"] for row in json.loads(partly.stdout)["shards"] if "error" not in row} == here - {blocked}
    refused = node.cli("ledger", "backup", str(node.data / "backups"), check=False)
    assert refused.returncode == 1 and "lies within the node's data" in refused.stderr
    refused = outlast("ledger", "restore", tmp_path / "backups" / "control", "--data", node.data)
    assert refused.returncode == 1 and "is of a node of a cluster" in refused.stderr
