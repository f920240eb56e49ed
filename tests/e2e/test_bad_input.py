"""Bad input gets a clear error in OpenAI's shape and loses nothing."""

import http.client
import json
import socket

import pytest

from outlast_node import question


@pytest.fixture
def node(make_node, alpha):
    return make_node(alpha, limits={"body_bytes_max": 65536})


def entry_count(node):
    return len(node.entries())


def test_a_request_without_a_valid_key_gets_401_and_touches_no_storage(node, alpha):
    key = node.key
    before = entry_count(node)
    for wrong in ("ol_wrong", key[:-1] + ("a" if key[-1] != "a" else "b"), "", "sk-live-123"):
        answer = node.post(question(), key=wrong)
        assert answer.status == 401
        assert answer.error["code"] == "invalid_api_key"
    assert entry_count(node) == before
    assert alpha.stats()["requests"] == 0


def test_a_revoked_key_gets_401(node):
    made = node.create_key(name="short-lived")
    assert node.post(question(), key=made["key"]).status == 200
    node.cli("key", "revoke", made["id"])
    assert node.post(question(), key=made["key"]).status == 401


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model":"smart","messages":[1,]}',
                                  b'{"model":"smart","model":"smart","messages":[]}', b"\xff\xfe",
                                  b'{"a":' * 200 + b"1" + b"}" * 200],
                         ids=["empty", "cut", "array", "null", "comma", "twice", "not-utf8", "deep"])
def test_malformed_json_is_400(node, alpha, body):
    before = entry_count(node)
    answer = node.post(body)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["message"]
    assert alpha.stats()["requests"] == 0
    assert node.chat().status == 200
    assert entry_count(node) > before


@pytest.mark.parametrize("change", [{"model": 7}, {"model": ""}, {"stream": "yes"}, {"messages": None},
                                    {"max_tokens": "many"}, {"max_tokens": -1}, {"n": 0}])
def test_a_field_of_the_wrong_type_is_400(node, change):
    answer = node.post({**question(), **change})
    assert answer.status == 400
    assert answer.error["message"]


def test_an_unknown_model_is_404(node, alpha):
    answer = node.chat(model="nobody-knows-it")
    assert answer.status == 404
    assert answer.error["code"] == "model_not_found"
    assert "nobody-knows-it" in answer.error["message"]
    assert alpha.stats()["requests"] == 0


def test_a_body_over_the_limit_is_413(node, alpha):
    answer = node.chat("long " * 20000)
    assert answer.status == 413
    assert answer.error["message"]
    assert alpha.stats()["requests"] == 0
    assert node.chat().status == 200


def test_an_unknown_path_is_404_and_a_wrong_method_405(node):
    assert node.post(question(), path="/v1/nothing").status == 404
    connection = http.client.HTTPConnection(node.http, timeout=10)
    connection.request("GET", "/v1/chat/completions")
    response = connection.getresponse()
    assert response.status == 405
    assert json.loads(response.read())["error"]["message"]
    connection.close()


def raw(address, text):
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(text)
        data = b""
        while True:
            piece = connection.recv(65536)
            if not piece:
                return data
            data += piece


@pytest.mark.parametrize("head", [
    b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
    b"Content-Length: 2\r\nContent-Length: 3\r\n",
    b"Content-Length: +2\r\n",
    b"X-Folded: a\r\n b\r\nContent-Length: 2\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
], ids=["both", "repeated", "signed", "fold", "coding"])
def test_ambiguous_framing_is_refused_and_the_connection_closed(node, head):
    data = raw(node.http, b"POST /v1/chat/completions HTTP/1.1\r\nHost: n\r\n" + head + b"\r\n{}GET /healthz HTTP/1.1\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 4")
    assert data.count(b"HTTP/1.1 ") == 1


def test_a_chunked_request_body_is_served(node):
    body = json.dumps(question()).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:10], body[10:])) + b"0\r\n\r\n"
    head = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer {node.key}\r\n"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n").encode()
    assert raw(node.http, head + chunks).startswith(b"HTTP/1.1 200")


def test_models_lists_routes_and_models(node):
    connection = http.client.HTTPConnection(node.http, timeout=10)
    connection.request("GET", "/v1/models", headers={"authorization": "Bearer " + node.key})
    response = connection.getresponse()
    assert response.status == 200
    names = {model["id"] for model in json.loads(response.read())["data"]}
    assert {"smart", "gpt-sim"} <= names
    connection.close()


def test_a_full_disk_refuses_new_requests_and_nothing_else(make_node, alpha):
    node = make_node(alpha, limits={"disk_free_bytes_min": 1 << 49})  # more than any disk has free
    answer = node.chat()
    assert answer.status == 503
    assert answer.error["code"] == "ledger_unavailable"
    assert int(answer.headers["retry-after"]) >= 1
    assert alpha.stats()["requests"] == 0
    node.verify()
    node.stop()
