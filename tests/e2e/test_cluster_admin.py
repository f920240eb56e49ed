"""What a node on its own, and a machine that is to become a node, answer to the commands of clusters."""
import json


def cluster_lines(node, name="river"):
    """The node's configuration, with a cluster."""
    text = node.config_text() + "\n".join(
        ["[cluster]", f'name = "{name}"', 'etcd = ["http://127.0.0.1:2379"]', 'listen = "tcp://127.0.0.1:8083"', ""])
    path = node.folder / "cluster.toml"
    path.write_text(text)
    return path


def test_a_node_on_its_own_says_how_it_becomes_the_first_of_a_cluster(make_node, alpha):
    node = make_node(alpha)
    for words in (["node", "list"], ["node", "token"], ["node", "drain", "e2e"], ["cluster", "status"],
                  ["cluster", "settings"]):
        refused = node.cli(*words, check=False)
        assert refused.returncode == 1, words
        assert "this node is on its own" in refused.stderr
        assert "outlast node init --found" in refused.stderr
    assert node.key  # and goes on as ever


def test_a_daemon_on_a_folder_of_no_cluster_writes_nothing_there_that_hinders_a_join(make_node, alpha, monkeypatch):
    node = make_node(alpha, start=False)
    node.config_path = cluster_lines(node)
    status, output = node.start_expecting_failure()
    assert status == 2, output
    assert "belongs to no cluster yet" in output
    assert not node.data.exists() or list(node.data.iterdir()) == []


def test_a_node_on_its_own_is_no_joiner_but_may_found(make_node, alpha, monkeypatch):
    node = make_node(alpha)
    monkeypatch.setenv("OUTLAST_E2E_KEY", "sk-sim")
    config = cluster_lines(node)
    secret = (node.data / "key.secret").read_bytes()
    keys = (node.data / "zmq.key").read_bytes()
    made = node.cli("node", "init", "--config", str(config), "--json")
    assert json.loads(made.stdout)["step"] == "new"
    assert json.loads(made.stdout)["public_key"] == (node.data / "zmq.key.pub").read_text().strip()
    founded = node.cli("node", "init", "--config", str(config), "--found", "--json")
    assert json.loads(founded.stdout)["step"] == "founder"
    identity = json.loads((node.data / "cluster.json").read_text())
    assert (identity["cluster"], identity["node"], identity["step"]) == ("river", "e2e", "founder")
    refused = node.cli("node", "init", "--config", str(cluster_lines(node, "lake")), check=False)
    assert refused.returncode == 1
    assert "is of the cluster 'river'" in refused.stderr
    assert (node.data / "key.secret").read_bytes() == secret
    assert (node.data / "zmq.key").read_bytes() == keys
