"""inventories/elgeopaso, with its vaults encrypted: all of it renders, and the roles and the engine take it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from ansible.template import Templar
from ansible.vars.manager import VariableManager
from sauvegarde.backup import schedule
from sauvegarde.django import fixture_sets, policy_actions

from sauvegarde_cli.system import ROOT

INVENTORY = ROOT / "inventories" / "elgeopaso"
PASSWORD = "example of a vault's password"
HOSTS = {"elgeopaso", "elgeopaso-dev"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy with encrypted vaults."""
    copy = shutil.copytree(INVENTORY, tmp_path_factory.mktemp("inventory") / "mine")
    secret = copy.parent / "vault-password"
    secret.write_text(PASSWORD)
    vaults = [Path(shutil.copy(path, path.with_suffix(""))) for path in copy.rglob("vault.yml.example")]
    command = Path(sys.executable).with_name("ansible-vault")
    subprocess.run([command, "encrypt", "--vault-password-file", secret, *vaults], check=True, capture_output=True)
    assert len(vaults) == 2 and all(path.read_text().startswith("$ANSIBLE_VAULT;") for path in vaults)
    return copy


@pytest.fixture(scope="module")
def hosts(folder):
    """{host: all of its variables, rendered}."""
    loader = DataLoader()
    loader.set_vault_secrets([("default", VaultSecret(PASSWORD.encode()))])
    inventory = InventoryManager(loader=loader, sources=[str(folder / "hosts.yml")])
    manager = VariableManager(loader=loader, inventory=inventory)
    rendered = {}
    for host in inventory.get_hosts():
        values = manager.get_vars(host=host)
        own = {
            name: values[name]
            for name in values
            if re.match(r"(postgresql|backup|fixture|migrate|django|sauvegarde)_", name)
        }
        rendered[host.name] = Templar(loader=loader, variables=values).template(own)
    return rendered


def jobs(hosts, host):
    return {job["name"]: job for job in hosts[host]["backup_jobs"]}


def test_the_roles_take_every_variable(hosts):
    assert set(hosts) == HOSTS
    seen = set()
    for host, values in hosts.items():
        for name in [name for name in values if name.split("_")[0] in ("postgresql", "backup")]:
            specs = yaml.safe_load((ROOT / "roles" / name.split("_")[0] / "meta/argument_specs.yml").read_text())
            options = specs["argument_specs"]["main"]["options"]
            assert name in options, f"{host}: no role knows {name}"
            result = ArgumentSpecValidator({name: options[name]}).validate({name: values[name]})
            assert not result.error_messages, f"{host}: {result.error_messages}"
            seen.add(name)
    assert {"backup_jobs", "backup_offsite", "postgresql_roles", "postgresql_databases"} <= seen


def test_the_playbook_reads_it(folder):
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", folder, "playbooks/site.yml", "--list-tasks"]
    secret = ["--vault-password-file", folder.parent / "vault-password"]
    done = subprocess.run([*command, *secret], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not re.search("WARNING", done.stderr), done.stdout + done.stderr


def test_production_is_as_the_pages_say(hosts):
    values = hosts["elgeopaso"]
    assert values["sauvegarde_environment"] == "production"
    assert values["postgresql_version"] == "9.6" and values["postgresql_locale"].startswith("fr_FR")
    assert [each["name"] for each in values["postgresql_databases"][0]["extensions"]] == ["postgis"]
    result = jobs(hosts, "elgeopaso")
    kinds = {"elpaso": "pg_dump", "globals": "globals", "data": "dumpdata", "reference": "fixtures"}
    assert {name: job["kind"] for name, job in result.items()} == kinds
    assert sorted(result["data"]["dumpdata"]["exclude"]) == ["auth.permission", "contenttypes"]
    # Before 14 there is no pg_read_all_data.
    assert {"name": "sauvegarde", "attributes": ["LOGIN", "SUPERUSER"]} in values["postgresql_roles"]


def test_development_has_no_server_and_its_file_is_in_git(hosts):
    values = hosts["elgeopaso-dev"]
    assert not [name for name in values if name.startswith("postgresql_")]
    (job,) = values["backup_jobs"]
    assert job["kind"] == "sqlite" and job["repository"]["file"] == "local-db.sqlite3" and job["repository"]["push"]


def test_the_six_sets_and_their_files(hosts):
    job = jobs(hosts, "elgeopaso")["reference"]
    sets = fixture_sets.checked(job["sets"])
    assert [Path(each["file"]).name for each in sets] == [
        "contracts.json", "metiers.json", "places.json", "sources.json", "technos.json", "content.json",
    ]  # fmt: skip
    assert job["repository"]["path"] + "/" + job["repository"]["folder"] == hosts["elgeopaso"]["fixture_folder"]


def test_the_schedules_are_times_of_their_own(hosts):
    for host in HOSTS:
        times = [schedule.expression(job["schedule"], host, job["name"]) for job in hosts[host]["backup_jobs"]]
        assert len(set(map(str, times))) == len(times)


def test_nobody_logs_in_with_an_example(folder):
    """Secrets are in the vault's files and nowhere else, and the examples are no passwords."""
    for path in INVENTORY.rglob("main.yml"):
        for line in path.read_text().splitlines():
            if re.search(r"(password|_key|ping_url): ", line) and "ssh_known_hosts" not in line:
                assert "{{ vault_" in line, f"{path}: {line}"


def test_the_policy_has_only_known_actions(hosts):
    policy = hosts["elgeopaso"]["migrate_policy"]
    for label, rules in policy["models"].items():
        for name, action in {} if rules == "drop" else rules.items():
            known = action in ("keep", "public", "empty") or policy_actions.is_mask(action)
            assert known, f"{label}.{name}: {action}"
