"""Where the processes of a cluster run: all on loopback, or each in a network namespace of its own, where links can be cut.

A namespace is joined to the others by a veth to one bridge, which has a namespace too, so that the firewall of this machine
has no say. Links are cut by nft drop rules in the namespace of the receiver: a rule there cuts one direction, and two rules
cut both. Nothing here delays or reorders: there is no netem on such machines.
"""

import atexit
import contextlib
import functools
import itertools
import os
import shutil
import socket
import subprocess

PREFIX_BITS = 24
HOST = 254  # this machine's own end in the network, by which tests and simulated providers are reached
FIRST_PORT, PORTS = 12_000, 20_000
_numbers = itertools.count()
_ports = itertools.count()


def run(*command, stdin=None):
    done = subprocess.run([str(word) for word in command], input=stdin, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr.strip()}"
    return done.stdout


@functools.cache
def why_no_namespaces():
    """Why network namespaces cannot be used here; "" when they can."""
    for tool in ("ip", "nft", "setpriv"):
        if shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            return f"{tool} is not installed (scripts/setup --test)"
    name = f"ol{os.getpid():x}probe"
    try:
        run("ip", "netns", "add", name)
    except AssertionError as error:
        return f"network namespaces cannot be made here: {error}"
    try:
        run("ip", "netns", "exec", name, "nft", "-f", "-", stdin="table inet probe { }\n")
        run("ip", "-n", name, "link", "add", "probe0", "type", "bridge")
        run("ip", "-n", name, "link", "add", "probe1", "type", "veth", "peer", "name", "probe2")
    except AssertionError as error:
        return f"network namespaces are of no use here: {error}"
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return ""


class Loopback:
    """No faults, no rights needed: everything listens on 127.0.0.1 at a port of its own."""

    can_cut = False
    host = "127.0.0.1"

    def add(self, name):
        return self.host

    def port(self, name, wanted):
        """A free port, each time another. Below those that the kernel gives to outgoing connections, which would take it before
        its listener does, or while that is down; from a place of this process's own, so that other runs take others."""
        for _ in range(PORTS):
            number = FIRST_PORT + (os.getpid() * 97 + next(_ports)) % PORTS
            with contextlib.suppress(OSError), socket.socket() as listener:
                listener.bind((self.host, number))
                return number
        raise AssertionError(f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS} is free")

    def command(self, name, arguments):
        return child_command(arguments)

    def heal(self):
        pass

    def close(self):
        pass


class Namespaces:
    """One namespace per name, addresses 10.A.B.1 and on; this machine has 10.A.B.254."""

    can_cut = True

    def __init__(self):
        number = next(_numbers)
        pid = os.getpid()
        self.tag = f"ol{pid:x}{number:x}"
        self.subnet = f"10.{200 + pid % 50}.{(pid // 50 + number) % 250}"
        self.host = f"{self.subnet}.{HOST}"
        self.addresses = {}
        atexit.register(self.close)
        self.hub = f"{self.tag}-hub"
        run("ip", "netns", "add", self.hub)
        self.made = [self.hub]
        run("ip", "-n", self.hub, "link", "add", "bridge0", "type", "bridge")
        run("ip", "-n", self.hub, "link", "set", "bridge0", "up")
        self.host_link = f"{self.tag}h"
        self._join(None, self.host_link, HOST)

    def _join(self, namespace, link, number):
        """A veth from a namespace (None: this machine's own) to the bridge."""
        port = f"p{number}"
        # Made in the hub and moved: a moved end keeps its peer.
        run("ip", "-n", self.hub, "link", "add", port, "type", "veth", "peer", "name", link)
        run("ip", "-n", self.hub, "link", "set", port, "master", "bridge0", "up")
        run("ip", "-n", self.hub, "link", "set", link, "netns", namespace or os.getpid())
        inside = ["ip"] + (["-n", namespace] if namespace else [])
        run(*inside, "address", "add", f"{self.subnet}.{number}/{PREFIX_BITS}", "dev", link)
        run(*inside, "link", "set", link, "up")

    def add(self, name):
        """A namespace for `name`; its address."""
        number = len(self.addresses) + 1
        namespace = f"{self.tag}-{name}"
        run("ip", "netns", "add", namespace)
        self.made.append(namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        self._join(namespace, "eth0", number)
        run("ip", "netns", "exec", namespace, "nft", "-f", "-", stdin=(
            "table inet outlast {\n"
            "  chain input { type filter hook input priority 0; policy accept; }\n"
            "}\n"))
        self.addresses[name] = f"{self.subnet}.{number}"
        return self.addresses[name]

    def port(self, name, wanted):
        return wanted

    def command(self, name, arguments):
        return child_command(["ip", "netns", "exec", f"{self.tag}-{name}", *arguments])

    # ---- faults

    def drop(self, source, target):
        """What `source` sends does not reach `target`."""
        run("ip", "netns", "exec", f"{self.tag}-{target}", "nft", "add", "rule", "inet", "outlast", "input",
            "ip", "saddr", self.addresses.get(source, self.host), "drop")

    def cut(self, one, other):
        self.drop(one, other)
        self.drop(other, one)

    def heal(self):
        for name in self.addresses:
            run("ip", "netns", "exec", f"{self.tag}-{name}", "nft", "flush", "chain", "inet", "outlast", "input")

    def close(self):
        """Processes in them must have ended; a namespace lives as long as one of them."""
        made, self.made = self.made, []
        if made:
            subprocess.run(["ip", "link", "del", self.host_link], capture_output=True)
        for namespace in reversed(made):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


def child_command(arguments):
    """The command, dying with the thread that starts it: start processes on the main thread."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *map(str, arguments)]
