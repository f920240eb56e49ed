"""etcd as a cluster uses it: mutual TLS with our certificates lets nodes in and nobody else; what faults do to members."""

import base64
import contextlib
import http.client
import json
import ssl
import subprocess

import pytest

from etcd_members import EtcdMembers, make_certificates, why_no_etcd
from network import Namespaces, why_no_namespaces
from outlast_node import wait_for

pytestmark = pytest.mark.skipif(bool(why_no_etcd()), reason=why_no_etcd() or "etcd is there")
needs_namespaces = pytest.mark.skipif(bool(why_no_namespaces()), reason=why_no_namespaces() or "namespaces can be made")
ELECTION_DEADLINE_S = 30


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    members = EtcdMembers(tmp_path_factory.mktemp("etcd"))
    yield members.start()
    members.close()


@pytest.fixture
def cut_members(tmp_path):
    network = Namespaces()
    members = EtcdMembers(tmp_path, network)
    yield members.start()
    members.close()
    network.close()


def call(member, context, path, body):
    """(status, object) of a call of etcd's JSON gateway."""
    connection = http.client.HTTPSConnection(member.address, member.client_port, context=context, timeout=5)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def put(member, context, key, value):
    return call(member, context, "/v3/kv/put", {"key": encoded(key), "value": encoded(value)})


def get(member, context, key):
    status, found = call(member, context, "/v3/kv/range", {"key": encoded(key)})
    assert status == 200, found
    return [base64.b64decode(row["value"]).decode() for row in found.get("kvs", [])]


def test_a_node_with_its_certificate_writes_and_reads_through_every_member(members):
    for node in ("n1", "n2", "n3"):
        context = members.client_context(node)
        for member in members:
            status, answer = put(member, context, f"from-{node}", member.name)
            assert status == 200, answer
            assert all(get(one, context, f"from-{node}") == [member.name] for one in members)


def test_a_client_without_certificate_gets_nothing(members):
    for member in members:
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            put(member, members.client_context(None), "k", "v")
    assert get(members["m1"], members.client_context(), "k") == []


def test_a_stranger_of_another_authority_gets_nothing(members, tmp_path):
    strange = make_certificates(tmp_path / "strange", {}, ["n1"])
    context = ssl.create_default_context(cafile=members.certificates / "ca.crt")
    context.load_cert_chain(strange / "node-n1.crt", strange / "node-n1.key")
    for member in members:
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            put(member, context, "k", "v")
    assert get(members["m1"], members.client_context(), "k") == []


def test_plain_http_gets_nothing(members):
    for member in members:
        for port in (member.client_port, member.peer_port):
            connection = http.client.HTTPConnection(member.address, port, timeout=5)
            connection.request("GET", "/version")
            # "Client sent an HTTP request to an HTTPS server", or not even that.
            with contextlib.suppress(ConnectionError, http.client.RemoteDisconnected):
                assert connection.getresponse().status == 400
            connection.close()


def test_a_node_s_certificate_is_no_member_s(members):
    member = members["m1"]
    connection = http.client.HTTPSConnection(member.address, member.peer_port, context=members.client_context(), timeout=5)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        connection.request("GET", "/members")
        connection.getresponse()
    as_member = members.client_context(None)
    as_member.load_cert_chain(members.certificates / "etcd-m2.crt", members.certificates / "etcd-m2.key")
    connection = http.client.HTTPSConnection(member.address, member.peer_port, context=as_member, timeout=5)
    connection.request("GET", "/members")
    assert len(json.loads(connection.getresponse().read())) == 3


def test_openssl_accepts_what_was_signed_for_its_purpose_only(members):
    pem = members.certificates

    def verified(file, purpose):
        return subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", str(pem / "ca.crt"), "-purpose", purpose,
                               str(pem / file)], capture_output=True).returncode == 0

    assert verified("etcd-m1.crt", "sslserver") and verified("etcd-m1.crt", "sslclient")
    assert verified("node-n1.crt", "sslclient") and not verified("node-n1.crt", "sslserver")
    assert {file.stat().st_mode & 0o777 for file in pem.iterdir()} == {0o600}


@needs_namespaces
def test_a_leader_that_is_cut_off_is_replaced_and_follows_after_healing(cut_members):
    members, network = cut_members, cut_members.network
    context = members.client_context()
    put(members["m1"], context, "k", "before")
    old = wait_for(members.leader, "a leader", ELECTION_DEADLINE_S)
    others = [member.name for member in members if member is not old]
    for other in others:
        network.cut(old.name, other)
    new = wait_for(lambda: members.leader(others), "a new leader on the other side", ELECTION_DEADLINE_S)
    assert put(new, context, "k", "after")[0] == 200
    # The old one knows that it has no quorum: it neither writes nor reads what others may have changed.
    wait_for(lambda: old.metric("etcd_server_has_leader") == 0, "the old leader steps down", ELECTION_DEADLINE_S)
    assert not old.healthy()
    network.heal()
    members.wait_until_healthy()
    assert get(old, context, "k") == ["after"]


@needs_namespaces
def test_a_member_that_hears_nothing_but_is_heard_does_not_stop_the_others(cut_members):
    members, network = cut_members, cut_members.network
    context = members.client_context()
    leader = wait_for(members.leader, "a leader", ELECTION_DEADLINE_S)
    deaf = next(member for member in members if member is not leader)
    for other in members:
        if other is not deaf:
            network.drop(other.name, deaf.name)
    wait_for(lambda: deaf.metric("etcd_server_has_leader") == 0, "the deaf member has no leader", ELECTION_DEADLINE_S)
    hearing = [member.name for member in members if member is not deaf]
    leader = wait_for(lambda: members.leader(hearing), "a leader among the others", ELECTION_DEADLINE_S)
    assert put(leader, context, "k", "v")[0] == 200
    network.heal()
    members.wait_until_healthy()
    assert get(deaf, context, "k") == ["v"]


@needs_namespaces
def test_a_paused_and_a_killed_member_come_back(cut_members):
    members = cut_members
    context = members.client_context()
    members.pause("m1")
    others = ["m2", "m3"]
    leader = wait_for(lambda: members.leader(others), "a leader among the others", ELECTION_DEADLINE_S)
    assert put(leader, context, "k", "while paused")[0] == 200
    members.resume("m1")
    members.wait_until_healthy()
    members.kill("m2")
    leader = wait_for(lambda: members.leader(["m1", "m3"]), "a leader among the others", ELECTION_DEADLINE_S)
    assert put(leader, context, "k", "while killed")[0] == 200
    members.start("m2")
    members.wait_until_healthy()
    assert get(members["m2"], context, "k") == ["while killed"]
