"""`init` writes an inventory that the roles take, with a vault that opens; it refuses what would lose something."""

import json
import os
import pty
import re
import stat
import subprocess
import sys

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from ansible.template import Templar
from ansible.vars.manager import VariableManager

from sauvegarde_cli import json_keys
from sauvegarde_cli.command_failed import ROOT

OPTIONS = ("--production", "db1.example.org", "--database", "élpaso's", "--owner", "geotribu")
COPIES = (
    "--copies",
    "sftp:backup@vault.example.org:elpaso",
    "--site",
    "/srv/elpaso",
    "--development",
    "dev.example.org",
)


def environment(tmp_path):
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "SAUVEGARDE_ROOT": str(ROOT),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }


def start(tmp_path, *words):
    command = [sys.executable, "-m", "sauvegarde_cli", "init", str(tmp_path / "mine"), *words]
    return subprocess.run(
        command, env=environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def rendered(folder, password):
    """{host: the variables of the roles, rendered}."""
    loader = DataLoader()
    loader.set_vault_secrets([("default", VaultSecret(password.encode()))])
    inventory = InventoryManager(loader=loader, sources=[str(folder)])
    manager = VariableManager(loader=loader, inventory=inventory)
    hosts = {}
    for host in inventory.get_hosts():
        values = manager.get_vars(host=host)
        own = {name: values[name] for name in values if re.match(r"(postgresql|backup|django|sauvegarde)_", name)}
        hosts[host.name] = Templar(loader=loader, variables=values).template(own)
    return hosts


def test_the_roles_take_what_it_writes_and_the_vault_opens(tmp_path):
    known = tmp_path / "known_hosts"
    known.write_text("vault.example.org ssh-ed25519 AAAA\n")
    ended = start(tmp_path, *OPTIONS, *COPIES, "--known-hosts", str(known), "--escrow", "the safe", "--json")
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert list(document["result"]) == list(json_keys.RESULTS["init"])
    secret = tmp_path / "config/sauvegarde/mine.vault-password"
    assert document["result"]["password_file"] == str(secret)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    vault = (tmp_path / "mine/group_vars/all/vault.yml").read_text()
    password = secret.read_text().strip()
    assert vault.startswith("$ANSIBLE_VAULT;") and password not in ended.stdout
    hosts = rendered(tmp_path / "mine", password)
    assert set(hosts) == {"db1.example.org", "dev.example.org"}
    for host, values in hosts.items():
        for name in [name for name in values if name.split("_")[0] in ("postgresql", "backup")]:
            specs = yaml.safe_load((ROOT / "roles" / name.split("_")[0] / "meta/argument_specs.yml").read_text())
            option = specs["argument_specs"]["main"]["options"][name]
            result = ArgumentSpecValidator({name: option}).validate({name: values[name]})
            assert not result.error_messages, f"{host}: {result.error_messages}"
    production = hosts["db1.example.org"]
    assert production["sauvegarde_escrow"] == "the safe" and production["sauvegarde_environment"] == "production"
    assert [job["database"] for job in production["backup_jobs"] if job["kind"] == "pg_dump"] == ["élpaso's"]
    (copy,) = production["backup_offsite"]
    assert copy["ssh_key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----") and len(copy["password"]) > 20
    assert copy["ssh_known_hosts"] == "vault.example.org ssh-ed25519 AAAA"
    for text in (copy["password"], production["postgresql_roles"][0]["password"], copy["ssh_key"].splitlines()[2]):
        assert text not in ended.stdout + (tmp_path / "mine/group_vars/backup/main.yml").read_text()


def test_ansible_reads_it_without_a_warning(tmp_path):
    assert start(tmp_path, *OPTIONS, "--no-postgis").returncode == 0
    command = [sys.executable, "-m", "ansible.cli.inventory", "-i", str(tmp_path / "mine"), "--graph", "--vars"]
    secret = ["--vault-password-file", str(tmp_path / "config/sauvegarde/mine.vault-password")]
    done = subprocess.run([*command, *secret], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    assert "db1.example.org" in done.stdout and "dev.example.org" not in done.stdout


def test_a_directory_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/hosts.yml").write_text("all:\n")
    ended = start(tmp_path, *OPTIONS)
    assert ended.returncode == 2 and "is not empty" in ended.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["hosts.yml"] and not (tmp_path / "config").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--production and --database"),
        (("--production", "db1"), "--database"),
        (("--production", "-x", "--database", "a"), "expected one argument"),
        (("--production", "a b", "--database", "a"), "--production"),
        (("--production", "db1", "--database", "Été"), "--owner"),
        ((*OPTIONS, "--vault-password-file", str(ROOT / "secret")), "must not lie in"),
    ],
)
def test_without_a_terminal_it_says_what_is_missing_or_wrong(tmp_path, words, message):
    ended = start(tmp_path, *words)
    assert ended.returncode == 2 and message in ended.stderr and not (tmp_path / "mine").exists()


def test_the_questions_on_a_terminal(tmp_path):
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "sauvegarde_cli", "init", str(tmp_path / "mine")]
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment(tmp_path), start_new_session=True
    ) as running:
        os.close(slave)
        shown = b""
        # In the order of the questions; each is answered when it is asked, since getpass discards what came before.
        answers = [
            (b"protect: ", b"db1"), (b"Database: ", b"elpaso"), (b"owner [elpaso]: ", b""), (b"developers", b""),
            (b"PostGIS?", b"n"), (b"elsewhere", b""), (b"Password of the vault", b"zorgolim"),
            (b"Once more", b"zorgolim"),
            (b"sudo", b"admin"), (b"Django site", b""), (b"kept", b"a safe"),
        ]  # fmt: skip
        position = 0
        try:
            while piece := os.read(master, 4096):
                shown += piece
                if answers and answers[0][0] in shown[position:] and shown.rstrip(b" ").endswith((b":", b"]")):
                    position = len(shown)
                    os.write(master, answers.pop(0)[1] + b"\n")
        except OSError:  # the terminal's other side has ended
            pass
        code = running.wait()
    os.close(master)
    assert code == 0 and not answers, shown.decode()
    assert b"zorgolim" not in shown and not (tmp_path / "config").exists()
    hosts = rendered(tmp_path / "mine", "zorgolim")
    assert hosts["db1"]["backup_offsite"] == [] and "extensions" not in hosts["db1"]["postgresql_databases"][0]
    assert b"-J" in shown
