"""Chaos: a cluster under load while faults drawn from a seed happen to it; then everything is healed, and what callers saw is
checked against the ledgers (history.py). scripts/chaos runs it for long, test_chaos.py for a minute.

The seed decides which faults happen in which order for how long. Processes and the kernel decide the rest: the same seed
gives the same faults, and not the same run.
"""

import dataclasses
import http.client
import itertools
import json
import os
import pathlib
import random
import threading
import time

import history
from cluster import LEASE_TTL_S, Cluster
from outlast_node import Answer, headers_for, question, wait_for

ORGANISATIONS = ("acme", "birch", "cedar", "dune")
CAPPED = "dune"                 # has a hard budget that the load uses up
CAP_PICO_USD = 40_000 * 10**6   # 0.04 USD: some 80 requests of 32 tokens
LOOSE_CAP_USD = "1000000"       # others have budgets too, so that slices move
THREADS_PER_ORGANISATION = 2
REQUEST_TIMEOUT_S = 20
PAUSE_AFTER_REFUSAL_S = 0.05    # a cluster that refuses is not asked ten thousand times a second
FAULT_S = (1.0, 8.0)            # how long a fault lasts
CALM_S = (1.0, 4.0)             # between faults, after healing
HANDOVER_DEADLINE_S = 10
HEAL_DEADLINE_S = 90
REST_DEADLINE_S = 120
DATA_BYTES = 1 << 30            # of each node's disk where disks fill up
FREE_BYTES_MIN = 64 << 20       # below so much free, nodes refuse new requests


class Caller(threading.Thread):
    """One client: a request after another to any node, the next node after a failure, and a record of each."""

    numbers = itertools.count(1)

    def __init__(self, chaos, organisation, key, seed):
        super().__init__(daemon=True)
        self.chaos = chaos
        self.organisation = organisation
        self.headers = headers_for(key)
        self.random = random.Random(seed)
        self.records = []
        self.connection = None
        self.node = None

    def run(self):
        while not self.chaos.stopping.is_set():
            record = self.ask(self.random.random() < 0.5)
            self.records.append(record)
            if record.outcome != history.ANSWERED:
                self.leave()
                self.chaos.stopping.wait(PAUSE_AFTER_REFUSAL_S)
        self.leave()

    def leave(self):
        """The next request goes to another node, by a new connection."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def ask(self, stream):
        if self.connection is None:
            self.node = self.random.choice([node for node in self.chaos.cluster if node is not self.node])
            self.connection = http.client.HTTPConnection(self.node.http, timeout=REQUEST_TIMEOUT_S)
        sent_s = self.chaos.now()
        made = {"number": next(self.numbers), "node": self.node.name, "organisation": self.organisation, "sent_s": sent_s}
        headers = {}
        try:
            body = question(max_tokens=64, stream=stream, **({"stream_options": {"include_usage": True}} if stream else {}))
            self.connection.request("POST", "/v1/chat/completions", json.dumps(body), self.headers)
            response = self.connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            return history.Request(**made, ended_s=self.chaos.now(), outcome=history.UNKNOWN,
                                   request_id=headers.get("x-outlast-request-id"), error=f"{type(error).__name__}: {error}")
        return record_of(made, self.chaos.now(), response.status, headers, data, stream)


def record_of(made, ended_s, status, headers, data, stream):
    """What a caller writes down of an answer that came whole."""
    events = [line[6:] for line in data.decode(errors="replace").splitlines() if line.startswith("data: ")] if stream else []
    answer = Answer(status, headers, data, events)
    whole = status == 200 and (answer.done if stream else True)
    usage = {}
    if whole:
        parts = answer.chunks if stream else [answer.json]
        usage = next((part["usage"] for part in reversed(parts) if part.get("usage")), {})
    error = "" if whole else data[-200:].decode(errors="replace")
    outcome = history.ANSWERED if whole else history.REFUSED
    return history.Request(**made, ended_s=ended_s, outcome=outcome, request_id=headers.get("x-outlast-request-id"),
                           status=status, input_tokens=usage.get("prompt_tokens"),
                           output_tokens=usage.get("completion_tokens"), error=error)


# ---- faults: each does something to the cluster and returns the victim's name; Cluster.heal() ends them all


def kill_node(chaos, chosen):
    chaos.cluster[chosen].kill()
    return chosen


def pause_node(chaos, chosen):
    chaos.cluster[chosen].pause()
    return chosen


def wipe_node(chaos, chosen):
    """Once what it answered while it was cut off is handed over: until then no other disk has it (docs/cluster.md)."""
    node = chaos.cluster[chosen]
    wait_for(lambda: not node.has_spool(), f"{chosen} hands over what it answered by itself", HANDOVER_DEADLINE_S)
    chaos.cluster[chosen].kill()
    chaos.cluster[chosen].wipe()
    return chosen


def fill_disk(chaos, chosen):
    """Of a node: below the floor where it refuses new requests, and no further."""
    stats = os.statvfs(chaos.cluster[chosen].data)
    room = stats.f_bavail * stats.f_frsize - FREE_BYTES_MIN // 2
    chaos.ballast = chaos.cluster[chosen].data / "chaos.ballast"
    with open(chaos.ballast, "wb") as file:
        for _ in range(max(0, room) >> 20):
            file.write(b"\1" * (1 << 20))
    return chosen


def of_links(name):
    def fault(chaos, chosen):
        getattr(chaos.cluster, name)(chosen)
        return chosen
    return fault


def kill_member(chaos, _):
    member = chaos.random.choice(list(chaos.cluster.etcd))
    chaos.cluster.etcd.kill(member.name)
    return member.name


def pause_leader(chaos, _):
    member = chaos.cluster.etcd.leader() or chaos.random.choice(list(chaos.cluster.etcd))
    chaos.cluster.etcd.pause(member.name)
    return member.name


def cut_leader(chaos, _):
    member = chaos.cluster.etcd.leader() or chaos.random.choice(list(chaos.cluster.etcd))
    chaos.cluster.cut_member(member.name)
    return member.name


@dataclasses.dataclass(frozen=True)
class Kind:
    name: str
    begin: object
    needs: str = ""  # "namespaces", "disks"
    lasts_s: tuple = FAULT_S


PAUSE_S = (3 * LEASE_TTL_S, 3 * LEASE_TTL_S + 1)
KINDS = (
    Kind("kill_node", kill_node),
    Kind("pause_node", pause_node, lasts_s=PAUSE_S),
    Kind("wipe_node", wipe_node, lasts_s=(1.0, 3.0)),
    Kind("kill_etcd", kill_member),
    Kind("pause_etcd_leader", pause_leader),
    Kind("cut_node", of_links("cut_node"), "namespaces"),
    Kind("deafen_node", of_links("deafen_node"), "namespaces"),
    Kind("mute_node", of_links("mute_node"), "namespaces"),
    Kind("cut_node_from_etcd", of_links("cut_node_from_etcd"), "namespaces"),
    Kind("cut_node_from_nodes", of_links("cut_node_from_nodes"), "namespaces"),
    Kind("cut_etcd_leader", cut_leader, "namespaces"),
    Kind("fill_disk", fill_disk, "disks"),
)


@dataclasses.dataclass(frozen=True)
class Planned:
    kind: Kind
    node: str
    lasts_s: float
    calm_s: float


def plan(seed, node_names, able):
    """Endless: what happens next. Every kind comes once before one comes twice."""
    dice = random.Random(seed)
    kinds = [kind for kind in KINDS if kind.needs in able]
    while True:
        for kind in dice.sample(kinds, len(kinds)):
            yield Planned(kind, dice.choice(node_names), dice.uniform(*kind.lasts_s), dice.uniform(*CALM_S))


@dataclasses.dataclass
class Report:
    seed: int
    requests: list
    faults: list
    violations: list
    entries: int
    seconds: float

    def counts(self):
        outcomes = [one.outcome for one in self.requests]
        return {outcome: outcomes.count(outcome) for outcome in (history.ANSWERED, history.REFUSED, history.UNKNOWN)}

    def text(self):
        counts = self.counts()
        lines = [f"seed {self.seed}: {self.seconds:.0f} s, {len(self.faults)} faults, {len(self.requests)} requests "
                 f"({', '.join(f'{count} {outcome}' for outcome, count in counts.items())}), {self.entries} entries", ""]
        lines += [f"| {'fault':20} | {'times':>5} | {'first answer p50, s':>19} | {'max, s':>7} |",
                  f"|{'-' * 22}|{'-' * 6}:|{'-' * 20}:|{'-' * 8}:|"]
        for kind, times, p50, worst in history.recovery_table(self.measured(), self.faults):
            shown = ["never" if value is None else f"{value:.2f}" for value in (p50, worst)]
            lines.append(f"| {kind:20} | {times:5} | {shown[0]:>19} | {shown[1]:>7} |")
        lines.append("")
        lines += [f"VIOLATION {violation}" for violation in self.violations[:20]] or ["no violation"]
        if len(self.violations) > 20:
            lines.append(f"… and {len(self.violations) - 20} more")
        return "\n".join(lines)

    def measured(self):
        """Without the organisation whose budget is used up: it is refused for that."""
        return [one for one in self.requests if one.organisation != CAPPED]


class Chaos:
    """One run. Makes its cluster and ends it."""

    def __init__(self, folder, seed, nodes=3, in_namespaces=True, disks=False, say=print):
        self.folder = pathlib.Path(folder)
        self.seed = seed
        self.random = random.Random(seed + 1)
        self.say = say
        self.able = {""} | ({"namespaces"} if in_namespaces else set()) | ({"disks"} if disks else set())
        self.stopping = threading.Event()
        self.began = time.monotonic()
        self.callers = []
        self.faults = []
        self.made_keys = []
        self.ballast = None
        self.cluster = Cluster(
            self.folder, nodes=nodes, in_namespaces=in_namespaces, sim_options={"tokens": 32, "first_token_ms": 20},
            node_options={"limits": {"disk_free_bytes_min": FREE_BYTES_MIN}} if disks else None,
            data_bytes=DATA_BYTES if disks else None)

    def now(self):
        return time.monotonic() - self.began

    def log(self, text):
        self.say(f"{self.now():7.1f} s  {text}")

    def run(self, seconds):
        try:
            self.cluster.start()
            self.prepare()
            self.log(f"{len(self.callers)} callers ask {len(self.cluster.nodes)} nodes")
            self.disturb(seconds)
            return self.conclude()
        finally:
            self.stopping.set()
            self.cluster.close()

    def prepare(self):
        first = next(iter(self.cluster))
        for number, organisation in enumerate(ORGANISATIONS):
            made = first.create_key(f"{organisation}/team/user", organisation)
            self.made_keys.append(made["id"])
            amount = f"{CAP_PICO_USD / 10**12:.6f}" if organisation == CAPPED else LOOSE_CAP_USD
            first.cli("budget", "set", f"organisation:{organisation}", "--amount", amount, "--per", "total")
            for thread in range(THREADS_PER_ORGANISATION):
                self.callers.append(Caller(self, organisation, made["key"], self.seed * 1000 + number * 10 + thread))
        for caller in self.callers:
            caller.start()
        wait_for(lambda: all(self.answered(organisation) for organisation in ORGANISATIONS), "every organisation is answered", 60)

    def answered(self, organisation, since_s=0.0):
        return any(record.outcome == history.ANSWERED and record.sent_s >= since_s
                   for caller in self.callers if caller.organisation == organisation for record in caller.records[-50:])

    def disturb(self, seconds):
        end = self.now() + seconds
        for planned in plan(self.seed, list(self.cluster.nodes), self.able):
            if self.now() >= end:
                return
            self.one_fault(planned)
            time.sleep(planned.calm_s)

    def one_fault(self, planned):
        began_s = self.now()
        victim = planned.kind.begin(self, planned.node)
        self.log(f"{planned.kind.name} {victim} for {planned.lasts_s:.1f} s")
        time.sleep(planned.lasts_s)
        healed_s = self.now()
        if self.ballast is not None:
            self.ballast.unlink(missing_ok=True)
            self.ballast = None
        self.cluster.heal()
        self.faults.append(history.Fault(planned.kind.name, victim, began_s, healed_s))
        asked = [organisation for organisation in ORGANISATIONS if organisation != CAPPED]
        wait_for(lambda: all(self.answered(organisation, healed_s) for organisation in asked),
                 f"every organisation is answered again after {planned.kind.name} of {victim}", HEAL_DEADLINE_S)
        self.log(f"healed, {self.now() - healed_s:.1f} s")

    def conclude(self):
        self.stopping.set()
        for caller in self.callers:
            caller.join(REQUEST_TIMEOUT_S + 5)
            assert not caller.is_alive(), "a request has not ended in time"
        self.log("the load has ended; waiting until replicas are equal and nothing is open")
        rest = []
        try:
            wait_for(self.cluster.at_rest, "all replicas are equal and nothing is open", REST_DEADLINE_S)
        except AssertionError as error:
            rest = [history.Violation("rest", str(error))]
        ledgers = self.cluster.ledgers()
        requests = sorted((record for caller in self.callers for record in caller.records), key=lambda one: one.number)
        self.keep(requests, ledgers)
        rest += [history.Violation("crash", crash) for crash in self.cluster.crashes]
        violations = rest + history.check(requests, ledgers, self.made_keys)
        entries = sum(len(entries) for entries in history.merge(ledgers).values())
        return Report(self.seed, requests, self.faults, violations, entries, self.now())

    def keep(self, requests, ledgers):
        """For whoever looks into a violation."""
        with open(self.folder / "history.jsonl", "w") as file:
            for record in requests:
                file.write(json.dumps(dataclasses.asdict(record)) + "\n")
        for node, shards in ledgers.items():
            for shard, entries in shards.items():
                with open(self.folder / f"ledger-{node}-{shard}.jsonl", "w") as file:
                    file.writelines(json.dumps(entry) + "\n" for entry in entries)
