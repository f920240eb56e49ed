"""Members of an etcd cluster with mutual TLS, as real processes that can be killed, paused, cut off and started again."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess

from network import Loopback
from outlast_node import BIN, EXIT_DEADLINE_S, request, wait_for

CLIENT_PORT, PEER_PORT, METRICS_PORT = 2379, 2380, 2381
HEALTHY_DEADLINE_S = 60
QUOTA_BYTES = 8 << 30
COMMON_NAME = "outlast-etcd"  # of members' certificates, as `outlast cluster certificates` writes them


def why_no_etcd():
    """Why there can be no etcd here; "" when there can."""
    return "" if shutil.which("etcd") else "etcd is not installed (scripts/setup --test)"


def make_certificates(folder, hosts, nodes):
    """hosts: {member: address}. Returns the folder."""
    arguments = ["cluster", "certificates", "--out", folder]
    for name, address in hosts.items():
        arguments += ["--host", f"{name}={address}"]
    for node in nodes:
        arguments += ["--node", node]
    done = subprocess.run([str(BIN / "outlast"), *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return folder


class Child:
    """A process that says nothing when it is ready; its output goes to a file."""

    def __init__(self, command, log, environment=None):
        self.log_path = pathlib.Path(log)
        with open(self.log_path, "ab") as file:
            self.child = subprocess.Popen([str(word) for word in command], stdout=file, stderr=file,
                                          env={**os.environ, **(environment or {})})

    @property
    def pid(self):
        return self.child.pid

    def log(self):
        return self.log_path.read_text(errors="replace")[-3000:]

    def running(self):
        return self.child.poll() is None

    def signal(self, number):
        if self.running():
            self.child.send_signal(number)

    def kill(self):
        if self.running():
            self.child.kill()
        self.child.wait()

    def terminate(self):
        self.signal(signal.SIGTERM)
        try:
            return self.child.wait(EXIT_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"pid {self.pid} did not end within {EXIT_DEADLINE_S} s:\n{self.log()}") from None


class Member:
    """One member: its address, its folder and its process."""

    def __init__(self, name, folder, network):
        self.name = name
        self.folder = folder
        self.network = network
        self.address = network.add(name)
        self.client_port = network.port(name, CLIENT_PORT)
        self.peer_port = network.port(name, PEER_PORT)
        self.metrics_port = network.port(name, METRICS_PORT)
        self.process = None

    @property
    def client_url(self):
        return f"https://{self.address}:{self.client_port}"

    @property
    def peer_url(self):
        return f"https://{self.address}:{self.peer_port}"

    def metrics(self):
        """The text of /metrics; "" when it does not answer. Plain HTTP: in a real cluster, on loopback only."""
        try:
            status, _, data = request(f"{self.address}:{self.metrics_port}", "GET", "/metrics", timeout=2)
        except OSError:
            return ""
        return data.decode() if status == 200 else ""

    def metric(self, name):
        found = re.search(rf"^{name} (\S+)$", self.metrics(), re.M)
        return float(found[1]) if found else None

    def is_leader(self):
        return self.metric("etcd_server_is_leader") == 1

    def healthy(self):
        """Whether it can commit: it asks a quorum."""
        try:
            status, _, data = request(f"{self.address}:{self.metrics_port}", "GET", "/health", timeout=5)
        except OSError:
            return False
        return status == 200 and json.loads(data)["health"] == "true"

    def running(self):
        return self.process is not None and self.process.running()


class EtcdMembers:
    """Three members that start together. One owner; close() at the end."""

    def __init__(self, folder, network=None, names=("m1", "m2", "m3"), nodes=("n1", "n2", "n3")):
        self.folder = pathlib.Path(folder)
        self.network = network or Loopback()
        self.members = {}
        for name in names:
            (self.folder / name).mkdir(parents=True, mode=0o700)
            self.members[name] = Member(name, self.folder / name, self.network)
        addresses = {name: member.address for name, member in self.members.items()}
        self.certificates = make_certificates(self.folder / "certificates", addresses, nodes)

    def __iter__(self):
        return iter(self.members.values())

    def __getitem__(self, name):
        return self.members[name]

    @property
    def endpoints(self):
        return [member.client_url for member in self]

    def command(self, member):
        pem = self.certificates
        initial = ",".join(f"{one.name}={one.peer_url}" for one in self)
        return [
            "etcd", "--name", member.name, "--data-dir", member.folder / "data",
            "--listen-client-urls", member.client_url, "--advertise-client-urls", member.client_url,
            "--listen-peer-urls", member.peer_url, "--initial-advertise-peer-urls", member.peer_url,
            "--listen-metrics-urls", f"http://{member.address}:{member.metrics_port}",
            "--initial-cluster", initial, "--initial-cluster-token", "outlast-test",
            "--cert-file", pem / f"etcd-{member.name}.crt", "--key-file", pem / f"etcd-{member.name}.key",
            "--trusted-ca-file", pem / "ca.crt", "--client-cert-auth",
            "--peer-cert-file", pem / f"etcd-{member.name}.crt", "--peer-key-file", pem / f"etcd-{member.name}.key",
            "--peer-trusted-ca-file", pem / "ca.crt", "--peer-client-cert-auth",
            "--peer-cert-allowed-cn", COMMON_NAME,
            "--quota-backend-bytes", QUOTA_BYTES, "--auto-compaction-mode", "revision", "--auto-compaction-retention", "1000",
            "--logger", "zap", "--log-level", "warn",
        ]

    def start(self, *names):
        """Those that do not run; without names, all, and waits until they can commit."""
        for member in [self.members[name] for name in names] or list(self):
            if not member.running():
                member.process = Child(self.network.command(member.name, self.command(member)), member.folder / "log")
        if not names:
            self.wait_until_healthy()
        return self

    def wait_until_healthy(self, deadline_s=HEALTHY_DEADLINE_S):
        for member in self:
            wait_for(member.healthy, f"etcd {member.name} can commit; its log ends:\n{member.process.log()}", deadline_s)

    def leader(self, among=None):
        """The member that leads, of those named; None when none does."""
        names = among or list(self.members)
        return next((self.members[name] for name in names if self.members[name].is_leader()), None)

    def kill(self, name):
        self.members[name].process.kill()

    def pause(self, name):
        self.members[name].process.signal(signal.SIGSTOP)

    def resume(self, name):
        self.members[name].process.signal(signal.SIGCONT)

    def client_context(self, node="n1"):
        """What speaks to members as that node does; without a node, as a client that has no certificate."""
        context = ssl.create_default_context(cafile=self.certificates / "ca.crt")
        if node is not None:
            context.load_cert_chain(self.certificates / f"node-{node}.crt", self.certificates / f"node-{node}.key")
        return context

    def close(self):
        for member in self:
            if member.process is not None:
                member.process.signal(signal.SIGCONT)
                member.process.kill()


@contextlib.contextmanager
def etcd_members(folder, network=None, **options):
    members = EtcdMembers(folder, network, **options)
    try:
        yield members.start()
    finally:
        members.close()
