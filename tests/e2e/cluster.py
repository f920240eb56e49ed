"""A whole cluster as real processes: etcd members, nodes and a simulated provider, which faults can be done to.

On loopback, everything can be killed, paused, wiped and started again. In namespaces (in_namespaces=True, as root), links can
be cut too. One owner, on the main thread: children die with the thread that started them.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time

from etcd_members import EtcdMembers, why_no_etcd
from network import Loopback, Namespaces, run, why_no_namespaces
from outlast_node import BIN, Node, Process, Sim, request, wait_for

HTTP_PORT, ADMIN_PORT, CLIENT_PORT, LINK_PORT, JOIN_PORT = 8080, 8081, 8082, 8083, 8084
LEASE_TTL_S = 2          # etcd's least: failovers are to be seen, not waited for
SHARDS = 4
READY_DEADLINE_S = 60
SECRETS = {"OUTLAST_E2E_KEY": "sk-sim"}
IDENTITY = ("cluster.json", "zmq.key", "key.secret", "admin.token")  # what a wiped node gets back from its backup


def why_no_cluster(in_namespaces=False):
    """Why no cluster can run here; "" when one can."""
    missing = [program for program in ("outlastd", "outlast", "outlast-sim") if not (BIN / program).exists()]
    if missing:
        return f"build first (scripts/build): {', '.join(missing)} missing"
    return why_no_etcd() or (why_no_namespaces() if in_namespaces else "")


class ClusterNode(Node):
    """A node of a cluster, in its own place in the network. Node's methods speak to it."""

    def __init__(self, cluster, name, **options):
        self.cluster = cluster
        self.name = name
        self.network = cluster.network
        self.address = self.network.add(name)
        self.ports = {wanted: self.network.port(name, wanted)
                      for wanted in (HTTP_PORT, ADMIN_PORT, CLIENT_PORT, LINK_PORT, JOIN_PORT)}
        folder = cluster.folder / name
        folder.mkdir(mode=0o700)
        super().__init__(folder, [cluster.sim], **options)
        self.http = self.at(HTTP_PORT)
        self.admin_address = self.at(ADMIN_PORT)
        self.zmq = self.at(CLIENT_PORT)
        self.paused = False
        self.programs = BIN  # the build that it runs

    def at(self, wanted):
        return f"{self.address}:{self.ports[wanted]}"

    def config_text(self):
        pem = self.cluster.etcd.certificates
        text = super().config_text()
        # Addresses first: the tables of the base class follow each other in this order.
        text = text.replace('name = "e2e"', f'name = "{self.name}"', 1)
        text = text.replace('listen = "127.0.0.1:0"', f'listen = "{self.at(HTTP_PORT)}"\nallow_plaintext = true', 1)
        text = text.replace('admin_listen = "127.0.0.1:0"', f'admin_listen = "{self.at(ADMIN_PORT)}"', 1)
        text = text.replace('listen = "tcp://127.0.0.1:0"', f'listen = "tcp://{self.at(CLIENT_PORT)}"', 1)
        lines = ["[cluster]", 'name = "e2e"', f"etcd = {json.dumps(self.cluster.etcd.endpoints)}"]
        lines += [f'etcd_ca = "{pem / "ca.crt"}"', f'etcd_cert = "{pem / f"node-{self.name}.crt"}"']
        lines += [f'etcd_key = "{pem / f"node-{self.name}.key"}"', f'listen = "tcp://{self.at(LINK_PORT)}"']
        lines += [f'join_listen = "tcp://{self.at(JOIN_PORT)}"', f"lease_ttl_s = {self.cluster.lease_ttl_s}"]
        lines += [f"shards = {self.cluster.shards}", f"replicas = {self.cluster.replicas}"]
        lines += [f"{name} = {json.dumps(value)}" for name, value in self.cluster.settings.items()]
        return text + "\n".join(lines) + "\n"

    # ---- life

    def outlast(self, *arguments):
        """`outlast` where the node is; its stdout."""
        done = subprocess.run(self.network.command(self.name, [str(self.programs / "outlast"), *map(str, arguments)]),
                              capture_output=True, text=True, timeout=60, env={**os.environ, **SECRETS})
        assert done.returncode == 0, f"outlast {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def found(self):
        self.outlast("node", "init", "--found", "--config", self.config_path)
        return self

    def join(self, by):
        """With a token that the node `by` makes."""
        _, body = by.admin("POST", "cluster/tokens", {"expires_s": 600, "by": "e2e"})
        self.outlast("node", "join", json.loads(body)["token"], "--config", self.config_path)
        return self

    def start(self, wait=True):
        command = self.network.command(self.name, [str(self.programs / "outlastd"), "--config", str(self.config_path)])
        self.daemon = Process(command, "outlastd ready ", self.folder / "outlastd.log", SECRETS)
        self.paused = False
        if wait:
            self.wait_until_ready()
        return self

    def ready(self):
        try:
            return request(self.admin_address, "GET", "/readyz", timeout=2)[0] == 200
        except OSError:
            return False

    def wait_until_ready(self, deadline_s=READY_DEADLINE_S):
        wait_for(self.ready, f"{self.name} is ready; its log ends:\n{self.daemon.log()}", deadline_s)

    def running(self):
        return self.daemon is not None and self.daemon.running()

    def answering(self):
        return self.running() and not self.paused

    def pause(self):
        os.kill(self.daemon.pid, signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.running():
            os.kill(self.daemon.pid, signal.SIGCONT)
        self.paused = False

    def wipe(self, identity=True):
        """The disk is lost while the node is down; with identity=True, its keys come back from a backup."""
        assert not self.running()
        for path in list(self.data.iterdir()):
            if identity and path.name in IDENTITY:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    # ---- what it says

    def metric(self, name):
        """Of /metrics, one that has no labels."""
        status, _, data = request(self.admin_address, "GET", "/metrics", timeout=5)
        assert status == 200, data
        return float(re.search(rf"^{name} (\S+)$", data.decode(), re.M)[1])

    def has_spool(self):
        """Whether something that it answered is on its own disk alone."""
        return self.metric("outlast_spool_bytes") > 0

    def status(self):
        """GET /admin/v1/cluster."""
        return json.loads(self.admin("GET", "cluster")[1])

    def owners(self):
        """{shard: node}, of those that have an owner."""
        return {shard["shard"]: shard["owner"] for shard in self.status()["shards"] if shard.get("owner")}

    def shard_entries(self, shard, first=0):
        """Every entry of one shard as this node has it."""
        entries = []
        while True:
            headers, data = self.admin("GET", f"ledger/entries?shard={shard}&from={first}&limit=10000")
            page = [json.loads(line) for line in data.splitlines() if line]
            if not page:
                return entries
            entries += page
            first = int(headers["x-outlast-next-index"])

    def ledger(self):
        """{shard: entries} of every shard that this node replicates."""
        mine = [shard["shard"] for shard in self.status()["shards"]
                if any(replica["node"] == self.name and replica["entries"] is not None for replica in shard["replicas"])]
        return {shard: self.shard_entries(shard) for shard in mine}


class Cluster:
    """close() at the end, or use it with `with`."""

    def __init__(self, folder, nodes=3, in_namespaces=False, shards=SHARDS, replicas=3, lease_ttl_s=LEASE_TTL_S,
                 sim_options=None, node_options=None, data_bytes=None, settings=None):
        self.folder = pathlib.Path(folder)
        self.shards, self.replicas, self.lease_ttl_s = shards, replicas, lease_ttl_s
        self.settings = settings or {}  # more of [cluster]
        self.network = Namespaces() if in_namespaces else Loopback()
        self.crashes = []  # of nodes that ended by themselves, in words
        self.cleanup = contextlib.ExitStack()
        self.cleanup.callback(self.network.close)
        try:
            names = [f"n{number}" for number in range(1, nodes + 1)]
            self.etcd = EtcdMembers(self.folder / "etcd", self.network, nodes=[*names, "n7", "n8", "n9"])
            self.cleanup.callback(self.etcd.close)
            self.sim = Sim(self.folder, "sim", models=["gpt-sim"], listen=f"{self.network.host}:0", **(sim_options or {}))
            self.cleanup.callback(self.sim.kill)
            self.nodes = {}
            self.node_options = node_options or {}
            self.data_bytes = data_bytes
            self.cleanup.callback(self._kill_nodes)
            for name in names:
                self.add(name)
        except BaseException:
            self.cleanup.close()
            raise

    def add(self, name):
        """A node that does not run and belongs to nothing yet."""
        node = ClusterNode(self, name, **self.node_options)
        self.nodes[name] = node
        if self.data_bytes is not None:
            node.data.mkdir(mode=0o700)
            run("mount", "-t", "tmpfs", "-o", f"size={self.data_bytes},mode=0700", f"outlast-{name}", node.data)
            self.cleanup.callback(subprocess.run, ["umount", "--lazy", str(node.data)], capture_output=True)
            # Daemons are killed before their disk goes: the stack ends with what was pushed last.
            self.cleanup.callback(node.resume)
            self.cleanup.callback(lambda: node.kill() if node.running() else None)
        return node

    def start(self):
        """etcd, then the founder, then the others by token."""
        self.etcd.start()
        first, *others = self
        first.found().start()
        for node in others:
            node.join(first).start()
        wait_for(self.settled_down, "every shard has moved to where it belongs", READY_DEADLINE_S)
        return self

    def __iter__(self):
        return iter(self.nodes.values())

    def __getitem__(self, name):
        return self.nodes[name]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def others(self, *names):
        return [node for node in self if node.name not in names]

    def any(self, *but):
        """A node that answers."""
        return next(node for node in self.others(*but) if node.answering())

    def owner_of(self, shard, asked=None):
        name = (asked or self.any()).owners().get(shard)
        return self.nodes.get(name)

    # ---- faults of links; the victim stays reachable for clients, who are this machine

    def cut_node(self, name):
        """From all nodes and all etcd members, both ways."""
        for other in [*self.others(name), *self.etcd]:
            self.network.cut(name, other.name)

    def deafen_node(self, name):
        """It sends and does not hear."""
        for other in [*self.others(name), *self.etcd]:
            self.network.drop(other.name, name)

    def mute_node(self, name):
        """It hears and is not heard."""
        for other in [*self.others(name), *self.etcd]:
            self.network.drop(name, other.name)

    def cut_node_from_etcd(self, name):
        for member in self.etcd:
            self.network.cut(name, member.name)

    def cut_node_from_nodes(self, name):
        for other in self.others(name):
            self.network.cut(name, other.name)

    def cut_member(self, name):
        """An etcd member from the others; nodes reach it still."""
        for member in self.etcd:
            if member.name != name:
                self.network.cut(name, member.name)

    def heal(self):
        """All links, and everything that was paused or has ended runs again."""
        self.network.heal()
        for member in self.etcd:
            self.etcd.resume(member.name)
        self.etcd.start(*(member.name for member in self.etcd if not member.running()))
        self.etcd.wait_until_healthy()
        for node in self:
            node.resume()
        for node in self:
            if not node.running():
                node.start(wait=False)
        for node in self:
            wait_for(lambda: self._ready_or_again(node), f"{node.name} is ready; its log ends:\n{node.daemon.log()}",
                     READY_DEADLINE_S)

    def _ready_or_again(self, node):
        """Whether it is ready. One that has ended by itself is noted and started again, as systemd would."""
        if not node.running():
            self.crashes.append(f"{node.name} ended with status {node.daemon.child.returncode}: {node.daemon.log()[-300:]}")
            node.start(wait=False)
        return node.ready()

    def settled_down(self):
        """Whether no shard has still to move: the owner of each is the one that it is best placed on."""
        return all(shard["owner"] is not None and shard["owner"] == shard["preferred_owner"]
                   for node in self for shard in node.status()["shards"])

    def at_rest(self):
        """Whether all replicas of all shards have the same entries and no reservation is open."""
        for node in self:
            for shard in node.status()["shards"]:
                applied = {replica["entries"] for replica in shard["replicas"]}
                if shard["owner"] is None or applied != {shard["entries"]}:
                    return False
            if json.loads(node.admin("GET", "status")[1])["ledger"]["open_reservations"] != 0:
                return False
        return True

    def ledgers(self):
        """{node: {shard: entries}}. Read again while a shard that moves gets its new owner's first entry in between."""
        deadline = time.monotonic() + 10
        while True:
            ledgers = {node.name: node.ledger() for node in self}
            ends = {}
            for shards in ledgers.values():
                for shard, entries in shards.items():
                    ends.setdefault(shard, set()).add(len(entries))
            if all(len(of_shard) == 1 for of_shard in ends.values()) or time.monotonic() > deadline:
                return ledgers

    def _kill_nodes(self):
        for node in self:
            if node.daemon is not None:
                node.resume()
                node.kill()

    def close(self):
        self.cleanup.close()


@contextlib.contextmanager
def load(cluster, ask, callers=6):
    """`ask(node)` at all nodes, as clients do that try the next one when a node is down. Yields the answers; none may fail."""
    stopping = threading.Event()
    failed, answered = [], []

    def call(turn):
        nodes = list(cluster)
        while not stopping.is_set():
            turn += 1
            first = turn % len(nodes)
            for node in nodes[first:] + nodes[:first]:
                try:
                    answer = ask(node)
                except ConnectionRefusedError:
                    continue
                except OSError as error:
                    failed.append(f"{node.name}: {type(error).__name__} {error}")
                    break
                (answered if answer.status == 200 else failed).append(answer)
                break
    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        stopping.set()
        for thread in threads:
            thread.join(40)
    assert failed == []
