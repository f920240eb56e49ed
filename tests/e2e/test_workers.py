"""GPU workers that link to a node: used from it and from every other node of its cluster."""

import json
import os
import shutil
import signal
import subprocess

import pytest

from cluster import Cluster, why_no_cluster
from outlast_node import BIN, wait_for

needs_cluster = pytest.mark.skipif(bool(why_no_cluster()), reason=why_no_cluster() or "a cluster can run here")
WITH_WORKERS = ("gateway", "ledger", "gpu")


class Worker:
    def __init__(self, node, files, name="w1"):
        self.log = open(node.folder / f"{name}.log", "ab")
        self.child = subprocess.Popen(
            [str(BIN / "outlast"), "worker", "run", "--data", str(node.data), "--files", str(files), "--name", name, "--threads", "1"],
            stdout=self.log, stderr=self.log)

    def stop(self):
        self.child.terminate()
        return self.child.wait(20)

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        self.log.close()


@pytest.fixture
def make_worker():
    workers = []

    def make(*arguments, **options):
        workers.append(Worker(*arguments, **options))
        return workers[-1]
    yield make
    for worker in workers:
        worker.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a task and a tokenizer, which workers may use."""
    folder = tmp_path_factory.mktemp("files")
    for command in (["sample-task", folder / "task", "--samples", 400, "--held-out", 50],
                    ["tokenizer", "train", folder / "task/train.jsonl", "--to", folder / "tokenizer.json", "--vocabulary", 512]):
        subprocess.run([str(BIN / "outlast"), *map(str, command)], check=True, capture_output=True)
    return folder


def names(node):
    return [worker["name"] for worker in json.loads(node.cli("worker", "list", "--json").stdout)["workers"]]


def train(node, worker, files, to, *more, steps=5, check=True):
    return node.cli("train", str(files / "task/train.jsonl"), "--to", str(to), "--tokenizer", str(files / "tokenizer.json"), "--steps", str(steps),
                    "--worker", worker, "--json", *map(str, more), check=check)


def test_a_worker_links_to_its_node_and_works_for_whoever_asks_it(make_node, alpha, make_worker, files, tmp_path):
    node = make_node(alpha, name="n", roles=WITH_WORKERS)
    assert names(node) == []
    worker = make_worker(node, files)
    wait_for(lambda: names(node) == ["e2e/w1"], "the worker to be known")
    done = train(node, "e2e/w1", files, files / "student")
    assert '"event":"done"' in done.stdout
    said = json.loads(node.cli("generate", str(files / "student"), "hello", "--worker", "w1", "--json", "--max-tokens", "4").stdout)
    assert said["completion_tokens"] == 4
    taught = train(node, "e2e/w1", files, files / "taught", "--teacher", files / "student", "--loss", "jsd")
    plan = json.loads(taught.stdout.splitlines()[0])
    assert plan["teacher_parameters"] == plan["parameters"] and '"event":"done"' in taught.stdout
    foreign = train(node, "e2e/w1", files, files / "other", "--teacher", shutil.copytree(files / "student", tmp_path / "teacher"), check=False)
    assert foreign.returncode == 1 and "is not within" in foreign.stderr, foreign.stderr
    elsewhere = train(node, "e2e/w1", files, tmp_path / "student", check=False)
    assert elsewhere.returncode == 1 and "is not within" in elsewhere.stderr, elsewhere.stderr
    again = train(node, "e2e/w1", files, files / "student", check=False)
    assert again.returncode == 1 and "has a model already" in again.stderr, again.stderr
    nobody = node.cli("generate", str(files / "student"), "hello", "--worker", "w2", check=False)
    assert nobody.returncode == 4, nobody.stderr
    assert worker.stop() == 0
    wait_for(lambda: names(node) == [], "the worker to be forgotten")


def test_a_second_worker_of_a_name_is_refused_and_the_first_works_on(make_node, alpha, make_worker, files):
    node = make_node(alpha, name="n", roles=WITH_WORKERS)
    make_worker(node, files)
    wait_for(lambda: names(node) == ["e2e/w1"], "the worker to be known")
    second = make_worker(node, files)
    assert second.child.wait(20) != 0
    assert names(node) == ["e2e/w1"]


def test_a_worker_outlives_a_restart_of_its_node_and_ends_when_the_node_stays_away(make_node, alpha, make_worker, files):
    node = make_node(alpha, name="n", roles=WITH_WORKERS)
    worker = make_worker(node, files)
    wait_for(lambda: names(node) == ["e2e/w1"], "the worker to be known")
    node.kill()
    node.start()
    wait_for(lambda: names(node) == ["e2e/w1"], "the worker to be known again")
    node.kill()
    assert worker.child.wait(30) == 3


def test_a_node_without_the_role_has_no_place_for_workers(make_node, alpha, files):
    node = make_node(alpha, name="n")
    done = node.cli("worker", "run", "--data", str(node.data), "--files", str(files), check=False)
    assert done.returncode == 3 and "gpu" in done.stderr


@needs_cluster
def test_a_worker_is_used_from_every_node_and_forgotten_when_it_dies(tmp_path_factory, make_worker, files):
    with Cluster(tmp_path_factory.mktemp("w"), nodes=2, replicas=2, sim_options={"tokens": 8}, node_options={"roles": WITH_WORKERS}) as cluster:
        cluster.start()
        first, second = cluster
        worker = make_worker(first, files, name="gpu0")
        wait_for(lambda: names(second) == [f"{first.name}/gpu0"], "the other node to know the worker")
        done = train(second, f"{first.name}/gpu0", files, files / "from-afar")
        assert '"event":"done"' in done.stdout
        said = second.cli("generate", str(files / "from-afar"), "hello", "--worker", "gpu0", "--json", "--max-tokens", "4")
        assert json.loads(said.stdout)["finish_reason"] in ("stop", "length")
        os.kill(worker.child.pid, signal.SIGKILL)
        wait_for(lambda: names(second) == [], "both nodes to forget the worker")
        gone = second.cli("generate", str(files / "from-afar"), "hello", "--worker", "gpu0", check=False)
        assert gone.returncode == 4
