"""What a caller sees when providers fail: the error table, the hold-back rule, breakers."""

import threading

import pytest

from outlast_node import Load, question, request, wait_for

# A status that is not the caller's fault is tried elsewhere, and the caller never hears of it.
FAILOVER_STATUSES = [401, 402, 403, 404, 408, 409, 429, 500, 502, 503, 504, 529]


@pytest.fixture
def pair(make_sim, make_node):
    """A node whose route asks alpha first and beta when alpha fails."""

    def make(alpha_dialect="openai", **options):
        alpha = make_sim("alpha", dialect=alpha_dialect, models=["first"])
        beta = make_sim("beta", dialect="anthropic", models=["second"])
        deployments = [("d-alpha", "alpha", "first", 1), ("d-beta", "beta", "second", 2)]
        return alpha, beta, make_node(alpha, beta, deployments=deployments, **options)

    return make


@pytest.mark.parametrize("status", FAILOVER_STATUSES)
def test_a_failing_status_goes_to_the_next_deployment(pair, status):
    alpha, beta, node = pair()
    alpha.faults({"kind": "status", "status": status})
    answers = [node.chat(), node.stream().rest()]
    assert [answer.status for answer in answers] == [200, 200]
    assert [answer.deployment for answer in answers] == ["d-beta", "d-beta"]
    assert all(answer.text for answer in answers)
    # The second may find alpha's breaker open: a refused credential opens it at once.
    assert int(answers[0].headers["x-outlast-attempts"]) >= 2
    assert beta.stats()["completed"] == 2


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("status", [400, 413, 422])
def test_the_callers_fault_comes_back_and_is_not_tried_elsewhere(pair, dialect, status):
    alpha, beta, node = pair(dialect)
    alpha.faults({"kind": "status", "status": status, "message": "your fault"})
    answer = node.chat()
    assert answer.status == status
    assert "your fault" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert beta.stats()["requests"] == 0
    assert node.ended(answer.request_id)["kind"] == "void"


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("fault", [
    {"kind": "error_first_event"},
    {"kind": "close"},
    {"kind": "cut", "after_tokens": 0},
    {"kind": "stall"},
    {"kind": "stall", "after_tokens": 0},
], ids=["error_first_event", "close", "cut_before_content", "stall_before_head", "stall_before_content"])
def test_nothing_reaches_the_caller_before_the_first_content(pair, dialect, fault):
    alpha, _, node = pair(dialect, timeouts={"first_event_ms": 300, "idle_ms": 300})
    alpha.faults(fault)
    for stream in (True, False):
        answer = node.stream().rest() if stream else node.chat()
        assert answer.status == 200, answer.data
        assert answer.deployment == "d-beta"
        assert answer.text
        assert answer.error is None


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("fault", [
    {"kind": "cut", "after_tokens": 5},
    {"kind": "stall", "after_tokens": 5},
], ids=["cut", "stall"])
def test_a_failure_after_the_first_content_is_told_in_the_stream(pair, dialect, fault):
    alpha, beta, node = pair(dialect, timeouts={"idle_ms": 300})
    alpha.faults(fault)
    answer = node.stream().rest()
    assert answer.status == 200
    assert answer.deployment == "d-alpha"
    assert len(answer.text.split()) == 5
    assert answer.error is not None and answer.error["type"]
    assert not answer.done
    assert "finish_reason\":\"stop" not in answer.data.decode()
    assert beta.stats()["requests"] == 0
    settled = node.settlement_of(answer.request_id)
    assert settled["estimated"]
    assert int(settled["cost_pico_usd"]) > 0


def test_a_cut_whole_answer_goes_to_the_next_deployment(pair):
    alpha, _, node = pair()
    alpha.faults({"kind": "cut"})
    answer = node.chat()
    assert answer.status == 200 and answer.deployment == "d-beta"


def test_a_provider_that_refuses_connections_is_left_for_the_next(pair):
    alpha, _, node = pair()
    assert node.chat().deployment == "d-alpha"
    alpha.faults({"kind": "refuse"})
    wait_for(lambda: not answers(alpha.http), "alpha's listener to close")
    answer = node.chat()
    assert answer.status == 200 and answer.deployment == "d-beta"


def answers(address):
    try:
        return request(address, "GET", "/v1/models", timeout=2)[0] == 200
    except OSError:
        return False


def test_a_dead_provider_costs_no_request_under_load(make_sim, make_node):
    alpha = make_sim("alpha", dialect="openai", models=["first"], tokens=12, tokens_per_s=2000)
    beta = make_sim("beta", dialect="anthropic", models=["second"], tokens=12)
    node = make_node(alpha, beta)
    with Load(node, threads=16) as load:
        load.wait_for_more(400)
        assert alpha.stats()["completed"] > 0
        alpha.kill()
        load.wait_for_more(1000)
    # A stream whose first tokens had come from alpha when it died is told so in the stream: the only failure that a
    # caller may see, and at most one for each that was under way.
    cut = [answer for answer in load.failed if not isinstance(answer, str) and answer.status == 200]
    others = [failure for failure in load.failed if failure not in cut]
    assert others == [], others[:5]
    assert len(cut) <= len(load.threads)
    assert all(answer.error for answer in cut)
    node.verify()


def test_a_dead_provider_costs_no_whole_answer_under_load(make_sim, make_node):
    alpha = make_sim("alpha", dialect="openai", models=["first"])
    beta = make_sim("beta", dialect="anthropic", models=["second"])
    node = make_node(alpha, beta)
    with Load(node, threads=16, bodies=[question()]) as load:
        load.wait_for_more(300)
        alpha.kill()
        load.wait_for_more(1000)
    assert load.failed == [], load.failed[:5]
    usage = node.usage("model")
    assert sum(row["requests"] for row in usage["rows"]) == len(load.completed)


def test_exhaustion_says_that_a_retry_would_not_help(make_sim, make_node):
    alpha = make_sim("alpha", models=["only"])
    node = make_node(alpha)
    alpha.faults({"kind": "status", "status": 503})
    answer = node.chat()
    assert answer.status == 503
    assert answer.headers["x-should-retry"] == "false"
    assert answer.error["message"]
    assert answer.headers["x-outlast-request-id"]
    assert node.ended(answer.request_id)["kind"] == "void"


def test_a_throttled_provider_without_alternative_gives_429_with_its_retry_after(make_sim, make_node):
    alpha = make_sim("alpha", models=["only"])
    node = make_node(alpha)
    alpha.faults({"kind": "status", "status": 429, "retry_after_s": 40})
    answer = node.chat()
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 40
    assert answer.headers["x-should-retry"] == "false"


def test_a_short_retry_after_is_waited_for(make_sim, make_node):
    alpha = make_sim("alpha", models=["only"])
    node = make_node(alpha)
    alpha.faults({"kind": "status", "status": 429, "retry_after_s": 1, "count": 1})
    answer = node.chat()
    assert answer.status == 200
    assert answer.headers["x-outlast-attempts"] == "2"


@pytest.mark.parametrize("status", [401, 403])
def test_the_gateways_own_credential_is_never_the_callers_401(make_sim, make_node, status):
    alpha = make_sim("alpha", models=["only"])
    node = make_node(alpha)
    alpha.faults({"kind": "status", "status": status})
    assert node.chat().status == 503


def test_a_model_that_is_gone_everywhere_is_404(make_sim, make_node):
    alpha = make_sim("alpha", models=["only"])
    node = make_node(alpha)
    alpha.faults({"kind": "status", "status": 404})
    assert node.chat().status == 404


def test_a_breaker_opens_and_a_probe_closes_it_again(pair):
    alpha, beta, node = pair()
    alpha.faults({"kind": "status", "status": 500})
    wait_for(lambda: node.chat().deployment == "d-beta" and node.chat().headers["x-outlast-attempts"] == "1",
             "alpha's breaker to open")
    seen = alpha.stats()["requests"]
    assert node.chat().headers["x-outlast-attempts"] == "1"
    assert alpha.stats()["requests"] <= seen + 1  # a probe may have gone
    alpha.faults()
    wait_for(lambda: all(node.chat().deployment == "d-alpha" for _ in range(5)), "a probe to close alpha's breaker", 30)


def test_weights_share_the_load(make_sim, make_node):
    alpha = make_sim("alpha", models=["a"])
    beta = make_sim("beta", models=["b"])
    node = make_node(alpha, beta)
    with Load(node, threads=4, bodies=[question()]) as load:
        load.wait_for_more(400)
    shares = [sim.stats()["requests"] / len(load.completed) for sim in (alpha, beta)]
    assert min(shares) > 0.35, shares


def test_a_slow_stream_does_not_hold_up_others(make_sim, make_node):
    alpha = make_sim("alpha", models=["a"])
    node = make_node(alpha)
    alpha.faults({"kind": "slow", "first_token_ms": 0, "tokens_per_s": 5, "count": 1})
    with node.stream() as slow:
        next(iter(slow))
        results = []
        threads = [threading.Thread(target=lambda: results.append(node.chat().status)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert results == [200] * 8
