"""Checks what callers saw of a cluster against what its ledgers say. Pure: no process, no clock, no network.

A history is what clients wrote down themselves: for each request what became of it as far as they know. A ledger is the
entries of one shard as one node has them (the JSON of `outlast ledger entries`). check() gives every contradiction found, in
words; none is the only good answer.
"""

import collections
import dataclasses
import typing

ANSWERED = "answered"  # a whole answer came: it must be in the ledger, exactly once
REFUSED = "refused"    # an error answer came: nothing may have been charged more than once
UNKNOWN = "unknown"    # the connection broke or nothing came in time: once or not at all

END_KINDS = ("settle", "void")


@dataclasses.dataclass(frozen=True)
class Request:
    number: int
    node: str
    organisation: str
    sent_s: float
    ended_s: float
    outcome: str
    request_id: typing.Optional[str] = None
    status: typing.Optional[int] = None
    input_tokens: typing.Optional[int] = None  # of the answer's usage, where it has one
    output_tokens: typing.Optional[int] = None
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Fault:
    kind: str
    victim: str
    began_s: float
    healed_s: float


@dataclasses.dataclass(frozen=True)
class Violation:
    rule: str
    text: str

    def __str__(self):
        return f"{self.rule}: {self.text}"


def check(history, ledgers, made_keys=(), at_rest=True):
    """ledgers: {node: {shard: [entry]}}. at_rest: everything is healed and drained, so replicas must be equal and nothing
    may be open. made_keys: ids of keys whose making was acknowledged."""
    found = []
    for node, shards in sorted(ledgers.items()):
        for shard, entries in sorted(shards.items()):
            found += chain_violations(f"{node} shard {shard}", entries)
    found += replica_violations(ledgers, at_rest)
    merged = merge(ledgers)
    found += request_violations(history, merged, at_rest)
    for shard, entries in sorted(merged.items()):
        found += cap_violations(shard, entries)
    if at_rest:
        found += allotment_violations(merged)
    found += key_violations(made_keys, merged)
    return found


# ---- one ledger


def chain_violations(where, entries):
    """Indexes without gap, hashes that chain, an epoch that never falls, times that never fall."""
    found = []
    for before, after in zip(entries, entries[1:]):
        at = f"{where} at index {after['index']}"
        if after["index"] != before["index"] + 1:
            found.append(Violation("chain", f"{at}: follows index {before['index']}"))
        elif after["prev_hash"] != before["hash"]:
            found.append(Violation("chain", f"{at}: its previous hash is not that of the entry before it"))
        if after["epoch"] < before["epoch"]:
            found.append(Violation("epoch", f"{at}: epoch {after['epoch']} after {before['epoch']}: a stale owner's write"))
        if after["time_ms"] < before["time_ms"]:
            found.append(Violation("time", f"{at}: time goes back"))
    return found


# ---- several replicas


def replica_violations(ledgers, at_rest):
    found = []
    by_shard = collections.defaultdict(dict)
    for node, shards in ledgers.items():
        for shard, entries in shards.items():
            by_shard[shard][node] = entries
    for shard, replicas in sorted(by_shard.items()):
        hashes = {}
        for node, entries in sorted(replicas.items()):
            for entry in entries:
                known = hashes.setdefault(entry["index"], (node, entry["hash"]))
                if known[1] != entry["hash"]:
                    found.append(Violation(
                        "replicas", f"shard {shard} index {entry['index']}: {node} and {known[0]} have different entries"))
                    break
        ends = {node: entries[-1]["index"] if entries else -1 for node, entries in replicas.items()}
        if at_rest and len(set(ends.values())) > 1:
            found.append(Violation("replicas", f"shard {shard} ends at different indexes: {dict(sorted(ends.items()))}"))
    return found


def merge(ledgers):
    """{shard: entries} with every index that any node has."""
    merged = collections.defaultdict(dict)
    for shards in ledgers.values():
        for shard, entries in shards.items():
            for entry in entries:
                merged[shard].setdefault(entry["index"], entry)
    return {shard: [entries[index] for index in sorted(entries)] for shard, entries in merged.items()}


# ---- requests


def request_violations(history, merged, at_rest):
    found = []
    reserves = collections.defaultdict(list)  # request id: shards
    ends = collections.defaultdict(list)      # request id: (shard, entry)
    attempts = collections.Counter()
    for shard, entries in merged.items():
        for entry in entries:
            request = entry.get("request_id")
            if request is None:
                continue
            if entry["kind"] == "reserve":
                reserves[request].append(shard)
            elif entry["kind"] in END_KINDS:
                ends[request].append((shard, entry))
            elif entry["kind"] == "attempt":
                attempts[request, entry["attempt"]] += 1
    for request, shards in sorted(reserves.items()):
        if len(shards) > 1:
            found.append(Violation("twice", f"request {request} is reserved {len(shards)} times, in shards {shards}"))
        if at_rest and not ends[request]:
            found.append(Violation("open", f"request {request} is reserved and has no end"))
    for request, ended in sorted(ends.items()):
        if len(ended) > 1:
            found.append(Violation("twice", f"request {request} ends {len(ended)} times"))
        elif ended and ended[0][0] not in reserves.get(request, ()):
            found.append(Violation("orphan", f"request {request} ends in shard {ended[0][0]}, where it was not reserved"))
    found += [Violation("twice", f"attempt {number} of request {request} is recorded {count} times")
              for (request, number), count in sorted(attempts.items()) if count > 1]
    for one in history:
        found += seen_violations(one, ends.get(one.request_id, []))
    found += id_violations(history)
    return found


def seen_violations(one, ended):
    if one.outcome != ANSWERED:
        return []
    if one.request_id is None:
        return [Violation("lost", f"the answer to request number {one.number} names no request id")]
    settled = [entry for _, entry in ended if entry["kind"] == "settle"]
    if len(settled) != 1:
        return [Violation("lost", f"request {one.request_id} was answered by {one.node}, and is settled {len(settled)} times")]
    entry = settled[0]
    if entry["estimated"] or one.output_tokens is None:
        return []  # whoever died before it could say how much it was is charged by estimate
    tokens = entry["tokens"]
    charged = {"input": sum(count for name, count in tokens.items() if name.startswith("input")),
               "output": sum(count for name, count in tokens.items() if name.startswith("output"))}
    told = {"input": one.input_tokens, "output": one.output_tokens}
    if charged != told:
        return [Violation("usage", f"request {one.request_id}: the caller was told {told}, the ledger has {charged}")]
    return []


def id_violations(history):
    counts = collections.Counter(one.request_id for one in history if one.request_id is not None)
    return [Violation("twice", f"request id {request} was given to {count} requests")
            for request, count in sorted(counts.items()) if count > 1]


# ---- budgets


@dataclasses.dataclass
class _Budget:
    scope: str
    amount: int
    soft: bool
    away: bool = False
    used: int = 0
    held: int = 0
    allotments: dict = dataclasses.field(default_factory=dict)  # by the other shard: granted, returned, opened

    def part(self):
        """What this shard may spend of it (docs/ledger.md, Allotments)."""
        out = sum(granted - returned for granted, returned, _ in self.allotments.values())
        return out if self.away else self.amount - out

    def allot(self, entry):
        granted, returned, opened = self.allotments.get(entry["shard"], (0, 0, 0))
        now = entry["opened"] or entry["index"]  # the home's first entry opens it
        if now != opened:
            granted = returned = 0
        if entry["kind"] == "allotment_granted":
            granted += int(entry["amount_pico_usd"])
        else:
            returned += int(entry["amount_pico_usd"])
        self.allotments[entry["shard"]] = granted, returned, now

    def covers(self, entry):
        kind, _, value = self.scope.partition(":")
        organisation, _, rest = entry["tenant"].partition("/")
        team = rest.partition("/")[0]
        return {
            "organisation": value == organisation,
            "team": value == f"{organisation}/{team}",
            "user": value == entry["tenant"],
            "key": value == entry["key_id"],
            "tag": value in entry.get("tags", []),
        }.get(kind, False)


@dataclasses.dataclass
class _Open:
    budgets: list
    held: int
    spent: int = 0


def cap_violations(shard, entries):
    """No hard budget is exceeded after any entry, counting what is used and what open requests may still cost.

    Slices are left out: what they hold is no spending, and the ledger's own check counts them. Overruns (billed beyond the
    reservation) have an account of their own, in the ledger as here. A budget that was made smaller than what is used already
    is only kept from growing."""
    found = []
    budgets, open_requests = {}, {}
    for entry in entries:
        before = {name: budget.used + budget.held for name, budget in budgets.items()}
        _apply_to_budgets(entry, budgets, open_requests)
        for name, budget in budgets.items():
            total = budget.used + budget.held
            if not budget.soft and total > budget.part() and total > before.get(name, 0):
                found.append(Violation(
                    "cap", f"shard {shard} index {entry['index']}: budget {name} of {budget.scope} has {total} pico-USD used "
                           f"and held of {budget.part()}"))
    return found


def allotment_violations(merged):
    """Nothing that came to a shard was not given by another one: of each allotment both sides know the same totals, but for
    what is still on its way."""
    found = []
    shards = {}
    for shard, entries in merged.items():
        budgets, open_requests = shards.setdefault(shard, {}), {}
        for entry in entries:
            _apply_to_budgets(entry, budgets, open_requests)
    for shard, budgets in sorted(shards.items()):
        for name, budget in sorted(budgets.items()):
            for home, (granted, returned, opened) in budget.allotments.items() if budget.away else ():
                known = shards.get(str(home), {}).get(name)
                given, back, since = known.allotments.get(int(shard), (0, 0, 0)) if known else (0, 0, 0)
                if since == opened and (granted > given or back > returned):
                    found.append(Violation(
                        "allotment", f"budget {name}: shard {shard} has {granted} pico-USD from its home, shard {home}, and gave "
                                     f"{returned} back; the home gave {given} and has {back} back"))
    return found


def _apply_to_budgets(entry, budgets, open_requests):
    kind = entry["kind"]
    if kind == "budget_set":
        known = budgets.setdefault(entry["budget"], _Budget(entry["scope"], 0, entry["soft"]))
        known.amount, known.soft = int(entry["amount_pico_usd"]), entry["soft"]
        known.away = entry.get("away", False)
    elif kind in ("allotment_granted", "allotment_returned") and entry.get("budget") in budgets:
        budgets[entry["budget"]].allot(entry)
    elif kind == "budget_removed":
        budgets.pop(entry["budget"], None)
    elif kind == "budget_rolled" and entry["budget"] in budgets:
        budgets[entry["budget"]].used = 0
    elif kind == "reserve":
        held = int(entry["amount_pico_usd"])
        covering = [budget for budget in budgets.values() if budget.covers(entry)]
        open_requests[entry["request_id"]] = _Open(covering, held)
        for budget in covering:
            budget.held += held
    elif kind == "extend" and entry["request_id"] in open_requests:
        request = open_requests[entry["request_id"]]
        request.held += int(entry["amount_pico_usd"])
        for budget in request.budgets:
            budget.held += int(entry["amount_pico_usd"])
    elif kind == "attempt" and entry["request_id"] in open_requests:
        open_requests[entry["request_id"]].spent += int(entry["cost_pico_usd"])
    elif kind in END_KINDS and entry["request_id"] in open_requests:
        request = open_requests.pop(entry["request_id"])
        spent = request.spent + int(entry["cost_pico_usd"] or 0) - int(entry["overrun_pico_usd"])
        for budget in request.budgets:
            budget.held -= request.held
            budget.used += spent


# ---- keys


def key_violations(made_keys, merged):
    counts = collections.Counter(
        entry["key_id"] for entries in merged.values() for entry in entries if entry["kind"] == "key_created")
    return [Violation("lost" if counts[key] == 0 else "twice", f"key {key} was made, and is recorded {counts[key]} times")
            for key in sorted(made_keys) if counts[key] != 1]


# ---- how long it took


def recoveries(history, faults):
    """For each fault, how long each organisation waited for its first answer to a request sent after the fault began:
    [(fault, {organisation: seconds, or None when there was none before the history ends})]."""
    answered = sorted((one for one in history if one.outcome == ANSWERED), key=lambda one: one.ended_s)
    organisations = sorted({one.organisation for one in history})
    result = []
    for fault in faults:
        first = dict.fromkeys(organisations)
        for one in answered:
            if one.sent_s >= fault.began_s and first[one.organisation] is None:
                first[one.organisation] = one.ended_s - fault.began_s
        result.append((fault, first))
    return result


def longest_silences(history, began_s, ended_s):
    """{organisation: the longest time in [began_s, ended_s] without the end of an answered request}."""
    moments = collections.defaultdict(list)
    for one in history:
        moments[one.organisation]
        if one.outcome == ANSWERED and began_s <= one.ended_s <= ended_s:
            moments[one.organisation].append(one.ended_s)
    result = {}
    for organisation, times in moments.items():
        edges = [began_s, *sorted(times), ended_s]
        result[organisation] = max(after - before for before, after in zip(edges, edges[1:]))
    return result


def quantile(values, share):
    """Of a list that is not empty: the value below or at which that share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def recovery_table(history, faults):
    """Rows (kind, count, p50, max) in seconds over faults and organisations, by kind; max is None where somebody waited to
    the end of the history in vain."""
    by_kind = collections.defaultdict(list)
    counts = collections.Counter()
    for fault, waits in recoveries(history, faults):
        counts[fault.kind] += 1
        by_kind[fault.kind] += list(waits.values())
    rows = []
    for kind, waits in sorted(by_kind.items()):
        known = [wait for wait in waits if wait is not None]
        rows.append((kind, counts[kind], quantile(known, 0.5) if known else None,
                     max(known) if known and len(known) == len(waits) else None))
    return rows
