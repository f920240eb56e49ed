"""Spend breakers of a whole cluster: they trip by what all nodes spent, hold at all, and people are told once."""

import pytest

from cluster import LEASE_TTL_S, Cluster, why_no_cluster
from outlast_node import question, wait_for
from test_breakers import SECRET, USD_PER_TOKEN, Receiver, metric, open_breakers, rule

needs_namespaces = pytest.mark.skipif(bool(why_no_cluster(True)), reason=why_no_cluster(True) or "links can be cut here")
pytestmark = pytest.mark.skipif(bool(why_no_cluster()), reason=why_no_cluster() or "a cluster can run here")

TOKENS = 16
AMOUNT_USD = 60 * TOKENS * USD_PER_TOKEN  # of sixty answers: twenty from each node
TRIP_DEADLINE_S = 30


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


def sum_rule():
    return rule("sum", limit=f'window = {{ amount_usd = "{AMOUNT_USD:.6f}", window_s = 3600 }}')


@pytest.fixture
def cluster(tmp_path, receiver):
    with Cluster(tmp_path, sim_options={"tokens": TOKENS}) as made:
        for node in made:
            (node.folder / "hook.secret").write_text(SECRET + "\n")
            notify = f'notify = {{ url = "{receiver.url}", secret = {{ file = "hook.secret" }}, timeout_ms = 5000 }}\n'
            node.config_path.write_text(node.config_text() + "[breakers]\n" + notify + sum_rule())
        yield made.start()


@pytest.fixture
def cut_cluster(tmp_path):
    with Cluster(tmp_path, in_namespaces=True, sim_options={"tokens": TOKENS}) as made:
        for node in made:
            node.config_path.write_text(node.config_text() + sum_rule())
        yield made.start()


def ask(node, key):
    return node.post(question(max_tokens=TOKENS), key, timeout=30)


def key_known_to(cluster, nodes):
    made = cluster.any().create_key("acme/team/user")
    for node in nodes:
        wait_for(lambda: ask(node, made["key"]).status == 200, f"{node.name} knows the key")
    return made["key"]


def spend_in_turn(nodes, key):
    """Until a node holds; how many each answered, and what one answer cost in output alone."""
    answered = dict.fromkeys((node.name for node in nodes), 0)

    def held():
        for node in nodes:
            answer = ask(node, key)
            assert answer.status in (200, 402, 503), answer  # 503: an owner was killed just now
            if answer.status == 402:
                assert answer.error["code"] == "spend_breaker_open"
                return True
            answered[node.name] += answer.status == 200
        return False
    wait_for(held, "a request that is held", TRIP_DEADLINE_S)
    return answered


def trips(node):
    return [entry for entry in node.shard_entries("control") if entry["kind"] == "breaker_tripped"]


def test_the_sum_of_all_nodes_trips_a_breaker_that_no_node_alone_would_and_people_are_told_once(cluster, receiver):
    nodes = list(cluster)
    key = key_known_to(cluster, nodes)
    answered = spend_in_turn(nodes, key)
    # The output alone; the input of these requests costs much less.
    assert all((count + 1) * TOKENS * USD_PER_TOKEN < AMOUNT_USD for count in answered.values()), answered
    for node in nodes:
        wait_for(lambda: ask(node, key).status == 402, f"{node.name} holds", 5)
        assert metric(node, "outlast_spend_peer_events_total") > 0
        assert metric(node, "outlast_spend_peer_events_missed_total") == 0
        assert metric(node, "outlast_spend_events_untold_total") == 0
    (breaker,) = {breaker["id"] for node in nodes for breaker in open_breakers(node)}
    notice = receiver.wait_for("tripped")
    assert notice["breaker"] == breaker and notice["node"] in cluster.nodes
    wait_for(lambda: all(len(trips(node)) == 1 for node in nodes), "one entry at all nodes")

    owner = wait_for(lambda: cluster.owner_of("control"), "the control shard has an owner", 10)
    closer = next(node for node in nodes if node is not owner)
    closer.cli("breaker", "reset", breaker, "--reason", "seen", "--by", "ann")
    for node in nodes:
        wait_for(lambda: ask(node, key).status == 200, f"{node.name} lets go", 5)
        assert open_breakers(node) == []
    assert receiver.wait_for("reset")["by"] == "ann"

    # Counting began anew at all nodes, and what trips again is told again.
    answered = spend_in_turn(nodes, key)
    assert sum(answered.values()) * TOKENS * USD_PER_TOKEN > AMOUNT_USD / 2
    assert receiver.wait_for("tripped", 2)["breaker"] == breaker
    for node in nodes:
        wait_for(lambda: ask(node, key).status == 402, f"{node.name} holds", 5)
        assert metric(node, "outlast_spend_breaker_not_recorded_total") == 0
    assert [event["event"] for event in receiver.notices] == ["tripped", "reset", "tripped"], receiver.notices
    assert len({event["delivery"] for event in receiver.notices}) == 3


def test_a_trip_is_recorded_and_told_although_the_owner_of_the_control_shard_has_just_died(cluster, receiver):
    key = key_known_to(cluster, list(cluster))
    victim = wait_for(lambda: cluster.owner_of("control"), "the control shard has an owner", 10)
    others = cluster.others(victim.name)
    victim.kill()
    spend_in_turn(others, key)
    for node in others:
        wait_for(lambda: ask(node, key).status == 402, f"{node.name} holds", 10)
    notice = receiver.wait_for("tripped")
    assert notice["node"] in {node.name for node in others}
    wait_for(lambda: trips(others[0]), "its entry", 4 * LEASE_TTL_S + 10)
    victim.start()
    wait_for(lambda: ask(victim, key).status == 402, "the one that died holds when it is back", 20)


@needs_namespaces
def test_a_node_that_is_cut_off_trips_by_what_it_sees_and_all_hold_when_it_is_back(cut_cluster):
    cluster = cut_cluster
    key = key_known_to(cluster, list(cluster))
    alone, *others = cluster["n3"], cluster["n1"], cluster["n2"]
    cluster.cut_node("n3")
    spend_in_turn([alone], key)
    assert ask(alone, key).status == 402
    for node in others:
        assert open_breakers(node) == []
    wait_for(lambda: metric(alone, "outlast_spend_breaker_not_recorded_total") == 1, "its ledger is out of reach", 30)
    cluster.heal()
    wait_for(lambda: all(open_breakers(node) for node in others), "the others hold too", 30)
    for node in cluster:
        assert ask(node, key).status == 402
    assert len(trips(cluster["n1"])) == 1
