"""Signed heads, backup and restore, with real processes."""

import json
import shutil
import subprocess

from outlast_node import BIN, wait_for


def outlast(*arguments):
    return subprocess.run([str(BIN / "outlast"), *map(str, arguments)], capture_output=True, text=True, timeout=60)


def test_a_backup_of_a_running_node_restores_and_its_keys_still_work(alpha, make_node, tmp_path):
    node = make_node(alpha)
    for _ in range(5):
        assert node.chat().status == 200
    made = json.loads(node.cli("ledger", "backup", str(tmp_path / "backups"), "--json").stdout)
    assert made["entries"] > 10 and made["kept"] == 1
    assert node.chat().status == 200
    node.stop()
    refused = outlast("ledger", "restore", tmp_path / "backups", "--data", node.data)
    assert refused.returncode == 1 and "--force" in refused.stderr
    # The machine is lost: a new one has the backup only.
    shutil.rmtree(node.data)
    restored = outlast("ledger", "restore", tmp_path / "backups", "--data", node.data, "--json")
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout)["entries"] == made["entries"]
    node.start()
    assert node.chat().status == 200
    node.verify()


def test_heads_are_signed_while_the_node_runs_and_a_cut_ledger_does_not_start(alpha, make_node, tmp_path):
    node = make_node(alpha)
    assert node.chat().status == 200

    def heads():
        return json.loads(node.cli("ledger", "heads", "--json").stdout)["heads"]

    wait_for(lambda: heads(), "a signed head")
    assert heads()[-1]["node"]
    node.stop()
    shutil.copytree(node.data / "ledger", tmp_path / "earlier")
    node.start()
    assert node.chat().status == 200
    node.stop()
    shutil.rmtree(node.data / "ledger")
    shutil.copytree(tmp_path / "earlier", node.data / "ledger")
    verified = outlast("ledger", "verify", "--data", node.data)
    assert verified.returncode == 5 and "signed head" in verified.stderr
    status, output = node.start_expecting_failure()
    assert status != 0
    assert "accept_cut = " in output
    number = output.split("accept_cut = ")[1].split()[0]
    node.config_path.write_text(node.config_text() + f"\n[ledger]\naccept_cut = {number}\n")
    node.start()
    node.verify()
