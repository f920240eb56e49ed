"""Strangers and removed nodes at the ports of real nodes: nothing gets in, nothing falls over, everything is counted."""

import json
import re
import socket
import struct

import pytest

from cluster import CLIENT_PORT, JOIN_PORT, LINK_PORT, Cluster, why_no_cluster
from outlast_node import question, request, wait_for

pytestmark = pytest.mark.skipif(bool(why_no_cluster()), reason=why_no_cluster() or "a cluster can run here")

FLOOD = 300          # connections that stay open at once
ANSWER_S = 5         # how long a stranger waits for an answer that must not come
GREETING_BYTES = 64  # of ZMTP 3: a peer sends it unasked


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("intruders"), sim_options={"tokens": 8}) as cluster:
        yield cluster.start()


def metric(node, name):
    text = request(node.admin_address, "GET", "/metrics")[2].decode()
    return int(float(re.search(rf"^{name} (\S+)$", text, re.M)[1]))


def goes_on(cluster, key):
    """All nodes that belong to it are linked to each other and answer."""
    for name in ("n1", "n2", "n3"):
        node = cluster[name]
        assert node.running(), node.daemon.log()
        wait_for(lambda: node.post(question(max_tokens=16), key, timeout=30).status == 200, f"{node.name} answers")
        wait_for(lambda: metric(node, "outlast_peer_links") >= 2, f"{node.name} has its links")


def connect(node, port):
    return socket.create_connection((node.address, node.ports[port]), timeout=ANSWER_S)


def greeting(mechanism, as_server=0):
    return b"\xff" + bytes(8) + b"\x7f\x03\x00" + mechanism.ljust(20, b"\0") + bytes([as_server]) + bytes(31)


def command(body):
    return b"\x04" + bytes([len(body)]) + body


# What a stranger says after it connects.
HOSTILE = {
    "an HTTP request": b"GET /admin/v1/cluster HTTP/1.1\r\nhost: node\r\n\r\n",
    "noise": bytes(range(255, -1, -1)) * 40,
    "a peer without security": greeting(b"NULL") + command(b"\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"),
    "a peer with a password": greeting(b"PLAIN") + command(b"\x05HELLO\x05admin\x05admin"),
    "a hello of CURVE that is short": greeting(b"CURVE") + command(b"\x05HELLO\x01\x00"),
    "a hello of CURVE that is noise": greeting(b"CURVE") + command(b"\x05HELLO\x01\x00" + bytes(range(192))),
    "a command that says to be as long as nothing is": greeting(b"CURVE") + b"\x06" + struct.pack(">Q", 1 << 62) + b"\x05HELLO",
    "a message before any handshake": greeting(b"CURVE") + b"\x02" + struct.pack(">Q", 1 << 40) + b"x" * 4096,
}


def answer_to(node, port, said):
    """All that comes back until the node ends the connection or nothing more comes."""
    heard = b""
    with connect(node, port) as stranger:
        try:
            stranger.sendall(said)
            stranger.shutdown(socket.SHUT_WR)
            while data := stranger.recv(65536):
                heard += data
        except OSError:
            pass  # ended in between: as good as an end
    return heard


@pytest.mark.parametrize("port", [LINK_PORT, JOIN_PORT, CLIENT_PORT], ids=["links", "joins", "clients"])
@pytest.mark.parametrize("said", HOSTILE.values(), ids=[name.replace(" ", "-") for name in HOSTILE])
def test_whoever_does_not_speak_as_a_node_is_told_nothing(cluster, port, said):
    heard = answer_to(cluster["n1"], port, said)
    # A greeting says nothing of the node, and an error of the handshake is no message.
    assert len(heard) <= 2 * GREETING_BYTES, heard
    assert cluster["n1"].running()


def test_strangers_are_counted_and_the_cluster_goes_on(cluster):
    key = cluster["n1"].create_key("acme/team/user")["key"]
    goes_on(cluster, key)
    strangers = metric(cluster["n1"], "outlast_peer_strangers_refused_total")
    handshakes = metric(cluster["n1"], "outlast_join_handshakes_failed_total")
    for said in HOSTILE.values():
        answer_to(cluster["n1"], LINK_PORT, said)
        answer_to(cluster["n1"], JOIN_PORT, said)
    wait_for(lambda: metric(cluster["n1"], "outlast_peer_strangers_refused_total") > strangers, "strangers are counted")
    wait_for(lambda: metric(cluster["n1"], "outlast_join_handshakes_failed_total") > handshakes, "they are at the other door")
    goes_on(cluster, key)


@pytest.mark.parametrize("port", [LINK_PORT, JOIN_PORT, CLIENT_PORT], ids=["links", "joins", "clients"])
def test_a_flood_of_connections_takes_nothing_from_the_cluster(cluster, port):
    key = cluster["n1"].create_key("birch/team/user")["key"]
    goes_on(cluster, key)
    flood = []
    try:
        for number in range(FLOOD):
            stranger = connect(cluster["n1"], port)
            flood.append(stranger)
            try:
                stranger.sendall(list(HOSTILE.values())[number % len(HOSTILE)])
            except OSError:
                pass  # it was ended already
        goes_on(cluster, key)
    finally:
        for stranger in flood:
            stranger.close()
    goes_on(cluster, key)


def test_a_node_that_is_asked_to_remove_itself_says_that_it_did_and_ends_for_good(cluster):
    first = cluster["n1"]
    leaver = cluster.add("n7").join(first).start()
    # So that another node owns the control log, and cuts its link with the one that leaves.
    first.cli("node", "drain", "n7")
    wait_for(lambda: "n7" not in first.owners().values(), "it owns nothing")
    said = leaver.cli("node", "remove", "n7", "--reason", "sold")
    assert said.stdout == "n7 is removed\n"
    assert leaver.daemon.wait() == 77
    status, output = leaver.start_expecting_failure()
    assert status == 77, output
    assert "the node n7 was removed by" in output and "(sold)" in output
    for words in (["drain", "n7"], ["undrain", "n7"]):
        refused = first.cli("node", *words, check=False)
        assert refused.returncode == 1
        assert refused.stderr == "outlast: the node was removed or revoked; it has to join again\n"
    first.cli("node", "revoke", "n7")
    del cluster.nodes["n7"]


def test_a_token_lets_one_machine_in_and_a_removed_node_out_for_good(cluster):
    first = cluster["n1"]
    key = first.create_key("cedar/team/user")["key"]
    guest, thief = cluster.add("n8"), cluster.add("n9")
    token = json.loads(first.admin("POST", "cluster/tokens", {"expires_s": 600, "by": "e2e"})[1])["token"]
    guest.outlast("node", "join", token, "--config", guest.config_path)
    refused = metric(first, "outlast_join_refused_total")
    with pytest.raises(AssertionError, match="node"):
        thief.outlast("node", "join", token, "--config", thief.config_path)
    assert metric(first, "outlast_join_refused_total") == refused + 1
    names = {node["name"] for node in first.status()["nodes"]}
    assert "n8" in names and "n9" not in names

    guest.start()
    wait_for(lambda: guest.post(question(max_tokens=16), key, timeout=30).status == 200, "the guest answers")
    first.cli("node", "drain", "n8")
    first.admin("POST", "cluster/nodes/n8/remove", {"by": "e2e"})
    wait_for(lambda: not guest.running() or not guest.ready(), "the removed node serves nobody")
    strangers = metric(first, "outlast_peer_strangers_refused_total")
    if not guest.running():
        guest.start(wait=False)
    wait_for(lambda: not guest.running() or metric(first, "outlast_peer_strangers_refused_total") > strangers,
             "it is refused when it comes again")
    assert not guest.running() or not guest.ready()
    if guest.running():
        guest.kill()
    del cluster.nodes["n8"], cluster.nodes["n9"]
    goes_on(cluster, key)
