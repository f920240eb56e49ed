"""Commitments on real processes: drawn first, reported with their pace, preferred where a route burns them."""

import json
import time

import pytest

from outlast_node import wait_for

USD = 10**12


def add(node, *arguments):
    return json.loads(node.cli("commitment", "add", *arguments, "--json").stdout)["id"]


def commitments(node):
    return {one["id"]: one for one in json.loads(node.cli("commitment", "list", "--json").stdout)["commitments"]}


def days(count):
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() + count * 86400))


def test_tokens_are_drawn_and_reported(make_sim, make_node):
    node = make_node(make_sim("alpha", models=["m"]))
    made = add(node, "--provider", "alpha", "--models", "m", "--tokens", "1e6", "--price", "2", "--from", days(-10),
               "--until", days(10))
    assert node.chat(max_tokens=32).status == 200
    drawn = wait_for(lambda: (one := commitments(node)[made])["used"] != "0" and one, "the draw")
    assert (drawn["units"], drawn["used"], drawn["left"], drawn["unit"]) == ("1000000", "37", "999963", "tokens")
    assert drawn["active"] and drawn["behind"]
    assert 999_000 < int(drawn["unused_at_end"]) < 1_000_000
    assert drawn["price_at_full_use_usd"] == "2.00"
    assert float(drawn["price_at_pace_usd"]) > 2
    table = node.cli("commitment", "list").stdout
    assert made in table and "will expire unused" in table and "behind" in table
    assert json.loads(node.cli("commitment", "end", made, "--json").stdout) == {"id": made, "ended": True}
    assert commitments(node)[made]["ended"]
    node.chat(max_tokens=32)
    assert commitments(node)[made]["used"] == "37"
    assert node.cli("commitment", "end", "com_none", check=False).returncode == 4
    node.verify()


def test_money_bought_in_bulk_is_drawn_at_list_price(make_sim, make_node):
    node = make_node(make_sim("alpha", models=["m"]))
    made = add(node, "--provider", "alpha", "--usd", "1000", "--price", "800", "--from", days(-1), "--until", days(30),
               "--rollover")
    node.chat(max_tokens=32)
    drawn = wait_for(lambda: (one := commitments(node)[made])["used"] != "0.00" and one, "the draw")
    assert drawn["used"] == "0.000495" and drawn["price_at_full_use_usd"] == "0.80" and drawn["list_price_usd"] == "1.00"
    assert drawn["amortised_usd"] == "0.000396"


def test_a_route_that_burns_prefers_what_is_paid_for(make_sim, make_node):
    sims = [make_sim("alpha", models=["m"]), make_sim("beta", models=["n"])]
    deployments = [("d-alpha", "alpha", "m", 1), ("d-beta", "beta", "n", 2)]
    node = make_node(*sims, deployments=deployments, policy="burn = true")
    assert node.chat(max_tokens=32).deployment == "d-alpha"
    made = add(node, "--provider", "beta", "--tokens", "1e9", "--price", "100", "--from", days(-10), "--until", days(10))
    wait_for(lambda: node.chat(max_tokens=32).deployment == "d-beta", "the route burns")
    node.cli("commitment", "end", made)
    wait_for(lambda: node.chat(max_tokens=32).deployment == "d-alpha", "the route burns no more")


@pytest.mark.parametrize("changes, said", [
    ({"--provider": "gamma"}, "no provider"),
    ({"--models": "gpt"}, "no model"),
    ({"--tokens": "1.5"}, "whole number"),
    ({"--tokens": "0"}, "whole number"),
    ({"--tokens": "1e19"}, "10^18"),
    ({"--price": "0.0000000000001"}, "12 decimals"),
    ({"--price": "1,000"}, "not an amount"),
    ({"--until": "2020-01-01"}, "later than"),
    ({"--from": "soon"}, "not a time"),
    ({"--usd": "5"}, "--tokens or --usd"),
])
def test_a_malformed_commitment_is_refused_and_nothing_changes(make_sim, make_node, changes, said):
    node = make_node(make_sim("alpha", models=["m"]))
    options = {"--provider": "alpha", "--models": "m", "--tokens": "1e6", "--price": "2", "--from": days(-1),
               "--until": days(1), **changes}
    before = len(node.entries())
    result = node.cli("commitment", "add", *[word for pair in options.items() for word in pair], check=False)
    assert result.returncode != 0 and said in result.stderr, result.stderr
    assert len(node.entries()) == before


def test_overlapping_commitments_are_refused(make_sim, make_node):
    node = make_node(make_sim("alpha", models=["m"]))
    options = ["--provider", "alpha", "--tokens", "1e6", "--price", "2", "--from", days(-1), "--until", days(5)]
    first = add(node, *options)
    result = node.cli("commitment", "add", *options, check=False)
    assert result.returncode == 1 and first in result.stderr
    options[-1] = days(6)
    add(node, *options)
