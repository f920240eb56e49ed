"""The checker of histories on made-up ones: a good one passes, and each way to go wrong is caught by its rule."""

import copy

import pytest

from history import ANSWERED, REFUSED, UNKNOWN, Fault, Request, check, longest_silences, recoveries, recovery_table

INPUT_PRICE, OUTPUT_PRICE = 3, 15  # pico-USD per token: small figures read better


class Ledger:
    """Writes a shard's entries as an owner would."""

    def __init__(self, shard):
        self.shard = shard
        self.entries = []
        self.epoch = 1

    def add(self, kind, request_id=None, **fields):
        index = len(self.entries)
        before = self.entries[-1]["hash"] if self.entries else "genesis"
        entry = {"index": index, "epoch": self.epoch, "time_ms": 1000 + index, "kind": kind, "request_id": request_id,
                 "attempt": None, "cost_pico_usd": None, "estimated": None, **fields,
                 "prev_hash": before, "hash": f"{self.shard}/{index}/{kind}/{request_id}"}
        self.entries.append(entry)
        return self

    def key(self, key_id):
        return self.add("key_created", key_id=key_id)

    def budget(self, name, scope, amount, soft=False, **away):
        return self.add("budget_set", budget=name, scope=scope, amount_pico_usd=str(amount), soft=soft, **away)

    def allotment(self, what, name, shard, amount, opened):
        return self.add("allotment_" + what, budget=name, shard=shard, amount_pico_usd=str(amount), opened=opened)

    def reserve(self, request, amount, tenant="acme/search/ann", key_id="k1"):
        return self.add("reserve", request, tenant=tenant, key_id=key_id, amount_pico_usd=str(amount), tags=[])

    def extend(self, request, amount):
        return self.add("extend", request, amount_pico_usd=str(amount))

    def settle(self, request, output_tokens, overrun=0, estimated=False, input_tokens=5):
        cost = input_tokens * INPUT_PRICE + output_tokens * OUTPUT_PRICE
        return self.add("settle", request, attempt=1, cost_pico_usd=str(cost), overrun_pico_usd=str(overrun),
                        estimated=estimated, tokens={"input_uncached": input_tokens, "output_text": output_tokens})

    def void(self, request):
        return self.add("void", request, overrun_pico_usd="0")


def answered(number, request_id, sent_s=1.0, ended_s=2.0, organisation="acme", output_tokens=10):
    return Request(number, "n1", organisation, sent_s, ended_s, ANSWERED, request_id, 200, 5, output_tokens)


@pytest.fixture
def good():
    """(history, ledgers): two shards on three nodes, an owner's change, every way for a request to end."""
    first = Ledger("0").budget("b1", "organisation:acme", 1000)
    first.reserve("r1", 300).settle("r1", 10).reserve("r2", 300)
    first.epoch = 2
    first.add("owner_started", node="n2").settle("r2", 10, estimated=True).reserve("r3", 200).void("r3")
    second = Ledger("1").key("k1").reserve("r4", 300, tenant="other/t/u").extend("r4", 100).settle("r4", 20)
    history = [
        answered(1, "r1"),
        answered(2, "r2", output_tokens=30),  # charged by estimate: its owner died
        Request(3, "n2", "acme", 3.0, 4.0, REFUSED, "r3", 503),
        answered(4, "r4", organisation="other", output_tokens=20),
        Request(5, "n3", "acme", 3.0, 4.0, UNKNOWN, None, None),
    ]
    ledgers = {node: {"0": copy.deepcopy(first.entries), "1": copy.deepcopy(second.entries)} for node in ("n1", "n2", "n3")}
    return history, ledgers


def on_all(ledgers, shard, change):
    """The same change in every replica, hashes chained anew."""
    for shards in ledgers.values():
        shards[shard] = change(copy.deepcopy(shards[shard]))
        chain(shards[shard])


def chain(entries):
    before = "genesis"
    for index, entry in enumerate(entries):
        entry.update(index=index, time_ms=1000 + index, prev_hash=before, hash=f"{index}/{entry['kind']}/{entry['request_id']}")
        before = entry["hash"]


def rules(found):
    return {violation.rule for violation in found}


def test_a_good_history_has_no_violation(good):
    assert check(*good, made_keys=["k1"]) == []


def test_a_lost_answer_is_caught(good):
    history, ledgers = good
    on_all(ledgers, "0", lambda entries: [entry for entry in entries if entry["request_id"] != "r1"])
    assert rules(check(history, ledgers)) == {"lost"}


def test_an_answer_without_id_is_caught(good):
    history, ledgers = good
    assert rules(check([*history, answered(6, None)], ledgers)) == {"lost"}


def test_a_voided_answer_is_caught(good):
    history, ledgers = good
    assert rules(check([*history, answered(6, "r3")], ledgers)) >= {"lost"}


def test_a_request_that_is_settled_twice_is_caught(good):
    history, ledgers = good
    on_all(ledgers, "0", lambda entries: entries + [copy.deepcopy(next(
        entry for entry in entries if entry["request_id"] == "r1" and entry["kind"] == "settle"))])
    assert "twice" in rules(check(history, ledgers))


def test_a_request_in_two_shards_is_caught(good):
    history, ledgers = good
    r1 = [entry for entry in ledgers["n1"]["0"] if entry["request_id"] == "r1"]
    on_all(ledgers, "1", lambda entries: entries + copy.deepcopy(r1))
    assert "twice" in rules(check(history, ledgers))


def test_an_end_without_reservation_is_caught(good):
    history, ledgers = good
    on_all(ledgers, "1", lambda entries: [entry for entry in entries if entry["kind"] != "reserve"])
    assert rules(check(history, ledgers)) == {"orphan"}


def test_one_id_for_two_requests_is_caught(good):
    history, ledgers = good
    assert rules(check([*history, answered(6, "r1")], ledgers)) == {"twice"}


def test_a_reservation_without_end_is_caught_once_all_is_at_rest(good):
    history, ledgers = good
    on_all(ledgers, "0", lambda entries: [entry for entry in entries if entry["kind"] != "void"])
    assert rules(check(history, ledgers)) == {"open"}
    assert check(history, ledgers, at_rest=False) == []


def test_a_charge_that_differs_from_what_the_caller_was_told_is_caught(good):
    history, ledgers = good
    history[0] = answered(1, "r1", output_tokens=11)
    assert rules(check(history, ledgers)) == {"usage"}


def test_a_gap_a_broken_chain_a_stale_epoch_and_time_that_goes_back_are_caught(good):
    history, ledgers = good
    for rule, change in {
        "chain": lambda entry: entry.update(prev_hash="something else"),
        "epoch": lambda entry: entry.update(epoch=0),
        "time": lambda entry: entry.update(time_ms=0),
    }.items():
        changed = copy.deepcopy(ledgers)
        for shards in changed.values():
            change(shards["0"][-1])
        assert rules(check(history, changed)) == {rule}
    for shards in ledgers.values():
        del shards["0"][1:3]
    assert "chain" in rules(check(history, ledgers))


def test_replicas_that_differ_are_caught(good):
    history, ledgers = good
    ledgers["n2"]["0"][-1]["hash"] = "another"
    assert rules(check(history, ledgers)) == {"replicas"}


def test_a_replica_that_stays_behind_is_caught_once_all_is_at_rest(good):
    history, ledgers = good
    del ledgers["n3"]["0"][-2:]
    assert rules(check(history, ledgers)) == {"replicas"}
    assert check(history, ledgers, at_rest=False) == []


def test_a_cap_that_is_exceeded_by_what_is_held_is_caught_though_all_ends_below_it(good):
    history, ledgers = good
    on_all(ledgers, "0", lambda entries: Ledger("0").budget("b1", "organisation:acme", 450).entries + entries[1:])
    # r1 used 165; r2 held 300 on top of it.
    found = check(history, ledgers)
    assert rules(found) == {"cap"}
    assert "index 3" in str(found[0]) and "465 pico-USD used and held of 450" in str(found[0])


@pytest.mark.parametrize("scope", ["team:acme/search", "user:acme/search/ann", "key:k1"])
def test_a_cap_of_every_scope_is_checked(scope):
    ledger = Ledger("0").budget("b", scope, 500).reserve("r1", 300).reserve("r2", 201)
    assert rules(check([], {"n1": {"0": ledger.entries}}, at_rest=False)) == {"cap"}
    ledger = Ledger("0").budget("b", scope, 500).reserve("r1", 300).reserve("r2", 201, tenant="acme/ads/bob", key_id="k2")
    assert check([], {"n1": {"0": ledger.entries}}, at_rest=False) == []


def test_extensions_count_and_overruns_do_not():
    ledger = Ledger("0").budget("b", "organisation:acme", 400).reserve("r1", 300).extend("r1", 101)
    assert rules(check([], {"n1": {"0": ledger.entries}}, at_rest=False)) == {"cap"}
    ledger = Ledger("0").budget("b", "organisation:acme", 400).reserve("r1", 300).settle("r1", 30, overrun=165)
    assert check([], {"n1": {"0": ledger.entries}}) == []


def test_a_soft_budget_may_be_exceeded_and_a_smaller_one_only_be_kept_from_growing():
    ledger = Ledger("0").budget("b", "organisation:acme", 10, soft=True).reserve("r1", 300).settle("r1", 10)
    assert check([], {"n1": {"0": ledger.entries}}) == []
    ledger = Ledger("0").budget("b", "organisation:acme", 300).reserve("r1", 300).budget("b", "organisation:acme", 100)
    ledger.settle("r1", 10)
    assert check([], {"n1": {"0": ledger.entries}}) == []
    ledger.reserve("r2", 1)
    assert rules(check([], {"n1": {"0": ledger.entries}}, at_rest=False)) == {"cap"}


def allotted():
    """A budget of 500 whose home is shard 1; shard 0 has 200 of it, and has given 50 back."""
    home = Ledger("1").budget("b", "team:acme/search", 500).allotment("granted", "b", 0, 0, 0)
    home.allotment("granted", "b", 0, 200, 1).allotment("returned", "b", 0, 50, 1)
    away = Ledger("0").budget("b", "team:acme/search", 500, away=True).allotment("granted", "b", 1, 200, 1)
    away.allotment("returned", "b", 1, 50, 1)
    return home, away


def test_a_shard_may_spend_its_part_of_a_budget_and_no_more():
    home, away = allotted()
    for ledger, most in ((home, 350), (away, 150)):
        entries = copy.deepcopy(ledger.entries)
        assert check([], {"n1": {"0": ledger.reserve("r1", most).entries}}, at_rest=False) == []
        ledger.entries = entries
        found = check([], {"n1": {"0": ledger.reserve("r1", most + 1).entries}}, at_rest=False)
        assert rules(found) == {"cap"} and f"of {most}" in str(found[0])


def test_a_later_allotment_voids_the_one_before():
    _, away = allotted()
    away.allotment("granted", "b", 1, 30, 9).reserve("r1", 31)
    assert rules(check([], {"n1": {"0": away.entries}}, at_rest=False)) == {"cap"}


def test_an_allotment_that_nobody_gave_is_caught():
    home, away = allotted()
    shards = {"0": away.entries, "1": home.entries}
    assert check([], {"n1": shards}) == []
    home.allotment("granted", "b", 0, 10, 1)  # on its way
    away.allotment("returned", "b", 1, 20, 1)
    assert check([], {"n1": shards}) == []
    away.allotment("granted", "b", 1, 11, 1)
    assert rules(check([], {"n1": shards})) == {"allotment"}
    home.allotment("granted", "b", 0, 1, 1).allotment("returned", "b", 0, 21, 1)
    assert rules(check([], {"n1": shards})) == {"allotment"}


def test_a_key_that_was_made_and_is_not_there_is_caught(good):
    assert rules(check(*good, made_keys=["k1", "k9"])) == {"lost"}


def test_recovery_is_the_first_answer_to_a_request_sent_after_the_fault():
    fault = Fault("kill_node", "n1", 10.0, 15.0)
    history = [
        answered(1, "a", sent_s=9.0, ended_s=10.5),   # was under way: says nothing of what comes after
        Request(2, "n1", "acme", 10.1, 10.2, UNKNOWN),
        answered(3, "b", sent_s=10.2, ended_s=12.0),
        answered(4, "c", sent_s=12.0, ended_s=12.1),
        answered(5, "d", sent_s=10.0, ended_s=10.3, organisation="other"),
    ]
    assert recoveries(history, [fault]) == [(fault, {"acme": 2.0, "other": pytest.approx(0.3)})]
    assert recovery_table(history, [fault]) == [("kill_node", 1, 2.0, 2.0)]


def test_a_tenant_that_nobody_answers_again_has_no_recovery_time():
    history = [answered(1, "a", sent_s=1.0, ended_s=2.0), answered(2, "b", sent_s=11.0, ended_s=12.0, organisation="other")]
    fault = Fault("cut_node", "n1", 10.0, 15.0)
    assert recoveries(history, [fault]) == [(fault, {"acme": None, "other": 2.0})]
    assert recovery_table(history, [fault]) == [("cut_node", 1, 2.0, None)]


def test_the_longest_silence_counts_from_the_edges():
    history = [answered(1, "a", ended_s=3.0), answered(2, "b", ended_s=4.0), answered(3, "c", organisation="o", ended_s=9.0)]
    assert longest_silences(history, 2.0, 10.0) == {"acme": 6.0, "o": 7.0}
