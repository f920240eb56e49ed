#!/usr/bin/env python3
"""The program `outlast` as scripts meet it: exit codes, output, and what it asks of a node. The node is a fake."""
import http.server
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import threading
import time
import unittest

OUTLAST = "build/bin/outlast"
TOKEN = "t0ken"
KEY = "ol_key"
DEADLINE_S = 30

USAGE = {
    "rows": [
        {"model": "fast", "requests": 3, "attempts": 4, "failed_attempts": 1, "cost_usd": "0.000123",
         "overrun_usd": "0.00", "unpriced_requests": 0, "estimated": 1,
         "tokens": {"input_uncached": 10, "input_cache_read": 5, "output_text": 7}},
        {"model": 'a,"b"', "requests": 1, "attempts": 1, "failed_attempts": 0, "cost_usd": "0.00",
         "overrun_usd": "0.00", "unpriced_requests": 1, "estimated": 0, "tokens": {}},
    ],
    "total": {"requests": 4, "attempts": 5, "failed_attempts": 1, "cost_usd": "0.000123", "overrun_usd": "0.00",
              "unpriced_requests": 1, "estimated": 1,
              "tokens": {"input_uncached": 10, "input_cache_read": 5, "output_text": 7}},
}


def latency(p50):
    return {"mean": p50 + 1, "p50": p50, "p95": 2 * p50}


TIMED_USAGE = {
    "rows": [{"start": "2026-11-01T00:00:00Z", "tag": "nightly", "requests": 3, "attempts": 4, "failed_attempts": 1,
              "failure_share": 0.25, "cost_usd": "0.000123", "overrun_usd": "0.00", "unpriced_requests": 0,
              "estimated": 0, "tokens": {"input_uncached": 10, "output_text": 7}, "duration_ms": latency(900),
              "first_event_ms": None}],
    "total": {"requests": 3, "attempts": 4, "failed_attempts": 1, "failure_share": 0.25, "cost_usd": "0.000123",
              "overrun_usd": "0.00", "unpriced_requests": 0, "estimated": 0, "tokens": {}, "duration_ms": latency(900),
              "first_event_ms": None},
    "rows_left_out": 2, "overlapping": True,
}

RECONCILED = {
    "provider": "alpha", "first_day": "2026-11-01", "last_day": "2026-11-02", "tolerance_ppm": 10000, "agrees": False,
    "agreeing_lines": 1,
    "lines": [
        {"day": "2026-11-01", "model": "m", "agrees": True, "invoice": {"cost_usd": "1.00"}, "ledger": {"cost_usd": "1.00"},
         "reasons": []},
        {"day": "2026-11-02", "model": "m", "agrees": False, "invoice": {"cost_usd": "4.00"},
         "ledger": {"cost_usd": "3.00"}, "reasons": [{"reason": "price_differs", "text": "dearer\u001b[2J"},
                                                     {"reason": "estimated", "text": "2 requests"}]}],
    "total": {"invoice_usd": "5.00", "ledger_usd": "4.00", "difference_usd": "1.00"},
}

REPRICED = {
    "with": "2026-12", "entries": 9,
    "rows": [{"provider": "alpha", "model": "m", "attempts": 3, "tokens": 30, "recorded_usd": "1.00", "repriced_usd": "0.50",
              "difference_usd": "-0.50", "unpriced_attempts": 1, "kept_attempts": 0}],
    "total": {"attempts": 3, "tokens": 30, "recorded_usd": "1.00", "repriced_usd": "0.50", "difference_usd": "-0.50",
              "unpriced_attempts": 1, "kept_attempts": 2},
}

CLUSTER = {
    "cluster": "river", "node": "n1",
    "nodes": [
        {"name": "n1", "state": "active", "roles": ["gateway", "ledger"], "endpoint": "tcp://10.0.0.1:8083", "up": True,
         "version": "0.4.0", "shards_owned": 2, "lag_entries": 0},
        {"name": "n2", "state": "active", "roles": ["ledger"], "endpoint": "tcp://10.0.0.2:8083", "up": False,
         "version": None, "shards_owned": 0, "lag_entries": None}],
    "shards": [
        {"shard": "control", "owner": "n1", "epoch": 7, "entries": 120,
         "replicas": [{"node": "n1", "entries": 120, "lag_entries": 0}, {"node": "n2", "entries": 118, "lag_entries": 2}]},
        {"shard": "0", "owner": None, "epoch": 8, "entries": 5, "replicas": []}],
    "problems": [{"shard": "0", "what": "another process has it", "attempts": 2}],
    "etcd": {"healthy": True, "lease_ttl_s": 10, "lease_left_ms": 8700, "members": [
        {"url": "https://10.0.0.1:2379", "healthy": True, "leader": True, "version": "3.4.23", "db_bytes": 1000, "why": ""},
        {"url": "https://10.0.0.2:2379", "healthy": False, "leader": None, "version": None, "db_bytes": None,
         "why": "timed out"}]},
}

PRICES = 'version = "2026-12"\n[[price]]\nprovider = "*"\nmodel = "m"\ninput = "1"\noutput = "2"\n'
INVOICE = "day,model,cost\n2026-11-01,m,1.00\n2026-11-02,m,4.00\n"


def entry(index):
    return {"index": index, "time_ms": 1_793_534_400_000 + index, "kind": "settle", "request_id": f"r{index}",
            "attempt": 1, "cost_pico_usd": "123000000", "estimated": index % 2 == 0, "deployment": "fable-alpha",
            "status": "ok", "tokens": {"output_text": index}}


def events(*texts):
    lines = [{"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    lines.append({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    lines.append({"id": "c1", "model": "m", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
    return "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"


class FakeNode(http.server.ThreadingHTTPServer):
    """Answers as docs/admin-api.md says and keeps what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.verify = {"ok": True, "entries": 7, "head": "ab12", "first_bad_index": None, "message": ""}
        self.stream = events("Hel", "lo")
        self.entries = 25
        self.shards = {}     # of a cluster's node: {shard: [the times of its entries]}
        self.damaged = None  # one of them
        self.usage = USAGE
        self.reconciliation = RECONCILED
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, content_type="application/json", headers=()):
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message):
        self.answer(status, {"error": {"message": message, "code": "x"}})

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.server.requests.append((self.command, self.path, body))
        if self.path.startswith("/v1/"):
            self.front(body)
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "no")
        else:
            self.admin(self.path.removeprefix("/admin/v1/"), body)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def front(self, body):
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self.refuse(401, "this key is not known")
        elif self.path == "/v1/models":
            self.answer(200, {"object": "list", "data": [{"id": "smart"}, {"id": "fast\u001b[31m"}]})
        elif json.loads(body)["model"] == "nope":
            self.refuse(404, "there is no model 'nope'")
        else:
            self.answer(200, self.server.stream, "text/event-stream",
                        [("x-outlast-deployment", "fable-alpha"), ("x-outlast-request-id", "r1"),
                         ("x-outlast-attempts", "2")])

    def admin(self, what, body):
        node = self.server
        if what == "status":
            self.answer(200, {"node": "n1", "state": "ready", "ledger": {"entries": node.entries},
                              **({"cluster": "river"} if node.shards else {})})
        elif what == "cluster" and node.shards:
            self.answer(200, {"cluster": "river", "node": "n1", "shards": [
                *({"shard": name, "entries": 9, "replicas": [{"node": "n2", "entries": None},
                                                             {"node": "n1", "entries": len(times)}]}
                  for name, times in node.shards.items()),
                {"shard": "7", "entries": 9, "replicas": [{"node": "n1", "entries": None}, {"node": "n2", "entries": 9},
                                                          {"node": "n3", "entries": 8}]}]})
        elif what.startswith("ledger/") and node.shards:
            self.shard(what, body)
        elif what == "prices":
            self.answer(200, {"version": "v9", "toml": 'version = "v9"\n' + CliTest.PRICE.format(7)})
        elif what == "keys" and self.command == "POST":
            self.answer(200, {"id": "key_1", "key": KEY, "tenant": "acme/search/ann", "name": "ci"})
        elif what == "keys":
            self.answer(200, {"keys": [{"id": "key_1", "tenant": "acme/search/ann", "name": "ci",
                                        "created_ms": 1_793_534_400_000, "revoked_ms": None}]})
        elif what == "keys/key_1":
            self.answer(200, {"id": "key_1"})
        elif what.startswith("usage?") and "format=focus" in what:
            self.answer(200, "BilledCost,BillingAccountId\r\n", "text/csv")
        elif what.startswith("usage?"):
            self.answer(200, node.usage)
        elif what.startswith("reconcile?"):
            self.answer(200, node.reconciliation)
        elif what.startswith("reprice?") and "version=2030" in what:
            self.refuse(404, "no price book of version '2030'")
        elif what.startswith("reprice?"):
            self.answer(200, REPRICED)
        elif what.startswith("ledger/entries?"):
            fields = dict(field.split("=") for field in what.split("?")[1].split("&"))
            first = int(fields["from"])
            end = min(first + int(fields["limit"]), node.entries)
            lines = "".join(json.dumps(entry(index)) + "\n" for index in range(first, end))
            self.answer(200, lines, "application/x-ndjson", [("x-outlast-next-index", str(end))])
        elif what == "ledger/verify":
            self.answer(200, node.verify)
        elif what == "config/reload":
            self.refuse(400, "node.toml:1: key 'x': is not known")
        elif what == "rate-limits":
            bound = {"per_minute": 60, "burst": 5, "remaining": 4, "reset_ms": 1000}
            each = {"per_minute": 9, "burst": 9, "remaining": None, "reset_ms": None}
            self.answer(200, {"rate_limits": [
                {"scope": "team:acme/search", "requests": bound, "tokens": None, "live": None},
                {"scope": "key:*", "requests": None, "tokens": each, "live": 3}]})
        elif what == "deployments":
            self.answer(200, {"deployments": [{"name": "fable-alpha", "state": "closed", "in_flight": 2}]})
        elif what.startswith("cluster"):
            self.cluster(what)
        else:
            self.refuse(404, "there is no such thing")

    def shard(self, what, body):
        node = self.server
        path, _, query = what.partition("?")
        fields = dict(field.split("=") for field in query.split("&") if field)
        if path == "ledger/entries":
            first = int(fields["from"])
            times = node.shards[fields["shard"]][first:first + int(fields["limit"])]
            lines = ({"ledger_shard": fields["shard"], **entry(first + i), "time_ms": time} for i, time in enumerate(times))
            self.answer(200, "".join(json.dumps(line) + "\n" for line in lines), "application/x-ndjson")
        elif path == "ledger/verify" and fields["shard"] == node.damaged:
            self.answer(200, {"ok": False, "entries": 3, "head": "cd", "first_bad_index": 2, "message": "hash differs"})
        elif path == "ledger/verify":
            self.answer(200, {"ok": True, "entries": len(node.shards[fields["shard"]]), "head": "ab", "message": ""})
        elif path == "ledger/heads":
            self.refuse(409, "the shards of a cluster have no signed heads")
        else:
            asked = json.loads(body)
            self.answer(200, {"id": 1, "entries": len(node.shards[asked["shard"]]), "head": "ab", "kept": 1})

    def cluster(self, what):
        if what == "cluster":
            self.answer(200, CLUSTER)
        elif what == "cluster/nodes":
            self.answer(200, {"cluster": "river", "nodes": [
                {"name": "n1", "state": "active", "roles": ["gateway", "ledger"], "endpoint": "tcp://10.0.0.1:8083",
                 "public_key": "k", "enrolled_ms": 1_793_534_400_000, "enrolled_by": "x", "changed_ms": None,
                 "changed_by": "", "reason": ""},
                {"name": "n2", "state": "draining", "roles": ["ledger"], "endpoint": "tcp://10.0.0.2:8083",
                 "public_key": "l", "enrolled_ms": 1_793_534_400_000, "enrolled_by": "x",
                 "changed_ms": 1_793_534_460_000, "changed_by": "ann", "reason": "new\u001b[2J disk"}]})
        elif what == "cluster/nodes/n2/remove":
            self.answer(200, {"name": "n2", "state": "removed"})
        elif what == "cluster/nodes/n1/revoke":
            self.refuse(409, "it is the cluster's last node; let another join first")
        elif what == "cluster/tokens":
            self.answer(200, {"id": "jt_a", "token": "outlast-join-1.AAAA", "cluster": "river",
                              "join": "tcp://10.0.0.1:8084", "expires_ms": 1_793_534_400_000})
        elif what == "cluster/tokens/jt_a":
            self.answer(200, {"name": "jt_a", "state": "withdrawn"})
        elif what == "cluster/settings":
            self.answer(200, {"settings": [{"name": "routes", "value": "a = 1\nb = 2\n"},
                                           {"name": "shards", "value": "16"}]})
        elif what == "cluster/settings/routes" and self.command == "PUT":
            self.answer(200, {"name": "routes", "state": "set"})
        elif what == "cluster/settings/routes":
            self.answer(200, {"name": "routes", "value": "a = 1\nb = 2"})
        else:
            self.refuse(404, "there is no such thing")


class CliTest(unittest.TestCase):
    def setUp(self):
        self.node = FakeNode()
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.addCleanup(self.node.server_close)
        self.addCleanup(self.node.shutdown)
        self.environment = {"PATH": os.environ["PATH"], "OUTLAST_ADMIN": self.node.url,
                            "OUTLAST_ADMIN_TOKEN": TOKEN, "OUTLAST_URL": self.node.url, "OUTLAST_KEY": KEY}
        for name, value in os.environ.items():
            if name.startswith(("ASAN_", "UBSAN_", "LSAN_")):
                self.environment[name] = value

    def run_cli(self, *words, stdin="", code=0, environment=None):
        arguments = {"input": stdin} if stdin else {"stdin": subprocess.DEVNULL}
        done = subprocess.run([OUTLAST, *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False,
                              env=environment or self.environment, **arguments)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def write(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    # The command line itself.

    def test_help_is_there_on_every_level(self):
        for words in ([], ["key"], ["key", "create"], ["key", "list"], ["key", "revoke"], ["usage"], ["reconcile"],
                      ["reprice"], ["ledger"],
                      ["ledger", "verify"], ["ledger", "tail"], ["ledger", "export"], ["config"], ["config", "check"],
                      ["config", "reload"], ["prices"], ["prices", "check"], ["prices", "diff"], ["prices", "import"],
                      ["prices", "show"], ["deployments"], ["rate-limits"], ["status"], ["models"], ["chat"], ["completion"],
                      ["node"], ["node", "init"], ["node", "join"], ["node", "token"], ["node", "list"], ["node", "drain"],
                      ["node", "undrain"], ["node", "remove"], ["node", "revoke"], ["cluster"], ["cluster", "status"],
                      ["cluster", "apply"], ["cluster", "settings"]):
            text = self.run_cli(*words, "--help").stdout
            self.assertIn("Usage: outlast " + " ".join(words), text)
            self.assertIn("--json", text)
        self.assertIn("Exit codes: 0 done", self.run_cli("--help").stdout)
        self.assertRegex(self.run_cli("--version").stdout, r"^\d+\.\d+\.\d+\n$")

    def test_a_wrong_command_line_ends_with_2_and_one_line_that_helps(self):
        for words, message in (
                ([], "see 'outlast --help'"),
                (["usge"], "'usge' is not a command; did you mean 'usage'?"),
                (["key", "lst"], "'lst' is not a command; did you mean 'list'?; see 'outlast key --help'"),
                (["--data", "d1", "usge"], "'usge' is not a command; did you mean 'usage'?"),
                (["--data", "d1", "node", "lst"], "'lst' is not a command; did you mean 'list'?; see 'outlast node --help'"),
                (["node", "--data", "key", "lst"], "'lst' is not a command; did you mean 'list'?; see 'outlast node --help'"),
                (["--data", "d1", "node", "drain"], "name is required; see 'outlast node drain --help'"),
                (["--data", "d1", "key", "create", "--tenant", "acme"], "is not a tenant path; write ORG/TEAM/USER"),
                (["--data", "d1"], "see 'outlast --help'"),
                (["key", "create"], "--tenant is required; see 'outlast key create --help'"),
                (["key", "create", "--tenant", "acme"], "is not a tenant path; write ORG/TEAM/USER"),
                (["usage", "--by", "modl"], "--by: 'modl' is not known; did you mean 'model'?"),
                (["usage", "--by", "model,model"], "stands there twice"),
                (["usage", "--since", "yesterday"], "--since: 'yesterday' is not a time; write 30m, 24h"),
                (["usage", "--json", "--csv"], "exclude each other"),
                (["usage", "--csv", "--focus"], "exclude each other"),
                (["usage", "--focus", "--by", "model"], "--focus: FOCUS rows have their own groups"),
                (["usage", "--where", "model"], "--where: 'model' is no filter; write DIMENSION=VALUE"),
                (["usage", "--where", "modl=x"], "--where: 'modl' is not known; did you mean 'model'?"),
                (["usage", "--every", "dya"], "--every: 'dya' is not known; did you mean 'day'?"),
                (["usage", "--sort", "price"], "--sort: 'price' is not known; write one of cost, requests"),
                (["usage", "--top", "0"], "--top"),
                (["reconcile", "alpha"], "--file is required"),
                (["reconcile", "alpha", "--file", "x", "--map", "price=y"], "--map: 'price=y' maps no column"),
                (["reconcile", "alpha", "--file", "x", "--model", "=y"], "--model: '=y' names no model"),
                (["reconcile", "alpha", "--file", "x", "--key-is", "tag"], "--key-is: 'tag' cannot be what an invoice"),
                (["reconcile", "alpha", "--file", "x", "--tolerance", "1"], "--tolerance: '1' is not a tolerance"),
                (["reprice", "--with", "2026"], "--since is required"),
                (["reprice", "--with", "2026", "--since", "then"], "--since: 'then' is not a time"),
                (["ledger", "export", "--format", "xml"], "xml not in"),
                (["status", "--frobnicate"], "--frobnicate"),
                (["node", "token", "--expires", "8d"], "--expires: '8d' is no age of a token; write 1m to 7d"),
                (["node", "join", "x"], "--config is required"),
                (["cluster", "apply"], "name one file, or --remove and none"),
                (["train", "x", "--to", "y", "--steps", "99999999999999999999"],
                 "--steps: '99999999999999999999' is not a whole number from 1 to 1000000000000"),
                (["train", "x", "--to", "y", "--steps", "-1"], "--steps: '-1' is not a whole number from 1 to 1000000000000"),
                (["train", "x", "--to", "y", "--seed", "18446744073709551616"], "--seed: '18446744073709551616' is not a whole number"),
                (["train", "x", "--to", "y", "--epochs", "1e18"], "--epochs: '1e18' is not a number above 0 and at most 1e+06"),
                (["train", "x", "--to", "y", "--rate", "0"], "--rate: '0' is not a number above 0 and at most 10"),
                (["train", "x", "--to", "y", "--clip", "inf"], "--clip: 'inf' is not a number from 0 to 1e+06"),
                (["train", "x", "--to", "y", "--weight-decay", "nan"], "--weight-decay: 'nan' is not a number from 0 to 100"),
                (["generate", "x", "y", "--temperature", "nan"], "--temperature: 'nan' is not a number from 0 to 10"),
                (["eval", "x", "y", "--at-least", "nan"], "--at-least: 'nan' is not a number from 0 to 1"),
                (["train", "x", "--to", "y", "--eval-every", "5"], "--eval-every requires --held-out"),
                (["train", "x", "--to", "y", "--patience", "5", "--eval-every", "5"], "requires --held-out"),
                (["train", "x", "--to", "y", "--patience", "5", "--held-out", "z"], "--patience requires --eval-every"),
                (["--admin", "ftp://x", "status"], "--admin: 'ftp://x' is not a URL"),
                (["--admin", "http://u:secret@x", "status"], "may not hold credentials")):
            errors = self.run_cli(*words, code=2).stderr
            self.assertTrue(errors.startswith("outlast: "), errors)
            self.assertIn(message, errors)
            self.assertEqual(errors.count("\n"), 1, errors)
            self.assertNotIn("secret", errors)

    def test_a_node_that_does_not_answer_ends_with_3_and_says_what_to_do(self):
        environment = dict(self.environment, OUTLAST_ADMIN="http://127.0.0.1:1", OUTLAST_URL="http://127.0.0.1:1/v1")
        for words in (["status"], ["key", "list"], ["ledger", "verify"], ["chat", "-m", "x", "hi"]):
            errors = self.run_cli(*words, code=3, environment=environment).stderr
            self.assertIn("at http://127.0.0.1:1 (", errors)
            self.assertIn("is outlastd running? start it with 'outlastd --config FILE'", errors)

    def test_a_refused_token_ends_with_1_and_says_where_tokens_come_from(self):
        for token in ("wrong", ""):
            environment = dict(self.environment, OUTLAST_ADMIN_TOKEN=token)
            errors = self.run_cli("status", code=1, environment=environment).stderr
            self.assertIn("set OUTLAST_ADMIN_TOKEN, or give --data DIR", errors)

    def test_the_data_folder_gives_address_and_token(self):
        self.write("node.json", json.dumps({"admin": self.node.url, "http": self.node.url}))
        self.write("admin.token", TOKEN + "\n")
        bare = {"PATH": os.environ["PATH"], "OUTLAST_ADMIN": "http://127.0.0.1:1", "OUTLAST_KEY": KEY}
        self.assertIn("n1", self.run_cli("status", "--data", self.folder.name, environment=bare).stdout)
        self.assertIn("n1", self.run_cli("--data", self.folder.name, "status", environment=bare).stdout)
        self.assertIn("smart", self.run_cli("models", "--data", self.folder.name, environment=bare).stdout)

    def test_a_data_folder_without_a_node_is_read_as_it_lies(self):
        errors = self.run_cli("ledger", "verify", "--data", self.folder.name, code=4).stderr
        self.assertIn("there is no ledger", errors)

    # Keys.

    def test_a_key_is_created_and_printed(self):
        output = self.run_cli("key", "create", "--tenant", "acme/search/ann", "--name", 'c"i', "--json").stdout
        self.assertEqual(json.loads(output), {"id": "key_1", "key": KEY, "tenant": "acme/search/ann", "name": "ci"})
        method, path, body = self.node.requests[-1]
        self.assertEqual((method, path), ("POST", "/admin/v1/keys"))
        self.assertEqual(json.loads(body), {"tenant": "acme/search/ann", "name": 'c"i'})
        text = self.run_cli("key", "create", "--tenant", "acme/search/ann").stdout
        self.assertEqual(text.split("\n")[0], KEY)
        self.assertIn("key_1 for acme/search/ann, ci", text)

    def test_keys_are_listed_and_revoked(self):
        self.assertEqual(self.run_cli("key", "list").stdout,
                         "ID     TENANT           NAME  CREATED               REVOKED\n"
                         "key_1  acme/search/ann  ci    2026-11-01T12:00:00Z\n")
        self.assertEqual(json.loads(self.run_cli("key", "list", "--json").stdout)["keys"][0]["id"], "key_1")
        self.assertEqual(self.run_cli("key", "revoke", "key_1").stdout, "revoked key_1\n")
        self.assertEqual(self.node.requests[-1][:2], ("DELETE", "/admin/v1/keys/key_1"))
        self.assertEqual(json.loads(self.run_cli("key", "revoke", "key_1", "--json").stdout),
                         {"id": "key_1", "revoked": True})
        errors = self.run_cli("key", "revoke", "a/b?", code=4).stderr
        self.assertIn("there is no key 'a/b?'", errors)
        self.assertEqual(self.node.requests[-1][1], "/admin/v1/keys/a%2Fb%3F")

    # Clusters.

    def test_nodes_are_listed_and_changed(self):
        self.assertEqual(self.run_cli("node", "list").stdout.split("\n"), [
            "NAME  STATE     ROLES           ENDPOINT             ENROLLED              CHANGED               BY   REASON",
            "n1    active    gateway,ledger  tcp://10.0.0.1:8083  2026-11-01T12:00:00Z",
            "n2    draining  ledger          tcp://10.0.0.2:8083  2026-11-01T12:00:00Z  2026-11-01T12:01:00Z  ann  new?[2J disk",
            ""])
        self.assertEqual(json.loads(self.run_cli("node", "list", "--json").stdout)["nodes"][1]["name"], "n2")
        self.assertEqual(self.run_cli("node", "remove", "n2", "--reason", "sold", "--by", "ann").stdout, "n2 is removed\n")
        method, path, body = self.node.requests[-1]
        self.assertEqual((method, path), ("POST", "/admin/v1/cluster/nodes/n2/remove"))
        self.assertEqual(json.loads(body), {"by": "ann", "reason": "sold"})
        self.assertIn("last node", self.run_cli("node", "revoke", "n1", code=1).stderr)
        self.assertIn("there is no node 'a/b'", self.run_cli("node", "drain", "a/b", code=4).stderr)
        self.assertEqual(self.node.requests[-1][1], "/admin/v1/cluster/nodes/a%2Fb/drain")

    def test_a_join_token_is_shown_and_withdrawn(self):
        done = self.run_cli("node", "token", "--expires", "30m")
        self.assertEqual(done.stdout, "outlast-join-1.AAAA\n")  # fit for a pipe to `outlast node join -`
        self.assertIn("lets one node into river until 2026-11-01T12:00:00Z", done.stderr)
        self.assertIn("outlast node join - --config FILE", done.stderr)
        self.assertNotIn("AAAA", done.stderr)
        self.assertEqual(json.loads(self.node.requests[-1][2])["expires_s"], 1800)
        self.run_cli("node", "token", "--json")
        self.assertEqual(json.loads(self.node.requests[-1][2])["expires_s"], 3600)
        self.assertEqual(self.run_cli("node", "token", "--withdraw", "jt_a").stdout, "withdrawn jt_a\n")
        self.assertEqual(self.node.requests[-1][:2], ("DELETE", "/admin/v1/cluster/tokens/jt_a"))
        self.assertIn("no open token 'jt_b'", self.run_cli("node", "token", "--withdraw", "jt_b", code=4).stderr)

    def test_the_cluster_s_status_is_tables(self):
        self.assertEqual(self.run_cli("cluster", "status").stdout.split("\n"), [
            "cluster river, as node n1 sees it", "",
            "NODE  STATE   UP   ROLES           VERSION  SHARDS  LAG  ENDPOINT",
            "n1    active  yes  gateway,ledger  0.4.0         2    0  tcp://10.0.0.1:8083",
            "n2    active  no   ledger          -             0    -  tcp://10.0.0.2:8083", "",
            "SHARD    OWNER  EPOCH  ENTRIES  REPLICAS",
            "control  n1         7      120  n1, n2 -2",
            "0        -          8        5  -", "",
            "ETCD                   HEALTHY  LEADER  VERSION  DATABASE BYTES  WHY",
            "https://10.0.0.1:2379  yes      yes     3.4.23             1000",
            "https://10.0.0.2:2379  no       -       -                     -  timed out", "",
            "SHARD HERE  PROBLEM",
            "0           another process has it", ""])
        self.assertEqual(json.loads(self.run_cli("cluster", "status", "--json").stdout), CLUSTER)

    def test_certificates_are_private_and_never_overwritten(self):
        out = os.path.join(self.folder.name, "pki")
        made = json.loads(self.run_cli("cluster", "certificates", "--out", out, "--host", "m1=10.0.0.1,m1.example",
                                       "--node", "n1", "--json").stdout)
        names = ["ca.crt", "ca.key", "etcd-m1.crt", "etcd-m1.key", "node-n1.crt", "node-n1.key"]
        self.assertEqual([file["path"] for file in made["files"]], [os.path.join(out, name) for name in names])
        texts = {}
        for name in names:
            path = os.path.join(out, name)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600, name)
            with open(path, encoding="utf-8") as file:
                texts[name] = file.read()
        refused = self.run_cli("cluster", "certificates", "--out", out, "--node", "n2", "--node", "n1", code=1)
        self.assertIn("node-n1.crt is there already", refused.stderr)
        # Nothing was written for the other name either; machines that are new are added by the same authority.
        self.assertEqual(sorted(os.listdir(out)), sorted(names))
        self.run_cli("cluster", "certificates", "--out", out, "--host", "m2", "--node", "n2")
        for name, text in texts.items():
            with open(os.path.join(out, name), encoding="utf-8") as file:
                self.assertEqual(file.read(), text, name)

    def test_certificates_for_nobody_or_for_a_wrong_name_are_refused_before_anything_is_written(self):
        out = os.path.join(self.folder.name, "pki")
        for words, what in ((["--host", "m1=two words"], "neither a host name nor an IP address"),
                            (["--host", "m1=,"], "empty address"), (["--node", "../n1"], "is no name"),
                            (["--node", "n1", "--node", "n1"], "named twice"), ([], "--host NAME")):
            with self.subTest(words=words):
                self.assertIn(what, self.run_cli("cluster", "certificates", "--out", out, *words, code=2).stderr)
                self.assertFalse(os.path.exists(out))

    def test_an_authority_without_its_key_signs_nothing(self):
        out = os.path.join(self.folder.name, "pki")
        self.run_cli("cluster", "certificates", "--out", out, "--node", "n1")
        os.remove(os.path.join(out, "ca.key"))
        self.assertIn("ca.key", self.run_cli("cluster", "certificates", "--out", out, "--node", "n2", code=1).stderr)

    def test_routes_are_checked_and_stored_for_all_nodes(self):
        routes = ('[[provider]]\nname = "alpha"\ndialect = "openai"\nbase_url = "http://127.0.0.1:9001/v1"\n'
                  'api_key = { env = "ONLY_ON_THE_NODES" }\n')
        path = self.write("routes.toml", routes)
        self.assertIn("1 providers, 0 deployments, 0 routes", self.run_cli("cluster", "apply", path).stdout)
        method, where, body = self.node.requests[-1]
        self.assertEqual((method, where), ("PUT", "/admin/v1/cluster/settings/routes"))
        self.assertEqual(json.loads(body)["value"], routes)
        self.run_cli("cluster", "apply", "--remove")
        self.assertEqual(json.loads(self.node.requests[-1][2])["value"], "")
        asked = len(self.node.requests)
        errors = self.run_cli("cluster", "apply", self.write("bad.toml", '[node]\nname = "x"\n'), code=1).stderr
        self.assertIn("bad.toml:1: key 'node': is not known", errors)
        self.assertEqual(len(self.node.requests), asked)  # nobody was asked
        self.assertEqual(self.run_cli("cluster", "settings").stdout,
                         "NAME    BYTES  VALUE\nroutes     12  …\nshards      2  16\n")
        self.assertEqual(self.run_cli("cluster", "settings", "routes").stdout, "a = 1\nb = 2\n")
        self.assertIn("no setting 'x'", self.run_cli("cluster", "settings", "x", code=4).stderr)

    # Usage.

    def test_usage_is_a_table_with_a_total_and_notes(self):
        self.assertEqual(self.run_cli("usage", "--by", "model").stdout,
                         "MODEL  REQUESTS  FAILED  TOKENS IN  CACHED  TOKENS OUT  COST USD\n"
                         "fast          3       1         15       5           7  0.000123\n"
                         'a,"b"         1       0          0       0           0      0.00\n'
                         "total         4       1         15       5           7  0.000123\n"
                         "1 requests have no known price and count as 0; add their models to the price book\n"
                         "1 requests are estimated, since the provider reported no usage\n")
        self.assertEqual(self.node.requests[-1][1], "/admin/v1/usage?by=model")

    def test_usage_as_json_and_csv(self):
        self.assertEqual(json.loads(self.run_cli("usage", "--json").stdout), USAGE)
        lines = self.run_cli("usage", "--by", "model", "--csv").stdout.split("\n")
        self.assertTrue(lines[0].startswith("model,requests,attempts,failed_attempts,cost_usd,"), lines[0])
        self.assertIn("tokens_input_uncached", lines[0])
        self.assertTrue(lines[1].startswith("fast,3,4,1,0.000123,0.00,0,1,10,5,"), lines[1])
        self.assertTrue(lines[2].startswith('"a,""b""",1,'), lines[2])

    def test_usage_asks_for_the_time_that_was_meant(self):
        self.run_cli("usage", "--by", "model,user", "--since", "2026-11-01", "--until", "2026-11-01T12:30Z")
        self.assertEqual(self.node.requests[-1][1],
                         "/admin/v1/usage?by=model,user&since=1793491200000&until=1793536200000")
        self.run_cli("usage", "--since", "24h")
        since = int(self.node.requests[-1][1].split("since=")[1])
        self.assertLess(abs(time.time() * 1000 - 86_400_000 - since), 60_000)

    def test_usage_asks_for_what_was_meant(self):
        self.run_cli("usage", "--by", "team", "--every", "day", "--where", "provider=a&b", "--where", "user=", "--top", "3",
                     "--sort", "failures")
        self.assertEqual(self.node.requests[-1][1], "/admin/v1/usage?by=team&every=day&where=provider%3Da%26b"
                                                    "&where=user%3D&top=3&sort=failures")
        self.assertEqual(self.run_cli("usage", "--focus").stdout, "BilledCost,BillingAccountId\n")
        self.assertEqual(self.node.requests[-1][1], "/admin/v1/usage?by=&format=focus")

    def test_usage_shows_times_latency_and_what_its_total_holds(self):
        self.node.usage = TIMED_USAGE
        self.assertEqual(
            self.run_cli("usage", "--by", "tag", "--every", "day", "--top", "1").stdout,
            "START                 TAG      REQUESTS  FAILED  TOKENS IN  CACHED  TOKENS OUT  COST USD  FAILED %  "
            "FIRST MS P50  MS P50  MS P95\n"
            "2026-11-01T00:00:00Z  nightly         3       1         10       0           7  0.000123      25.0  "
            "           -     900    1800\n"
            "a request with several tags counts under each of them, also in the total\n"
            "2 smaller rows are left out; the total counts them too\n")
        lines = self.run_cli("usage", "--by", "tag", "--every", "day", "--csv").stdout.split("\n")
        self.assertTrue(lines[0].startswith("start,tag,requests,"), lines[0])
        self.assertTrue(lines[0].strip().endswith(",failure_share,duration_ms_mean,duration_ms_p50,duration_ms_p95,"
                                                  "first_event_ms_mean,first_event_ms_p50,first_event_ms_p95"), lines[0])
        self.assertTrue(lines[1].strip().endswith(",0.25,901,900,1800,,,"), lines[1])

    # Invoices and prices.

    def test_an_invoice_that_differs_ends_with_6_and_says_why(self):
        path = self.write("invoice.csv", INVOICE)
        done = self.run_cli("reconcile", "alpha", "--file", path, "--model", "x=m", "--key-is", "team", "--tolerance", "0.5%",
                            code=6)
        self.assertEqual(done.stdout,
                         "DAY         MODEL  KEY  THERE USD  HERE USD  WHY\n"
                         "2026-11-02  m                4.00      3.00  price_differs: dearer?[2J\n"
                         "                                             estimated: 2 requests\n"
                         "1 of 2 lines agree, 2026-11-01 to 2026-11-02; in all $5.00 there and $4.00 here\n")
        self.assertEqual(done.stderr, "outlast: 1 lines of alpha differ by more than the tolerance\n")
        method, asked, body = self.node.requests[-1]
        self.assertEqual((method, body), ("POST", INVOICE))
        self.assertIn("/admin/v1/reconcile?provider=alpha&model=x%3Dm&key_is=team&tolerance=0.5000%25&file=", asked)
        done = self.run_cli("reconcile", "alpha", "--file", "-", "--json", stdin=INVOICE, code=6)
        self.assertEqual(json.loads(done.stdout)["agrees"], False)
        self.node.reconciliation = dict(RECONCILED, agrees=True, agreeing_lines=1, lines=RECONCILED["lines"][:1])
        done = self.run_cli("reconcile", "alpha", "--file", path)
        self.assertEqual(done.stdout,
                         "1 of 1 lines agree, 2026-11-01 to 2026-11-02; in all $5.00 there and $4.00 here\n")

    def test_a_wrong_invoice_is_told_with_line_and_column_before_anybody_is_asked(self):
        asked = len(self.node.requests)
        path = self.write("bad.csv", "day,model,cost\n2026-11-01,m,1.00\n2026-11-02,m,many\n")
        errors = self.run_cli("reconcile", "alpha", "--file", path, code=1).stderr
        self.assertIn("bad.csv: line 3, column 3: (cost) 'many' is not an amount", errors)
        errors = self.run_cli("reconcile", "alpha", "--file", path + ".no", code=4).stderr
        self.assertIn("No such file", errors)
        self.assertEqual(len(self.node.requests), asked)

    def test_history_at_other_prices_is_a_table_with_notes(self):
        output = self.run_cli("reprice", "--since", "2026-11-01", "--with", "2026-12").stdout
        self.assertEqual(self.node.requests[-1],
                         ("POST", "/admin/v1/reprice?file=the%20price%20book&version=2026-12&since=1793491200000", ""))
        self.assertEqual(output,
                         "PROVIDER  MODEL  ATTEMPTS  TOKENS  RECORDED USD  REPRICED USD  DIFFERENCE\n"
                         "alpha     m             3      30          1.00          0.50       -0.50\n"
                         "total                   3      30          1.00          0.50       -0.50\n"
                         "1 attempts have no price in '2026-12' and keep what was recorded\n"
                         "2 attempts were in doubt and keep what was recorded: their model is not known\n")
        path = self.write("prices.toml", PRICES)
        self.assertEqual(json.loads(self.run_cli("reprice", "--since", "7d", "--with", path, "--json").stdout), REPRICED)
        self.assertEqual(self.node.requests[-1][2], PRICES)
        errors = self.run_cli("reprice", "--since", "7d", "--with", "2030", code=4).stderr
        self.assertIn("no price book of version '2030'", errors)
        path = self.write("wrong.toml", "version = 3\n")
        self.assertIn("wrong.toml:1", self.run_cli("reprice", "--since", "7d", "--with", path, code=1).stderr)

    # The ledger.

    def test_a_whole_ledger_verifies(self):
        self.assertEqual(self.run_cli("ledger", "verify").stdout, "7 entries are whole; head ab12\n")
        self.assertEqual(json.loads(self.run_cli("ledger", "verify", "--json").stdout), self.node.verify)

    def test_a_damaged_ledger_ends_with_5(self):
        self.node.verify = {"ok": False, "entries": 7, "head": "ab12", "first_bad_index": 4, "message": "hash differs"}
        self.assertIn("damaged from entry 4 on: hash differs", self.run_cli("ledger", "verify", code=5).stderr)
        done = self.run_cli("ledger", "verify", "--json", code=5)
        self.assertEqual(json.loads(done.stdout)["first_bad_index"], 4)

    def test_tail_shows_the_last_entries(self):
        lines = self.run_cli("ledger", "tail", "-n", "2").stdout.splitlines()
        self.assertEqual(lines, [
            "      23  2026-11-01T12:00:00Z  settle       r23  fable-alpha  ok  US$ 0.000123",
            "      24  2026-11-01T12:00:00Z  settle       r24  fable-alpha  ok  US$ 0.000123  estimated"])
        lines = self.run_cli("ledger", "tail", "--json").stdout.splitlines()
        self.assertEqual([json.loads(line)["index"] for line in lines], list(range(15, 25)))
        self.node.entries = 3
        self.assertEqual(len(self.run_cli("ledger", "tail").stdout.splitlines()), 3)

    def test_tail_follows(self):
        with subprocess.Popen([OUTLAST, "ledger", "tail", "-n", "1", "--follow", "--json"], stdout=subprocess.PIPE,
                              text=True, env=self.environment) as process:
            try:
                self.assertEqual(json.loads(process.stdout.readline())["index"], 24)
                self.node.entries = 27
                self.assertEqual(json.loads(process.stdout.readline())["index"], 25)
                self.assertEqual(json.loads(process.stdout.readline())["index"], 26)
            finally:
                process.kill()

    def test_export_writes_every_entry_over_many_pages(self):
        self.node.entries = 12_345
        lines = self.run_cli("ledger", "export", "--format", "jsonl").stdout.splitlines()
        self.assertEqual([json.loads(line) for line in lines], [entry(index) for index in range(12_345)])
        lines = self.run_cli("ledger", "export", "--from", "12344").stdout.splitlines()
        self.assertEqual(len(lines), 1)
        lines = self.run_cli("ledger", "export", "--format", "csv", "--from", "12343").stdout.splitlines()
        self.assertEqual(len(lines), 3)
        row = dict(zip(lines[0].split(","), lines[1].split(",")))
        self.assertEqual((row["index"], row["request_id"], row["cost_pico_usd"], row["estimated"], row["tenant"],
                          row["tokens_output_text"]), ("12343", "r12343", "123000000", "false", "", "12343"))

    # The ledgers of a cluster's node.

    def in_cluster(self):
        start = 1_793_534_400_000
        self.node.shards = {"0": [start, start + 3_000, start + 9_000], "1": [start + 1_000, start + 3_000],
                            "control": [start + 2_000, start + 10_000]}

    def test_tail_merges_the_shards_of_a_cluster_by_time(self):
        self.in_cluster()
        done = self.run_cli("ledger", "tail", "-n", "4")
        self.assertEqual([line[:46] for line in done.stdout.splitlines()], [
            "0              1  2026-11-01T12:00:03Z  settle", "1              1  2026-11-01T12:00:03Z  settle",
            "0              2  2026-11-01T12:00:09Z  settle", "control        1  2026-11-01T12:00:10Z  settle"])
        self.assertEqual(done.stderr, "outlast: not at this node: shard 7 (n2, n3)\n")
        lines = [json.loads(line) for line in self.run_cli("ledger", "tail", "--json").stdout.splitlines()]
        self.assertEqual([(line["ledger_shard"], line["index"]) for line in lines],
                         [("0", 0), ("1", 0), ("control", 0), ("0", 1), ("1", 1), ("0", 2), ("control", 1)])
        lines = self.run_cli("ledger", "tail", "--shard", "1", "-n", "1", "--json").stdout.splitlines()
        self.assertEqual([(json.loads(line)["ledger_shard"], json.loads(line)["index"]) for line in lines], [("1", 1)])
        self.assertIn("name one of them with --shard", self.run_cli("ledger", "tail", "-n", "5001", code=2).stderr)

    def test_tail_follows_every_shard(self):
        self.in_cluster()
        with subprocess.Popen([OUTLAST, "ledger", "tail", "-n", "1", "--follow", "--json"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, env=self.environment) as process:
            def shown():
                line = json.loads(process.stdout.readline())
                return line["ledger_shard"], line["index"]
            try:
                self.assertEqual(shown(), ("control", 1))
                self.node.shards["1"].append(1_793_534_411_000)
                self.assertEqual(shown(), ("1", 2))
                self.node.shards["0"].append(1_793_534_412_000)
                self.assertEqual(shown(), ("0", 3))
            finally:
                process.kill()

    def test_export_writes_every_shard_of_a_cluster_over_many_pages_and_says_which(self):
        self.in_cluster()
        self.node.shards["1"] = list(range(5_001))
        done = self.run_cli("ledger", "export")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([(line["ledger_shard"], line["index"]) for line in lines],
                         [(shard, index) for shard, times in self.node.shards.items() for index in range(len(times))])
        self.assertEqual(done.stderr, "outlast: not at this node: shard 7 (n2, n3)\n")
        lines = self.run_cli("ledger", "export", "--shard", "1", "--from", "4999", "--format", "csv").stdout.splitlines()
        self.assertEqual([line.split(",")[:2] for line in lines], [["ledger_shard", "index"], ["1", "4999"], ["1", "5000"]])
        self.assertIn("an index counts within its shard", self.run_cli("ledger", "export", "--from", "1", code=2).stderr)

    def test_verify_has_a_line_for_each_shard_and_ends_with_5_when_one_is_damaged(self):
        self.in_cluster()
        done = self.run_cli("ledger", "verify")
        self.assertEqual(done.stdout.splitlines(), [
            "shard 0: 3 entries are whole; head ab", "shard 1: 2 entries are whole; head ab",
            "shard control: 2 entries are whole; head ab", "3 shards, 7 entries"])
        self.node.damaged = "1"
        done = self.run_cli("ledger", "verify", code=5)
        self.assertIn("shard 1: damaged from entry 2 on: hash differs (3 entries checked)\nshard control: 2", done.stdout)
        self.assertIn("replica is damaged of shard 1;", done.stderr)
        report = json.loads(self.run_cli("ledger", "verify", "--json", code=5).stdout)
        self.assertEqual((report["ok"], report["entries"]), (False, 8))
        self.assertEqual([(row["shard"], row["ok"]) for row in report["shards"]],
                         [("0", True), ("1", False), ("control", True)])
        self.run_cli("ledger", "verify", "--shard", "0")

    def test_a_shard_without_a_replica_here_is_asked_of_the_nodes_that_are_named(self):
        self.in_cluster()
        for words in (["tail"], ["export"], ["verify"], ["backup", "b"]):
            errors = self.run_cli("ledger", *words, "--shard", "7", code=4).stderr
            self.assertIn("this node has no replica of shard 7; ask a node that has one: n2, n3", errors)
            errors = self.run_cli("ledger", *words, "--shard", "s000", code=4).stderr
            self.assertIn("there is no shard 's000' here; there are 0, 1, control", errors)
        self.assertIn("have no signed heads", self.run_cli("ledger", "heads", code=1).stderr)

    def test_a_backup_of_a_clusters_node_is_one_of_each_shard(self):
        self.in_cluster()
        made = json.loads(self.run_cli("ledger", "backup", "/srv/b", "--json").stdout)
        self.assertEqual([(row["shard"], row["entries"]) for row in made["shards"]], [("0", 3), ("1", 2), ("control", 2)])
        asked = [json.loads(body) for _, path, body in self.node.requests if path.endswith("ledger/backup")]
        self.assertEqual(asked, [{"folder": f"/srv/b/{shard}", "keep": 7, "shard": shard} for shard in ("0", "1", "control")])

    def test_a_node_on_its_own_has_no_shards(self):
        for words in (["tail"], ["export"], ["verify"], ["backup", "b"]):
            errors = self.run_cli("ledger", *words, "--shard", "0", code=2).stderr
            self.assertIn("a node on its own has one ledger; leave out --shard", errors)

    # Configuration.

    def test_output_that_cannot_be_written_ends_with_1(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([OUTLAST, "completion", "bash"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "outlast: cannot write to stdout: No space left on device\n")

    def test_a_constraint_without_anything_in_it_is_refused(self):
        self.write("config.json", "{}")
        for option, text, words in (("--labels", "", "has no label"), ("--labels", "\n  \n\t\r\n", "has no label"), ("--json-schema", " \n", "is empty")):
            errors = self.run_cli("generate", self.folder.name, "hello", option, self.write("constraint", text), code=2).stderr
            self.assertIn(f"constraint {words}", errors)

    def test_config_check_says_right_or_names_every_error(self):
        good = self.write("good.toml", '[node]\nname = "n1"\ndata = "d"\n')
        self.assertIn("good.toml is right: node n1, 0 providers", self.run_cli("config", "check", good).stdout)
        self.assertEqual(json.loads(self.run_cli("config", "check", good, "--json").stdout), {"ok": True, "errors": []})
        bad = self.write("bad.toml", '[node]\nname = "n1"\ndata = "d"\ncolour = 1\n[http]\nlanes = -1\n')
        expected = [f"{bad}:4: key 'node.colour': is not known; the keys here are name, data, roles",
                    f"{bad}:6: key 'http.lanes': -1 is out of range; write an integer from 0 to 1024"]
        self.assertEqual(self.run_cli("config", "check", bad, code=1).stderr.splitlines()[1:], expected)
        done = self.run_cli("config", "check", bad, "--json", code=1)
        self.assertEqual(json.loads(done.stdout), {"ok": False, "errors": expected})
        self.assertIn("cannot be read", self.run_cli("config", "check", "/no/such.toml", code=1).stderr)

    def test_config_reload_shows_why_it_was_refused(self):
        self.assertIn("node.toml:1: key 'x': is not known", self.run_cli("config", "reload", code=1).stderr)

    # Price books.

    PRICE = '[[price]]\nprovider = "a"\nmodel = "m"\ninput = "2"\noutput = "{}"\n'

    def test_prices_check_says_right_or_names_every_error(self):
        good = self.write("good.toml", 'version = "v1"\n' + self.PRICE.format(3) + "until = 2020-01-01\n")
        text = self.run_cli("prices", "check", good).stdout
        self.assertIn("good.toml is right: version v1, 1 prices of 1 models of 1 providers", text)
        self.assertIn("no price of 'm' of provider 'a' holds now", text)
        checked = json.loads(self.run_cli("prices", "check", good, "--json").stdout)
        self.assertEqual((checked["ok"], checked["prices"], len(checked["warnings"])), (True, 1, 1))
        bad = self.write("bad.toml", 'version = "v1"\n' + self.PRICE.format(-3) + 'currency = "EUR"\n')
        expected = [f"{bad}:6: key 'price.output': '-3' is out of range; write an amount from 0 to 1000000.00",
                    f"{bad}:7: key 'price.currency': 'EUR' is not supported; prices are in US dollars, write "
                    'currency = "USD" and the dollars of your contract']
        self.assertEqual(self.run_cli("prices", "check", bad, code=1).stderr.splitlines()[1:], expected)
        done = self.run_cli("prices", "check", bad, "--json", code=1)
        self.assertEqual(json.loads(done.stdout), {"ok": False, "errors": expected})
        self.assertIn("cannot be read", self.run_cli("prices", "check", "/no/such.toml", code=1).stderr)

    def test_prices_diff_is_a_table_in_percent_or_json(self):
        old = self.write("old.toml", 'version = "v1"\n' + self.PRICE.format(4))
        new = self.write("new.toml", 'version = "v2"\n' + self.PRICE.format(5))
        self.assertEqual(self.run_cli("prices", "diff", old, old).stdout, "nothing changed\n")
        self.assertRegex(self.run_cli("prices", "diff", old, new).stdout, r"a +m +output +4\.00 +5\.00 +\+25\.00 %")
        diff = json.loads(self.run_cli("prices", "diff", old, new, "--json").stdout)
        self.assertEqual((diff["old_version"], diff["new_version"]), ("v1", "v2"))
        self.assertEqual(diff["changes"], [{"provider": "a", "model": "m", "contract": "", "service_tier": "", "geo": "",
                                            "batch": False, "change": "changed", "key": "output", "old": "4.00",
                                            "new": "5.00", "percent": "+25.00"}])

    def test_prices_show_marks_the_price_that_a_request_would_pay(self):
        book = self.write("p.toml", 'version = "v1"\n' + self.PRICE.format(3) + self.PRICE.format(9) +
                          'service_tier = "priority"\n')
        shown = json.loads(self.run_cli("prices", "show", "a", "m", "--file", book, "--tier", "priority",
                                        "--json").stdout)
        self.assertEqual([(price["service_tier"], price["charged"], price["figures"]["output"])
                          for price in shown["prices"]], [("priority", True, "9.00"), ("", False, "3.00")])
        self.assertRegex(self.run_cli("prices", "show", "a", "m", "--file", book).stdout, r"a +output +3\.00 +\*")
        self.assertRegex(self.run_cli("prices", "show", "a", "m").stdout, r"a +output +7\.00 +\*")
        self.assertIn("there is no price of 'x' of provider 'a'",
                      self.run_cli("prices", "show", "a", "x", "--file", book, code=4).stderr)
        self.assertIn("is not a time", self.run_cli("prices", "show", "a", "m", "--file", book, "--at", "soon",
                                                    code=2).stderr)

    def test_prices_import_writes_a_book_that_checks_and_says_what_it_skipped(self):
        prices = self.write("map.json", json.dumps({
            "gpt": {"input_cost_per_token": 1.25e-06, "output_cost_per_token": 1e-05, "litellm_provider": "openai",
                    "mode": "chat"},
            "img": {"output_cost_per_image": 0.04, "litellm_provider": "openai", "mode": "image_generation"},
            "other": {"input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06, "litellm_provider": "b"}}))
        done = self.run_cli("prices", "import", prices, "--provider", "openai", "--version", "v7")
        self.assertIn('version = "v7"', done.stdout)
        self.assertIn('provider = "openai"\nmodel = "gpt"\ninput = "1.25"\noutput = "10.00"\n', done.stdout)
        self.assertNotIn("other", done.stdout)
        self.assertIn("skipped img: mode 'image_generation'", done.stderr)
        self.assertIn("1 prices of 1 models; 1 skipped", done.stderr)
        output = os.path.join(self.folder.name, "out.toml")
        words = ("prices", "import", prices, "--provider", "openai", "--as", "eu", "--output", output)
        self.assertIn("1 prices of 1 models", self.run_cli(*words).stdout)
        self.assertIn("add --force", self.run_cli(*words, code=1).stderr)
        imported = json.loads(self.run_cli(*words, "--force", "--json").stdout)
        self.assertEqual((imported["output"], [note["name"] for note in imported["skipped"]]), (output, ["img"]))
        self.assertIn("is right", self.run_cli("prices", "check", output).stdout)
        self.assertRegex(self.run_cli("prices", "show", "eu", "gpt", "--file", output).stdout, r"eu +output +10\.00")
        self.assertIn("--as: names one provider", self.run_cli("prices", "import", prices, "--as", "x", code=2).stderr)
        self.assertIn("no price to import", self.run_cli("prices", "import", prices, "--provider", "x", code=1).stderr)
        self.assertIn("is not JSON at byte",
                      self.run_cli("prices", "import", self.write("bad.json", "{"), code=1).stderr)

    # The node.

    def test_status_deployments_and_models(self):
        self.assertIn("ledger.entries  25\n", self.run_cli("status").stdout)
        self.assertEqual(self.run_cli("deployments").stdout,
                         "NAME         STATE   IN FLIGHT\nfable-alpha  closed          2\n")
        self.assertEqual(json.loads(self.run_cli("deployments", "--json").stdout)["deployments"][0]["in_flight"], 2)
        # What the node says cannot steer the terminal.
        self.assertEqual(self.run_cli("models").stdout, "smart\nfast?[31m\n")

    def test_rate_limits(self):
        lines = self.run_cli("rate-limits").stdout.splitlines()
        self.assertEqual(lines[0].split()[:3], ["SCOPE", "REQUESTS/MIN", "BURST"])
        self.assertEqual(lines[1].split(), ["team:acme/search", "60", "5", "4", "1000"])
        self.assertEqual(lines[2].split(), ["key:*", "9", "9", "3"])
        shown = json.loads(self.run_cli("rate-limits", "--json").stdout)
        self.assertEqual(shown["rate_limits"][1]["live"], 3)

    # Chat.

    def test_chat_streams_the_answer(self):
        self.assertEqual(self.run_cli("chat", "-m", "smart", "say", "hi").stdout, "Hello\n")
        body = json.loads(self.node.requests[-1][2])
        self.assertEqual(body["model"], "smart")
        self.assertEqual(body["messages"], [{"role": "user", "content": "say hi"}])
        self.assertIs(body["stream"], True)

    def test_chat_takes_stdin_a_system_prompt_and_the_first_route(self):
        self.run_cli("chat", "--system", "be brief", "--max-tokens", "9", "sum up", stdin="long text\n")
        body = json.loads(self.node.requests[-1][2])
        self.assertEqual(body["model"], "smart")
        self.assertEqual(body["max_tokens"], 9)
        self.assertEqual(body["messages"], [{"role": "system", "content": "be brief"},
                                            {"role": "user", "content": "sum up\n\nlong text\n"}])

    def test_chat_as_json_names_deployment_and_usage(self):
        answer = json.loads(self.run_cli("chat", "-m", "smart", "hi", "--json").stdout)
        self.assertEqual(answer, {"text": "Hello", "model": "m", "deployment": "fable-alpha", "request_id": "r1",
                                  "attempts": 2, "finish_reason": "stop",
                                  "usage": {"prompt_tokens": 5, "completion_tokens": 2}})

    def test_chat_fails_clearly(self):
        self.assertIn("no model 'nope'", self.run_cli("chat", "-m", "nope", "hi", code=4).stderr)
        self.assertIn("nothing to ask", self.run_cli("chat", "-m", "smart", code=2).stderr)
        environment = dict(self.environment, OUTLAST_KEY="ol_wrong")
        errors = self.run_cli("chat", "-m", "smart", "hi", code=1, environment=environment).stderr
        self.assertIn("refused this virtual key; give a live one in OUTLAST_KEY or --key-file", errors)
        self.assertNotIn("ol_wrong", errors)
        environment.pop("OUTLAST_KEY")
        self.assertIn("no virtual key", self.run_cli("chat", "hi", code=1, environment=environment).stderr)
        self.node.stream = events("Hel")[:-20]
        self.assertIn("ended early", self.run_cli("chat", "-m", "smart", "hi", code=1).stderr)
        self.node.stream = 'data: {"error": {"message": "upstream went away"}}\n\n'
        self.assertIn("upstream went away", self.run_cli("chat", "-m", "smart", "hi", code=1).stderr)

    def test_chat_reads_its_key_from_a_file(self):
        environment = dict(self.environment)
        environment.pop("OUTLAST_KEY")
        path = self.write("key", KEY + "\n")
        self.assertEqual(self.run_cli("chat", "-m", "smart", "hi", "--key-file", path, environment=environment).stdout,
                         "Hello\n")

    # Terminals.

    def run_on_terminal(self, words, typed, environment):
        """What the program shows on a terminal on which `typed` is typed."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(OUTLAST, [OUTLAST, *words], environment)
        shown = b""
        os.write(terminal, typed)
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            ready, _, _ = select.select([terminal], [], [], 1)
            if not ready:
                continue
            try:
                piece = os.read(terminal, 65_536)
            except OSError:
                break
            if not piece:
                break
            shown += piece
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), shown.decode()

    def test_colours_are_shown_on_a_terminal_only_and_not_against_no_color(self):
        environment = dict(self.environment, TERM="xterm")
        self.assertNotIn("\x1b", self.run_cli("key", "list", environment=environment).stdout)
        self.assertIn("\x1b[1m", self.run_on_terminal(["key", "list"], b"", environment)[1])
        self.assertNotIn("\x1b", self.run_on_terminal(["key", "list"], b"", dict(environment, NO_COLOR="1"))[1])
        self.assertNotIn("\x1b", self.run_on_terminal(["key", "list"], b"", dict(environment, TERM="dumb"))[1])

    def test_a_conversation_keeps_what_was_said(self):
        environment = dict(self.environment, TERM="dumb")
        code, shown = self.run_on_terminal(["chat", "-m", "smart"], b"one\ntwo\n\n", environment)
        self.assertEqual(code, 0, shown)
        self.assertIn("fable-alpha · 5 tokens in, 2 out · 2 attempts", shown)
        messages = json.loads(self.node.requests[-1][2])["messages"]
        self.assertEqual([(m["role"], m["content"]) for m in messages],
                         [("user", "one"), ("assistant", "Hello"), ("user", "two")])

    def test_an_answer_cannot_steer_the_terminal(self):
        self.node.stream = events("a\u001b]0;owned\u0007b")
        shown = self.run_on_terminal(["chat", "-m", "smart", "hi"], b"", dict(self.environment, TERM="dumb"))[1]
        self.assertIn("a?]0;owned?b", shown)

    # Completion.

    def complete_in_bash(self, line):
        script = self.run_cli("completion", "bash").stdout
        words = line.split(" ")
        array = " ".join(f"'{word}'" for word in words)
        script += f"COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; _outlast; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
        return done.stdout.split()

    def test_bash_completes_commands_and_options_where_they_stand(self):
        self.assertEqual(self.complete_in_bash("outlast le"), ["ledger"])
        self.assertEqual(sorted(w for w in self.complete_in_bash("outlast key ") if not w.startswith("-")),
                         ["create", "list", "revoke"])
        self.assertEqual(self.complete_in_bash("outlast key create --ten"), ["--tenant"])
        self.assertEqual(self.complete_in_bash("outlast --json ledger export --fo"), ["--format"])
        self.assertEqual(self.complete_in_bash("outlast --data "), [], "a value is left to the shell's own completion")

    def test_every_shell_has_a_script_and_no_other(self):
        for shell in ("bash", "zsh", "fish"):
            self.assertIn("revoke", self.run_cli("completion", shell).stdout)
        self.run_cli("completion", "tcsh", code=2)


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        OUTLAST = os.path.abspath(sys.argv.pop(1))
    unittest.main()
