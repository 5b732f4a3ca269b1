"""The modules on sites whose start-up leads elsewhere: as playbooks call them, on a controller that has Ansible."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from little_site import Folder, about, database, fill, rows
from sample_site import ENVIRONMENTS, ROOT, write
from test_django_cases_site import ASKS, FAULTS

ANSIBLE = Path(sys.executable).with_name("ansible")
pytestmark = [
    pytest.mark.skipif(not ANSIBLE.exists(), reason="Ansible is not installed beside this Python"),
    pytest.mark.skipif(os.geteuid() != 0, reason="the modules' callers are root"),
]
KINDS = ("sqlite", "pg")


def module(name, tmp_path, **arguments):
    """What the module answers, its failure included."""
    command = [str(ANSIBLE), "localhost", "-m", name, "-a", json.dumps(arguments)]
    values = dict(os.environ, ANSIBLE_LOAD_CALLBACK_PLUGINS="1", LC_ALL="C.UTF-8")
    values.update(ANSIBLE_STDOUT_CALLBACK="ansible.builtin.json", ANSIBLE_INVENTORY=f"{tmp_path}/none,")
    done = subprocess.run(command, cwd=str(ROOT), env=values, capture_output=True, check=False)
    text = done.stdout.decode()
    assert "{" in text, done.stderr.decode()
    return json.loads(text[text.index("{") :])["plays"][0]["tasks"][0]["hosts"]["localhost"]


def described(where):
    return {name: getattr(where, name) for name in ("path", "python", "settings", "env_file")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_migration_through_the_modules_leaves_the_live_database_alone(cluster, tmp_path, kind):
    folder = Folder(tmp_path / "asking", cluster, ENVIRONMENTS[0], ASKS)
    one, two = folder.new(kind), folder.new(kind)
    fill(cluster, one, "source")
    fill(cluster, two, "live")
    told = about(two, tmp_path)
    common = {"keeper": "root", "connection": told["connection"], "server_directory": told["server_directory"]}
    values = dict(common, site=described(one), state="dumped", masking="never", directory=str(tmp_path / "out"))
    made = module("sauvegarde_migration_source", tmp_path, **values)
    assert "path" in made, made
    name = database(two) if kind == "pg" else Path(database(two)).name
    said = {"host": "here", "confirm": f"{name}@here"}
    values = dict(common, site=described(two), path=made["path"], directory=str(tmp_path / "in"), **said)
    done = module("sauvegarde_migration", tmp_path, **values)
    assert done.get("status") == "ready", done
    assert ("site", "live") in rows(cluster, two) and not [row for row in rows(cluster, two) if "source" in row]
    assert rows(cluster, two, done["side"]) == rows(cluster, one)


@pytest.mark.parametrize("kind", KINDS)
def test_no_module_works_on_another_database(cluster, tmp_path, kind):
    folder = Folder(tmp_path / "faulty", cluster, ENVIRONMENTS[0], FAULTS)
    where, other = folder.new(kind), folder.new(kind)
    fill(cluster, where, "live")
    fill(cluster, other, "other")
    before = rows(cluster, where), rows(cluster, other)
    with Path(where.env_file).open("a", encoding="utf-8") as file:
        file.write(f"FAULT=listener\nOTHER={database(other)}\n")
    path = write(tmp_path / "f.json", [{"model": "a.note", "pk": 9, "fields": {"text": "sent"}}])
    source = {
        "state": "dumped",
        "masking": "never",
        "directory": str(tmp_path / "out"),
        "environment_of_host": "production",
    }
    calls = {
        "sauvegarde_dumpdata": {"path": str(tmp_path / "dump.json")},
        "sauvegarde_loaddata": {"fixtures": [str(path)]},
        "sauvegarde_site_info": {},
        "sauvegarde_migration_source": dict(source, environment_of_host="production"),
    }
    for name, arguments in calls.items():
        answer = module(name, tmp_path, site=described(where), **arguments)
        assert answer.get("failed") and "leads to another database than the told one" in answer["msg"], (name, answer)
        assert (rows(cluster, where), rows(cluster, other)) == before
    assert not (tmp_path / "dump.json").exists()
