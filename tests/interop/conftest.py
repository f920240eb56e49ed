"""Fixtures for the official SDKs: the same nodes and simulators as in tests/e2e."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import pytest  # noqa: E402

from outlast_node import Node, Sim  # noqa: E402

MODELS = ["sim-model"]


@pytest.fixture(params=["openai", "anthropic"])
def upstream(request, tmp_path):
    """A simulated provider of either dialect."""
    sim = Sim(tmp_path, "alpha", dialect=request.param, models=MODELS)
    yield sim
    sim.kill()


@pytest.fixture
def node(upstream, tmp_path):
    """A node before the simulated provider."""
    folder = tmp_path / "node"
    folder.mkdir()
    node = Node(folder, [upstream], timeouts={"first_event_ms": 500, "idle_ms": 5000}).start()
    yield node
    node.kill()


@pytest.fixture
def openai_sim(tmp_path):
    sim = Sim(tmp_path, "direct", dialect="openai", models=MODELS)
    yield sim
    sim.kill()


@pytest.fixture
def anthropic_sim(tmp_path):
    sim = Sim(tmp_path, "direct", dialect="anthropic", models=MODELS)
    yield sim
    sim.kill()
