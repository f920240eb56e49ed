"""Fixtures: simulated providers and nodes that end with their test."""

import pytest

from outlast_node import Node, Sim


@pytest.fixture
def make_sim(tmp_path):
    sims = []

    def make(name="alpha", **options):
        sims.append(Sim(tmp_path, name, **options))
        return sims[-1]

    yield make
    for sim in sims:
        sim.kill()


@pytest.fixture
def make_node(tmp_path):
    nodes = []

    def make(*sims, start=True, name="node", **options):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        node = Node(folder, sims, **options)
        nodes.append(node)
        return node.start() if start else node

    yield make
    for node in nodes:
        if node.daemon is not None:
            node.kill()


@pytest.fixture
def alpha(make_sim):
    return make_sim("alpha", dialect="openai", models=["gpt-sim"])


@pytest.fixture
def beta(make_sim):
    return make_sim("beta", dialect="anthropic", models=["claude-sim"])
