"""Prices by what answers say of how they are billed, from the price book to the ledger."""

import json
import subprocess

from outlast_node import BIN, Node


def test_an_answer_is_charged_by_the_service_tier_that_it_names(make_sim, make_node, monkeypatch):
    plain = Node.prices_text
    tier = "\n".join(["[[price]]", 'provider = "alpha"', 'model = "m"', 'service_tier = "default"', 'input = "1.00"',
                      'output = "2.00"', 'per_request = "0.01"', "[[price.threshold]]", "above_tokens = 1",
                      'mode = "marginal"', 'input = "10.00"', 'output = "20.00"'])
    monkeypatch.setattr(Node, "prices_text", lambda node: plain(node) + tier + "\n")
    sim = make_sim("alpha", dialect="openai", models=["m"], tokens=20)
    node = make_node(sim)
    for answer in (node.chat(), node.stream().rest()):
        assert answer.status == 200
        settled = node.settlement_of(answer.request_id)
        assert (settled["service_tier"], settled["inference_geo"], settled["batch"]) == ("default", "", False)
        tokens = settled["tokens"]["input_uncached"]
        assert int(settled["cost_pico_usd"]) == 10**10 + 10**6 + (tokens - 1) * 10**7 + 20 * 2 * 10**7
    shown = json.loads(subprocess.run(
        [BIN / "outlast", "--data", node.data, "prices", "show", "alpha", "m", "--tier", "default", "--json"],
        capture_output=True, text=True, check=True, timeout=30).stdout)
    assert [(price["service_tier"], price["charged"]) for price in shown["prices"]] == [("default", True), ("", False)]


def test_a_price_book_with_a_gap_is_refused_and_the_old_one_stays(make_sim, make_node):
    sim = make_sim("alpha", dialect="openai", models=["m"], tokens=5)
    node = make_node(sim)
    book = node.folder / "prices.toml"
    old = book.read_text()
    price = '[[price]]\nprovider = "alpha"\nmodel = "n"\ninput = "1"\noutput = "1"\n'
    book.write_text(old + price + "until = 2026-01-01\n" + price + "from = 2026-01-02\n")
    reload = subprocess.run([BIN / "outlast", "--data", node.data, "config", "reload"], capture_output=True, text=True,
                            check=False, timeout=30)
    assert reload.returncode == 1
    assert "has no price between the end of that of line" in reload.stderr
    assert "prices.toml:" in reload.stderr
    assert node.chat().status == 200
