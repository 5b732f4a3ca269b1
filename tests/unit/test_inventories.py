"""The inventories that are there to be copied: the roles know every variable in them, to the last key of each list."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from sauvegarde_cli.system import ROOT

ROLES = ("postgresql", "backup")


def variables(inventory):
    """[(file, name, value)] of all group variables."""
    files = sorted((ROOT / "inventories" / inventory / "group_vars").rglob("*.yml"))
    return [(path.name, name, value) for path in files for name, value in yaml.safe_load(path.read_text()).items()]


@pytest.mark.parametrize("inventory", ["example", "demo"])
def test_the_roles_take_every_variable(inventory):
    collected = [each for each in variables(inventory) if each[1].split("_")[0] in ROLES]
    assert {name.split("_")[0] for _, name, _ in collected} == set(ROLES)
    for file, name, value in collected:
        role = name.split("_")[0]
        specs = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())
        options = specs["argument_specs"]["main"]["options"]
        assert name in options, f"{file}: the role {role} does not know {name}"
        result = ArgumentSpecValidator({name: options[name]}).validate({name: value})
        assert not result.error_messages, f"{file}: {result.error_messages}"


def test_the_example_is_whole_once_its_passwords_are_chosen(tmp_path):
    """Every variable of every host can be rendered: nothing is named that is not there."""
    copy = shutil.copytree(ROOT / "inventories/example", tmp_path / "mine")
    for example in copy.rglob("vault.yml.example"):
        example.rename(example.with_suffix(""))
    names = sorted({name for _, name, _ in variables("example")})
    words = "{{ [" + ", ".join(f"{name} | default('')" for name in names) + "] | to_json }}"
    command = [Path(sys.executable).with_name("ansible"), "-i", copy, "all", "-m", "ansible.builtin.debug"]
    done = subprocess.run(
        [*command, "-a", f"msg={json.dumps(words)[1:-1]}"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # The example's word for a password: of geotribu everywhere, of the repository in production.
    hosts = re.split(r"^(\S+) \| SUCCESS", done.stdout, flags=re.MULTILINE)[1:]
    chosen = {host: text.count("choose one") for host, text in zip(hosts[::2], hosts[1::2], strict=True)}
    assert chosen == {"elpaso.example.org": 2, "dev.example.org": 1}
    assert "BEGIN OPENSSH PRIVATE KEY" in done.stdout
