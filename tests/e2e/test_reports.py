"""Usage by time, filters, FOCUS, an invoice against the ledger, and history at other prices: with a node and without."""

import csv
import io
import json
import time

from outlast_node import question, request, wait_for


def cost_of(tokens_in, tokens_out):
    """Of the prices that Node writes: $3 and $15 per million tokens."""
    return (tokens_in * 3 + tokens_out * 15) / 1_000_000


def ask(node, requests):
    for _ in range(requests):
        assert node.post(question()).status == 200


def settled(node, requests):
    def all_there():
        total = node.usage()["total"]
        return total if total["requests"] == requests else None

    return wait_for(all_there, "every settlement in the report")


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_usage_by_day_with_latency_and_filters(alpha, beta, make_node):
    deployments = [("d-alpha", "alpha", "gpt-sim", 1), ("d-beta", "beta", "claude-sim", 2)]
    node = make_node(alpha, beta, deployments=deployments)
    alpha.faults({"kind": "status", "status": 500, "count": 1})
    ask(node, 4)
    settled(node, 4)
    usage = json.loads(node.cli("usage", "--by", "provider", "--every", "day", "--json").stdout)
    by_provider = {row["provider"]: row for row in usage["rows"]}
    assert set(by_provider) == {"alpha", "beta"}
    assert by_provider["alpha"]["attempts"] == 4 and by_provider["alpha"]["failed_attempts"] == 1
    assert by_provider["alpha"]["failure_share"] == 0.25
    assert by_provider["beta"]["requests"] == 1
    assert by_provider["beta"]["duration_ms"]["p95"] >= 0 and by_provider["beta"]["first_event_ms"]["mean"] >= 0
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert {row["start"][:10] for row in usage["rows"]} <= {today, time.strftime("%Y-%m-%d", time.gmtime(time.time() - 60))}
    only = json.loads(node.cli("usage", "--where", "provider=beta", "--json").stdout)
    assert only["total"]["requests"] == 1
    top = json.loads(node.cli("usage", "--by", "deployment", "--top", "1", "--sort", "failures", "--json").stdout)
    assert [row["deployment"] for row in top["rows"]] == ["d-alpha"] and top["rows_left_out"] == 1
    assert top["total"]["requests"] == 4
    node.verify()


def test_reports_say_the_same_through_a_node_and_on_its_folder(alpha, make_node, tmp_path):
    node = make_node(alpha)
    ask(node, 3)
    total = settled(node, 3)
    tokens_in = total["tokens"]["input_uncached"]
    tokens_out = total["tokens"]["output_text"]
    cost = cost_of(tokens_in, tokens_out)
    day = time.strftime("%Y-%m-%d", time.gmtime())
    head = "date,model_version,input_tokens,output_tokens,cost_usd\n"
    good = tmp_path / "good.csv"
    good.write_text(head + f"{day},gpt-sim,{tokens_in},{tokens_out},{cost:.6f}\n")
    dear = tmp_path / "dear.csv"
    dear.write_text(head + f"{day},gpt-sim,{tokens_in},{tokens_out},{cost * 2:.6f}\n{day},other,1,1,0.01\n")
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(head + f"{day},gpt-sim,1,x,1\n")
    prices = tmp_path / "prices.toml"
    prices.write_text('version = "cheap"\n[[price]]\nprovider = "*"\nmodel = "gpt-sim"\ninput = "1.5"\noutput = "7.5"\n')
    commands = [
        (["usage", "--by", "team,status", "--every", "hour", "--json"], 0),
        (["usage", "--focus"], 0),
        (["reconcile", "alpha", "--file", good, "--json"], 0),
        (["reconcile", "alpha", "--file", dear, "--json"], 6),
        (["reconcile", "alpha", "--file", wrong], 1),
        (["reprice", "--since", "1h", "--with", prices, "--json"], 0),
        (["reprice", "--since", "1h", "--with", "no-such-version"], 4),
    ]
    answers = [node.cli(*map(str, words), check=False) for words, _ in commands]
    for (words, code), answer in zip(commands, answers):
        assert answer.returncode == code, (words, answer.stdout, answer.stderr)

    focus = rows_of(answers[1].stdout)
    assert len(focus) == 1
    assert float(focus[0]["BilledCost"]) == cost and focus[0]["ProviderName"] == "alpha"
    assert focus[0]["ConsumedQuantity"] == str(tokens_in + tokens_out) and focus[0]["ChargePeriodStart"] == day + "T00:00:00Z"
    assert json.loads(answers[2].stdout)["agrees"] is True
    reasons = [[reason["reason"] for reason in line["reasons"]] for line in json.loads(answers[3].stdout)["lines"]]
    assert reasons == [["price_differs"], ["missing_here"]]
    assert "line 2, column 4: (output_tokens) 'x' is not a whole number" in answers[4].stderr
    repriced = json.loads(answers[5].stdout)["total"]
    assert float(repriced["recorded_usd"]) == cost and float(repriced["repriced_usd"]) == cost / 2
    assert "no price book of version 'no-such-version'" in answers[6].stderr

    # The prices that the node started with are in its ledger, by their version.
    version = node.entries_of(None, "prices")[-1]["price_version"]
    same = json.loads(node.cli("reprice", "--since", "1h", "--with", version, "--json").stdout)["total"]
    assert same["recorded_usd"] == same["repriced_usd"]

    node.stop()
    for (words, code), before in zip(commands, answers):
        after = node.cli(*map(str, words), "--data", str(node.data), check=False)
        assert (after.returncode, after.stdout) == (code, before.stdout), (words, after.stderr)


def test_the_admin_interface_refuses_what_it_cannot_report(alpha, make_node):
    node = make_node(alpha)

    def refused(method, path, body=None):
        headers = {"authorization": "Bearer " + node.token()}
        status, _, data = request(node.admin_address, method, "/admin/v1/" + path, body, headers)
        return status, json.loads(data)["error"]["message"]

    for path, message in (("usage?by=modl", "did you mean 'model'?"),
                          ("usage?every=dya", "did you mean 'day'?"),
                          ("usage?where=provider", "write DIMENSION=VALUE"),
                          ("usage?by=tag,session", "counted separately"),
                          ("usage?format=xml", "json or focus")):
        status, answer = refused("GET", path)
        assert status == 400 and message in answer, (path, status, answer)
    for path, body, code, message in (
            ("reconcile", "day,model,cost\n", 400, "provider=NAME"),
            ("reconcile?provider=alpha", "day,model,cost\n2026-11-01,m\n", 400, "line 2, column 3"),
            ("reprice", "", 400, "version=NAME"),
            ("reprice?version=x", "", 404, "no price book of version 'x'"),
            ("reprice", "version = 1", 400, "the price book:1")):
        status, answer = refused("POST", path, body.encode())
        assert status == code and message in answer, (path, status, answer)
