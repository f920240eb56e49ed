"""outlast cluster demo: what a newcomer sees first, and that it leaves nothing behind."""

import os
import pathlib
import signal
import subprocess

import pytest

from cluster import why_no_cluster
from outlast_node import BIN, wait_for

pytestmark = pytest.mark.skipif(bool(why_no_cluster()), reason=why_no_cluster() or "a cluster can run here")
DEADLINE_S = 240


def processes_in(folder):
    """Command lines that name the folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if str(folder) in words and state != "Z":
            found.append(words)
    return found


def start(folder, *arguments, **options):
    return subprocess.Popen([str(BIN / "outlast"), "cluster", "demo", "--folder", str(folder), *arguments],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_requests_go_on_when_an_owner_is_killed(tmp_path):
    demo = start(tmp_path / "demo", "--check")
    out, err = demo.communicate(timeout=DEADLINE_S)
    assert demo.returncode == 0, out + err
    assert "kill -9 of n" in out and "is back and answers" in out and "once" in out
    assert processes_in(tmp_path) == []


def test_a_command_runs_against_the_cluster_and_its_end_is_the_demo_s(tmp_path):
    ask = ('for url in $OUTLAST_URLS; do curl -sf "$url/v1/chat/completions" -H "Authorization: Bearer $OUTLAST_KEY" '
           """-d '{"model":"smart","messages":[{"role":"user","content":"hi"}]}' || exit 1; done; exit 0""")
    demo = start(tmp_path / "good", "--nodes", "1", "--command", ask)
    out, err = demo.communicate(timeout=DEADLINE_S)
    assert demo.returncode == 0, out + err
    assert out.count('"choices"') == 1
    demo = start(tmp_path / "bad", "--nodes", "1", "--command", "exit 3")
    out, err = demo.communicate(timeout=DEADLINE_S)
    assert demo.returncode == 1 and "the command ended with exit status 3" in err
    assert processes_in(tmp_path) == []


def test_ctrl_c_stops_everything_in_order(tmp_path):
    demo = start(tmp_path / "demo")
    for line in demo.stdout:
        if "Ctrl-C stops it all" in line:
            break
    assert len([words for words in processes_in(tmp_path) if "outlastd" in words]) == 3
    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 0, err
    assert "everything has stopped" in out
    assert processes_in(tmp_path) == []


def test_everything_dies_with_a_demo_that_is_killed(tmp_path):
    demo = start(tmp_path / "demo")
    wait_for(lambda: len(processes_in(tmp_path / "demo" / "etcd-m")) >= 3 or demo.poll() is not None, "etcd runs", 60)
    assert demo.poll() is None
    demo.kill()
    demo.communicate()
    wait_for(lambda: processes_in(tmp_path) == [], "nothing is left", 10)


def test_a_machine_without_etcd_is_told_what_to_install(tmp_path):
    demo = start(tmp_path / "demo", env={**os.environ, "PATH": str(tmp_path)})
    out, err = demo.communicate(timeout=DEADLINE_S)
    if demo.returncode == 1 and "apt-get install etcd-server" not in err:
        pytest.skip("etcd is in a folder that is always looked into")
    assert demo.returncode == 1 and not (tmp_path / "demo").exists()


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    demo = start(tmp_path)
    _, err = demo.communicate(timeout=DEADLINE_S)
    assert demo.returncode == 1 and "is no empty folder" in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_temporary_folder_goes_with_the_demo(tmp_path):
    demo = subprocess.Popen([str(BIN / "outlast"), "cluster", "demo", "--nodes", "1", "--command", "true"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    out, err = demo.communicate(timeout=DEADLINE_S)
    assert demo.returncode == 0, out + err
    assert list(tmp_path.iterdir()) == []
