"""A minute of random faults under load; scripts/chaos does the same for as long as wanted. And the plan of faults itself."""

import itertools
import os

import pytest

from chaos import KINDS, Chaos, plan, record_of
from cluster import why_no_cluster
from history import ANSWERED, REFUSED

SECONDS = float(os.environ.get("OUTLAST_CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("OUTLAST_CHAOS_SEED", "20261125"))


def first_of(seed, count, able=("", "namespaces", "disks")):
    return list(itertools.islice(plan(seed, ["n1", "n2", "n3"], set(able)), count))


def test_a_seed_gives_the_same_faults_again_and_another_seed_others():
    assert first_of(7, 50) == first_of(7, 50)
    assert first_of(7, 50) != first_of(8, 50)


def test_every_kind_of_fault_comes_before_one_comes_twice():
    for seed in range(20):
        assert {planned.kind for planned in first_of(seed, len(KINDS))} == set(KINDS)
        on_loopback = first_of(seed, 10, able=("",))
        assert all(planned.kind.needs == "" for planned in on_loopback)


def test_a_caller_writes_down_what_came():
    made = {"number": 1, "node": "n1", "organisation": "acme", "sent_s": 1.0}
    headers = {"x-outlast-request-id": "r1"}
    whole = b'{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}'
    record = record_of(made, 2.0, 200, headers, whole, stream=False)
    assert (record.outcome, record.request_id, record.input_tokens, record.output_tokens) == (ANSWERED, "r1", 5, 7)
    stream = b'data: {"choices": []}\n\ndata: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}\n\n'
    record = record_of(made, 2.0, 200, headers, stream + b"data: [DONE]\n\n", stream=True)
    assert (record.outcome, record.output_tokens) == (ANSWERED, 7)
    # A stream that ends with an error, without [DONE], was not answered.
    assert record_of(made, 2.0, 200, headers, stream, stream=True).outcome == REFUSED
    assert record_of(made, 2.0, 503, headers, b'{"error": {}}', stream=False).outcome == REFUSED


@pytest.mark.skipif(bool(why_no_cluster(True)), reason=why_no_cluster(True) or "a cluster can run here")
def test_a_minute_of_random_faults_loses_and_doubles_nothing(tmp_path):
    report = Chaos(tmp_path, SEED, in_namespaces=True, disks=True).run(SECONDS)
    print(report.text())
    assert report.violations == []
    assert report.counts()[ANSWERED] > 100
