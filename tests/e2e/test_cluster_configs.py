"""The files in configs/ that a cluster starts from do what their comments say."""

import json
import os
import re
import shutil
import subprocess
import urllib.request

import pytest

from etcd_members import EtcdMembers, why_no_etcd
from network import Namespaces, why_no_namespaces
from outlast_node import BIN, ROOT

CONFIGS = ROOT / "configs"


class FileMembers(EtcdMembers):
    """Members that start from configs/systemd/etcd-outlast.yml, changed as its first lines say."""

    def command(self, member):
        number = member.name.removeprefix("m")
        text = (CONFIGS / "systemd" / "etcd-outlast.yml").read_text()
        pem = member.folder / "pem"
        pem.mkdir(exist_ok=True)
        for source, target in ((f"etcd-{member.name}.crt", "member.crt"), (f"etcd-{member.name}.key", "member.key"),
                               ("ca.crt", "ca.crt")):
            shutil.copy(self.certificates / source, pem / target)
        text = text.replace("/etc/etcd-outlast", str(pem)).replace("/var/lib/etcd-outlast", str(member.folder))
        head, initial, tail = text.partition("initial-cluster: ")
        members, _, rest = tail.partition("\n")
        head = head.replace("10.0.0.1:", f"10.0.0.{number}:").replace("name: m1", f"name: {member.name}")
        text = (head + initial + members + "\n" + rest).replace("10.0.0.", self.network.subnet + ".")
        # The collector that the file has in mind is on the member's machine; this one asks from outside.
        text = text.replace("http://127.0.0.1:2381", f"http://{member.address}:2381")
        config = member.folder / "etcd-outlast.yml"
        config.write_text(text)
        return ["etcd", "--config-file", config]


def etcdctl_as_the_guide_says(members, name, *words):
    """On a member's machine, with the variables that docs/cluster.md has there."""
    guide = (ROOT / "docs" / "cluster.md").read_text()
    settings = dict(re.findall(r"(ETCDCTL_\w+)=(\S+)", guide))
    assert settings, "the guide has a line for etcdctl"
    pem = str(members[name].folder / "pem")
    settings = {setting: value.replace("/etc/etcd-outlast", pem) for setting, value in settings.items()}
    done = subprocess.run(members.network.command(name, ["etcdctl", *words]), capture_output=True, text=True, timeout=30,
                          env={**os.environ, **settings})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(bool(why_no_etcd() or why_no_namespaces()), reason=why_no_etcd() or why_no_namespaces() or "both are there")
def test_three_members_start_from_the_hardened_configuration(tmp_path):
    network = Namespaces()
    members = FileMembers(tmp_path, network)
    try:
        members.start()
        assert members.leader() is not None
        assert members["m1"].metric("etcd_server_quota_backend_bytes") == 8 << 30
        # What a node asks first.
        for member in members:
            with urllib.request.urlopen(f"https://{member.address}:2379/v3/maintenance/status", b"{}", 10, context=members.client_context()) as answer:
                assert json.load(answer)["leader"]
        assert etcdctl_as_the_guide_says(members, "m2", "member", "list").count("started") == 3
    finally:
        members.close()
        network.close()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", ["outlastd.service", "etcd-outlast.service"])
def test_systemd_has_nothing_to_say_of_a_unit(unit, tmp_path):
    # The programs need not be installed where this runs.
    text = (CONFIGS / "systemd" / unit).read_text().replace("/usr/bin/outlastd", "/bin/true").replace("/usr/bin/etcd", "/bin/true")
    (tmp_path / unit).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if unit in line]
    assert complaints == []


def test_the_unit_of_a_node_gives_up_where_starting_again_is_of_no_use():
    text = (CONFIGS / "systemd" / "outlastd.service").read_text()
    settings = dict(re.findall(r"^(\w+)=(.*)$", text, re.M))
    described = dict(re.findall(r"^\| (\d+) \| (.*) \|$", (ROOT / "docs" / "cluster.md").read_text(), re.M))
    assert settings["RestartPreventExitStatus"].split() == ["2", "77"]
    assert set(described) >= {"0", "1", "2", "70", "77"}
    # Ten quick failures are to fall into the interval, with the pauses between them.
    assert int(settings["StartLimitBurst"]) == 10
    assert int(settings["StartLimitIntervalSec"]) > 10 * (int(settings["RestartSec"]) + 1)
    head = text[:text.index("[Unit]")]
    assert 0 < head.index("node init") < head.index("node join") < head.index("enable --now outlastd")


def test_the_example_of_a_node_is_right(tmp_path):
    text = (CONFIGS / "cluster.toml").read_text()
    (tmp_path / "etc").mkdir()
    hosts = [word for number in "123" for word in ("--host", f"m{number}=10.0.0.{number}", "--node", f"n{number}")]
    subprocess.run([str(BIN / "outlast"), "cluster", "certificates", "--out", str(tmp_path / "etc"), *hosts], check=True,
                   capture_output=True)
    for end in ("crt", "key"):
        shutil.copy(tmp_path / "etc" / f"etcd-m1.{end}", tmp_path / "etc" / f"front.{end}")
    (tmp_path / "cluster.toml").write_text(text.replace("/etc/outlast", str(tmp_path / "etc")))
    shutil.copy(CONFIGS / "prices.toml", tmp_path)
    checked = subprocess.run([str(BIN / "outlast"), "config", "check", str(tmp_path / "cluster.toml")], capture_output=True,
                             text=True, env={"OPENAI_API_KEY": "sk-test", "PATH": "/usr/bin:/bin"})
    assert checked.returncode == 0, checked.stderr
