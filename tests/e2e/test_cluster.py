"""Several nodes as real processes that work as one: keys, budgets, failover, draining, wiped disks, cut links."""

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request

import pytest

import history
from cluster import IDENTITY, LEASE_TTL_S, SECRETS, Cluster, load, why_no_cluster
from outlast_node import BIN, question, request, wait_for

pytestmark = pytest.mark.skipif(bool(why_no_cluster()), reason=why_no_cluster() or "a cluster can run here")
needs_namespaces = pytest.mark.skipif(bool(why_no_cluster(True)), reason=why_no_cluster(True) or "links can be cut here")

FAILOVER_S = 2 * LEASE_TTL_S + 1
REST_S = 60
HANDOVER_S = 6
USD = 10**12


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One cluster for the tests that leave it whole."""
    with Cluster(tmp_path_factory.mktemp("cluster"), sim_options={"tokens": 8}) as cluster:
        yield cluster.start()


@pytest.fixture
def cluster(shared):
    shared.heal()
    return shared


@pytest.fixture
def cut_cluster(tmp_path):
    with Cluster(tmp_path, in_namespaces=True, sim_options={"tokens": 8}) as cluster:
        yield cluster.start()


def key_of(cluster, tenant, node=None):
    return (node or cluster.any()).create_key(tenant)


def ask(node, key, **fields):
    return node.post(question(max_tokens=16, **fields), key, timeout=30)


def settled(cluster):
    wait_for(cluster.at_rest, "all replicas are equal and nothing is open", REST_S)


def shard_of(cluster, key):
    """The shard that the key's requests are entered in."""
    node = cluster.any()
    answer = ask(node, key)
    assert answer.status == 200, answer

    def found():
        return next((shard for shard in node.owners() if shard != "control" and any(
            entry["request_id"] == answer.request_id for entry in node.shard_entries(shard))), None)
    return wait_for(found, "the request's entries")


def test_a_key_made_at_one_node_is_good_at_all_within_a_second_and_ends_at_all(cluster):
    first, *others = cluster
    made = key_of(cluster, "acme/search/ann", first)
    for node in others:
        wait_for(lambda: ask(node, made["key"]).status == 200, f"{node.name} knows the key", 1.0)
    others[0].cli("key", "revoke", made["id"])
    for node in cluster:
        wait_for(lambda: ask(node, made["key"]).status == 401, f"{node.name} refuses the key", 1.0)


def test_every_node_has_every_request_once(cluster):
    key = key_of(cluster, "birch/team/user")["key"]
    for node in cluster:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} knows the key")
    asked = [ask(node, key) for node in list(cluster) * 10]
    assert all(answer.status == 200 for answer in asked)
    settled(cluster)
    ledgers = cluster.ledgers()
    requests = [history.Request(number, "any", "birch", 0.0, 0.0, history.ANSWERED, answer.request_id, 200,
                                answer.json["usage"]["prompt_tokens"], answer.json["usage"]["completion_tokens"])
                for number, answer in enumerate(asked)]
    assert history.check(requests, ledgers) == []
    assert {name: set(shards) for name, shards in ledgers.items()} == dict.fromkeys(ledgers, set(ledgers["n1"]))


def test_reports_read_the_ledgers_of_all_shards(cluster, tmp_path):
    for tenant in ("ash", "birch", "elm", "fir"):
        key = key_of(cluster, f"{tenant}/team/user")["key"]
        wait_for(lambda: ask(cluster.any(), key).status == 200, "the node knows the key")
    settled(cluster)
    prices = tmp_path / "prices.toml"
    prices.write_text('version = "cheap"\n[[price]]\nprovider = "*"\nmodel = "*"\ninput = "1"\noutput = "5"\n')
    node = cluster.any()
    usage = json.loads(node.cli("usage", "--json").stdout)["total"]
    assert usage["attempts"] >= 4
    repriced = json.loads(node.cli("reprice", "--since", "1d", "--with", str(prices), "--json").stdout)["total"]
    assert repriced["attempts"] == usage["attempts"]


def test_a_hard_budget_holds_over_all_nodes(cluster):
    key = key_of(cluster, "cedar/team/user")["key"]
    for node in cluster:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} knows the key")
    amount = 30 * 16 * 15 * 10**6  # some thirty answers of the most tokens
    cluster.any().cli("budget", "set", "organisation:cedar", "--amount", f"{amount / USD:.12f}", "--per", "total")
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda number: ask(list(cluster)[number % 3], key), range(300)))
    assert {answer.status for answer in answers} == {200, 429}
    settled(cluster)
    assert history.check([], cluster.ledgers()) == []


def test_an_owner_that_is_killed_is_replaced_and_its_tenants_go_on(cluster):
    key = key_of(cluster, "dune/team/user")["key"]
    for node in cluster:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} knows the key")
    shard = shard_of(cluster, key)
    victim = cluster.owner_of(shard)
    victim.kill()
    began = time.monotonic()
    for node in cluster.others(victim.name):
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} answers again", FAILOVER_S)
    print(f"answers {time.monotonic() - began:.2f} s after the kill")
    wait_for(lambda: cluster.owner_of(shard) not in (None, victim), "the shard has another owner", 10)
    cluster.heal()
    assert ask(victim, key).status == 200
    settled(cluster)
    assert history.check([], cluster.ledgers()) == []


def test_an_owner_that_is_paused_for_three_leases_owns_nothing_when_it_wakes(cluster):
    key = key_of(cluster, "elm/team/user")["key"]
    for node in cluster:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} knows the key")
    shard = shard_of(cluster, key)
    victim = cluster.owner_of(shard)
    other = cluster.others(victim.name)[0]
    victim.pause()
    paused = time.monotonic()
    wait_for(lambda: other.owners().get(shard) not in (None, victim.name), "another owner", 3 * LEASE_TTL_S)
    while time.monotonic() < paused + 3 * LEASE_TTL_S:
        assert ask(other, key).status == 200
    victim.resume()
    wait_for(lambda: ask(victim, key).status == 200, "the victim answers again", 20)
    settled(cluster)
    assert history.check([], cluster.ledgers()) == []


def test_a_drained_node_owns_nothing_and_takes_shards_again_afterwards(cluster):
    victim = cluster["n2"]
    other = cluster["n1"]
    wait_for(lambda: "n2" in other.owners().values(), "n2 owns a shard", 30)
    other.cli("node", "drain", "n2")
    wait_for(lambda: "n2" not in other.owners().values() and len(other.owners()) == cluster.shards + 1,
             "n2 has handed its shards over", 30)
    # Load balancers are told at both listeners; who comes all the same is served.
    wait_for(lambda: not victim.ready() and request(victim.http, "GET", "/readyz")[0] == 503, "n2 asks for no callers")
    assert request(other.http, "GET", "/readyz")[0] == 200
    key = key_of(cluster, "drained/team/user", other)["key"]
    wait_for(lambda: ask(victim, key).status == 200, "n2 answers")
    other.cli("node", "undrain", "n2")
    wait_for(lambda: victim.ready() and request(victim.http, "GET", "/readyz")[0] == 200, "n2 asks for callers again")
    wait_for(lambda: "n2" in other.owners().values(), "n2 owns a shard again", 60)
    assert victim.running()


def copy_of(node, place, folder):
    """The same identity, with a data folder and addresses of its own."""
    node.cluster.network.add(place)
    (folder / "data").mkdir(mode=0o700)
    for name in IDENTITY:
        shutil.copy(node.data / name, folder / "data")
    text = node.config_path.read_text().replace(str(node.data), str(folder / "data"))
    for port in node.ports.values():
        text = text.replace(f":{port}", f":{node.cluster.network.port(place, port)}")
    (folder / "copy.toml").write_text(text)
    shutil.copy(node.config_path.parent / "prices.toml", folder)
    with open(folder / "copy.log", "wb") as log:
        return subprocess.Popen([str(BIN / "outlastd"), "--config", str(folder / "copy.toml")], stdout=log, stderr=log, env={**os.environ, **SECRETS})


def test_a_node_that_comes_back_at_another_address_is_found_there(cluster, tmp_path):
    victim = next(node for node in cluster if node.name != cluster.any().owners()["control"])
    other = next(node for node in cluster if node is not victim)
    victim.kill()
    moved = copy_of(victim, "moved", tmp_path)
    try:
        def written_down():
            assert moved.poll() is None, (tmp_path / "copy.log").read_text()
            endpoint = next(node["endpoint"] for node in json.loads(other.admin("GET", "cluster/nodes")[1])["nodes"] if node["name"] == victim.name)
            return f'listen = "{endpoint}"' in (tmp_path / "copy.toml").read_text()
        wait_for(written_down, "the control log has the new address", 30)
    finally:
        moved.kill()
        moved.wait()
    victim.start()
    settled(cluster)


@pytest.mark.parametrize("owns_control", [False, True])
def test_a_copy_of_a_nodes_identity_ends_the_node_or_itself_and_cuts_nobody_off(cluster, tmp_path, owns_control):
    settled(cluster)
    owner = cluster.any().owners()["control"]
    victim = next(node for node in cluster if (node.name == owner) == owns_control)
    other = next(node for node in cluster if node is not victim)
    copy = copy_of(victim, f"copy{owns_control:d}", tmp_path)
    try:
        # Who owns the control log is the one that would write the copy down.
        wait_for(lambda: not victim.running() or copy.poll() is not None, "one of the two ends", REST_S)
        assert victim.running() == owns_control, (tmp_path / "copy.log").read_text()
        assert owns_control or "identity_in_use" in victim.daemon.log()
    finally:
        copy.kill()
        copy.wait()
    if not owns_control:
        victim.start()
    key = key_of(cluster, f"copied{owns_control:d}/team/user", other)["key"]
    wait_for(lambda: ask(victim, key).status == 200, "the node answers again", REST_S)
    settled(cluster)
    assert history.check([], cluster.ledgers()) == []


def test_nodes_that_place_other_numbers_of_replicas_are_a_problem(cluster):
    odd, other = cluster["n3"], cluster["n1"]
    text = odd.config_path.read_text()
    assert "replicas = 3" in text

    def restart(config):
        odd.kill()
        odd.config_path.write_text(config)
        odd.start()

    def problems():
        return [problem["what"] for problem in other.status()["problems"] if "replicas of each shard" in problem["what"]]
    assert problems() == []
    restart(text.replace("replicas = 3", "replicas = 2"))
    try:
        wait_for(lambda: problems() and problems()[0].startswith("node n3 places 2 replicas of each shard and this one 3: "), "the others say so", 10)
    finally:
        restart(text)
    wait_for(lambda: problems() == [], "it is mended", 10)
    settled(cluster)


def test_an_alarm_of_etcd_is_in_the_clusters_status(cluster):
    node, members = cluster.any(), cluster.etcd

    def alarm(action):
        url = f"{members.endpoints[0]}/v3/maintenance/alarm"
        data = json.dumps({"action": action, "memberID": 1, "alarm": "NOSPACE"}).encode()
        with urllib.request.urlopen(url, data, 10, context=members.client_context()) as answer:
            assert answer.status == 200

    def states():
        return [(member["healthy"], "NOSPACE" in member["why"]) for member in node.status()["etcd"]["members"]]
    alarm("ACTIVATE")
    try:
        wait_for(lambda: states() == [(False, True)] * 3, "every member's alarm is told", 30)
    finally:
        alarm("DEACTIVATE")
    wait_for(lambda: states() == [(True, False)] * 3, "all members are well again", 30)
    settled(cluster)


def test_a_wiped_node_comes_back_with_all_entries(cluster):
    victim = cluster["n3"]
    victim.kill()
    victim.wipe()
    victim.start()
    settled(cluster)
    ledgers = cluster.ledgers()
    assert set(ledgers["n3"]) == set(ledgers["n1"])
    assert history.check([], ledgers) == []


def test_a_rolling_restart_under_load_fails_no_request(cluster):
    key = key_of(cluster, "fir/team/user")["key"]
    for node in cluster:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} knows the key")
    with load(cluster, lambda node: ask(node, key)) as answered:
        for node in cluster:
            before = len(answered)
            node.stop()
            node.start()
            wait_for(lambda: len(answered) > before + 30, "requests go on", 30)
    settled(cluster)
    assert history.check([], cluster.ledgers()) == []


def test_a_member_of_etcd_that_dies_is_not_noticed_by_callers(cluster):
    key = key_of(cluster, "gorse/team/user")["key"]
    for node in cluster:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} knows the key")
    leader = cluster.etcd.leader()
    cluster.etcd.kill(leader.name)
    for node in list(cluster) * 5:
        assert ask(node, key).status == 200
    cluster.heal()


def test_status_names_nodes_owners_and_members(cluster):
    status = cluster.any().status()
    assert [node["name"] for node in status["nodes"]] == ["n1", "n2", "n3"]
    wait_for(lambda: all(shard["owner"] for shard in cluster.any().status()["shards"]), "every shard has an owner", 20)
    assert {shard["shard"] for shard in status["shards"]} == {"control", *map(str, range(cluster.shards))}
    assert len(status["etcd"]["members"]) == 3
    table = cluster.any().cli("cluster", "status").stdout
    assert all(word in table for word in ("n1", "n2", "n3", "control", "ETCD"))


def test_metrics_say_when_certificates_end(cluster):
    text = request(cluster["n1"].admin_address, "GET", "/metrics")[2].decode()
    ends = dict(re.findall(r'^outlast_certificate_end_seconds\{file="[^"]*/([^/"]+)"\} (\d+)$', text, re.M))
    assert {name: round((int(end) - time.time()) / 86_400) for name, end in ends.items()} == {"node-n1.crt": 825, "ca.crt": 3650}


def test_owners_count_how_long_their_batches_took(cluster):
    ask(cluster.any(), key_of(cluster, "hazel/tools/ci")["key"])

    def counted():
        text = "".join(request(node.admin_address, "GET", "/metrics")[2].decode() for node in cluster)
        def total(row):
            return sum(int(number) for number in re.findall(rf"^outlast_shard_commit_microseconds{row} (\d+)$", text, re.M))
        batches = total(r"_count\{[^}]*\}")
        return batches > 0 and total(r'_bucket\{[^}]*le="\+Inf"\}') == batches and total(r"_sum\{[^}]*\}") > batches
    wait_for(counted, "owners count their batches")


@needs_namespaces
def test_a_node_that_is_cut_off_spends_its_slices_then_refuses_and_no_cap_is_exceeded(cut_cluster):
    cluster = cut_cluster
    key = key_of(cluster, "acme/team/user")["key"]
    amount = 400 * 16 * 15 * 10**6
    cluster.any().cli("budget", "set", "organisation:acme", "--amount", f"{amount / USD:.12f}", "--per", "total")
    for node in cluster:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} knows the key")
        for _ in range(5):
            assert ask(node, key).status == 200  # and so has a slice
    cluster.cut_node("n3")
    alone = cluster["n3"]
    answers = []

    def refused():
        answers.append(ask(alone, key))
        return answers[-1].status == 503
    wait_for(refused, "the node that is cut off refuses", 60)
    others = cluster.others("n3")
    for node in others:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} answers", FAILOVER_S)
    cluster.heal()
    wait_for(lambda: ask(alone, key).status == 200, "the node that was cut off answers again", 30)
    settled(cluster)
    requests = [history.Request(number, "n3", "acme", 0.0, 0.0, history.ANSWERED, answer.request_id, 200,
                                answer.json["usage"]["prompt_tokens"], answer.json["usage"]["completion_tokens"])
                for number, answer in enumerate(answers) if answer.status == 200]
    assert history.check(requests, cluster.ledgers()) == []


@needs_namespaces
def test_what_a_node_answered_while_it_was_cut_off_is_handed_over_soon_after(cut_cluster):
    cluster = cut_cluster
    key = key_of(cluster, "acme/team/user")["key"]
    for node in cluster:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} knows the key")
    alone = next(node for node in cluster if node is not cluster.owner_of(shard_of(cluster, key)))
    cluster.cut_node_from_nodes(alone.name)
    began = time.monotonic()

    def served_alone():
        # Longer than a link may be silent: it is down then, and a dead connection has to be made anew.
        assert ask(alone, key).status == 200
        return alone.has_spool() and time.monotonic() > began + 5
    wait_for(served_alone, "the node answers by itself", 30)
    cluster.heal()
    wait_for(lambda: not alone.has_spool(), "it has handed over what it answered", HANDOVER_S)
    settled(cluster)
    assert history.check([], cluster.ledgers()) == []


@needs_namespaces
def test_an_owner_that_is_cut_from_etcd_is_replaced_and_serves_on_by_the_others(cut_cluster):
    cluster = cut_cluster
    key = key_of(cluster, "acme/team/user")["key"]
    for node in cluster:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} knows the key")
    shard = shard_of(cluster, key)
    victim = cluster.owner_of(shard)
    cluster.cut_node_from_etcd(victim.name)
    other = cluster.others(victim.name)[0]
    wait_for(lambda: other.owners().get(shard) not in (None, victim.name), "another owner", 10)
    for node in cluster:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} answers", 20)
    cluster.heal()
    settled(cluster)
    assert history.check([], cluster.ledgers()) == []
