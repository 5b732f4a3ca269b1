"""From a checkout on a new controller to a restored database, without a deprecation warning. In order."""

import re

import pytest
from tests_support.hosts import Server, lab_host

from sauvegarde_cli import environment

HERE = "molecule/controller/inventory"
FILL = """
CREATE TABLE offer AS SELECT n AS id, md5(n::text) AS title, ST_Point(n, 45) AS place FROM generate_series(1, 500) n;
ALTER TABLE offer OWNER TO shop
"""
CONTENTS = "SELECT count(*), sum(hashtextextended(t::text, 0)) FROM offer t"


@pytest.fixture(scope="module")
def controller():
    return lab_host("controller")


@pytest.fixture(scope="module")
def server():
    return Server(lab_host("server"), "15")


def run(controller, line):
    """Testinfra's result of a line that a user types in the checkout."""
    # pip asks the folder of packages where a user's asks an index.
    index = "PIP_NO_INDEX=1 PIP_FIND_LINKS=$HOME/wheels"
    return controller.run(f"cd ~/sauvegarde && export ANSIBLE_NOCOLOR=1 {index} && {{ {line}; }}")


def play(controller, playbook, *options):
    """{host: changed} and the output of a playbook, which warns of nothing that is deprecated."""
    line = " ".join((".venv/bin/ansible-playbook -i", HERE, f"playbooks/{playbook}.yml", *options, "2>&1"))
    done = run(controller, line)
    assert done.rc == 0, done.stdout
    assert "DEPRECATION" not in done.stdout, done.stdout
    recap = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", done.stdout, re.MULTILINE)
    return {host: int(changed) for host, changed in recap}, done.stdout


def test_the_first_command_installs_the_newest_core(controller):
    done = run(controller, "./sauvegarde --help")
    assert done.rc == 0, done.stdout + done.stderr
    assert "making .venv" in done.stderr
    assert "out of support" not in done.stderr
    version = run(controller, ".venv/bin/ansible --version").stdout
    assert f"[core {environment.LOCKS[-1].core}." in version
    again = run(controller, "./sauvegarde --help")
    assert (again.rc, again.stderr) == (0, "")


def test_a_host_converges(controller, server):
    changed, _ = play(controller, "site")
    assert changed["server"] > 0
    server.sql(FILL, "shop")
    changed, output = play(controller, "site")
    assert changed["server"] == 0, output


def test_what_is_backed_up_is_restored(controller, server):
    before = server.sql(CONTENTS, "shop")
    play(controller, "backup")
    server.sql("DELETE FROM offer WHERE id > 100", "shop")
    _, output = play(controller, "list")
    assert "shop" in output
    what = {"target": "server", "database": "shop", "source_host": "server", "confirm": "shop@server"}
    play(controller, "restore", *(f"-e restore_{name}={value}" for name, value in what.items()))
    assert server.sql(CONTENTS, "shop") == before
