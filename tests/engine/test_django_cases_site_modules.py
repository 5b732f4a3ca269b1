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

ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
pytestmark = [
    pytest.mark.skipif(not ANSIBLE.exists(), reason="Ansible is not installed beside this Python"),
    pytest.mark.skipif(os.geteuid() != 0, reason="the modules' callers are root"),
]
KINDS = ("sqlite", "pg")


def modules(tmp_path, *calls):
    """What the modules answer, their failures included. calls: (name, arguments) of each; one play runs them all."""
    tasks = [{"name": name, name: arguments, "ignore_errors": True} for name, arguments in calls]
    play = {"name": "Modules", "hosts": "localhost", "gather_facts": False, "tasks": tasks}
    path = write(tmp_path / "play.json", [play])
    values = dict(os.environ, LC_ALL="C.UTF-8", ANSIBLE_STDOUT_CALLBACK="ansible.builtin.json")
    values["ANSIBLE_INVENTORY"] = f"{tmp_path}/none,"
    done = subprocess.run([str(ANSIBLE), str(path)], cwd=str(ROOT), env=values, capture_output=True, check=False)
    text = done.stdout.decode()
    assert "{" in text, done.stderr.decode()
    answers = json.loads(text[text.index("{") :])["plays"][0]["tasks"]
    assert len(answers) == len(calls), text
    return [answer["hosts"]["localhost"] for answer in answers]


def module(name, tmp_path, **arguments):
    """What one module answers, its failure included."""
    return modules(tmp_path, (name, arguments))[0]


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


def described_source(cluster, tmp_path, kind):
    """A source without faults, as the module describes it for a plan."""
    folder = Folder(tmp_path / "source", cluster, ENVIRONMENTS[0])
    where = folder.new(kind)
    fill(cluster, where, "source")
    values = {"masking": "never", "directory": str(tmp_path / "described"), "environment_of_host": "production"}
    answer = module("sauvegarde_migration_source", tmp_path, site=described(where), state="described", **values)
    assert "source" in answer, answer
    return answer["source"]


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
    (tmp_path / "sets").mkdir()
    info = about(where, tmp_path)
    target = {"keeper": "root", "connection": info["connection"], "server_directory": info["server_directory"]}
    source = {"masking": "never", "directory": str(tmp_path / "out"), "environment_of_host": "production"}
    calls = {
        "sauvegarde_dumpdata": {"path": str(tmp_path / "dump.json")},
        "sauvegarde_loaddata": {"fixtures": [str(path)]},
        "sauvegarde_fixtures": {"folder": str(tmp_path / "sets"), "sets": [{"name": "notes", "models": ["a.note"]}]},
        "sauvegarde_site_info": {},
        "sauvegarde_migration_source": dict(source, state="dumped"),
        "sauvegarde_migration_plan": dict(target, source=described_source(cluster, tmp_path, kind)),
    }
    answers = modules(tmp_path, *((name, dict(arguments, site=described(where))) for name, arguments in calls.items()))
    for name, answer in zip(calls, answers):
        assert answer.get("failed") and "leads to another database than the told one" in answer["msg"], (name, answer)
    assert (rows(cluster, where), rows(cluster, other)) == before
    assert not (tmp_path / "dump.json").exists() and not list((tmp_path / "sets").iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_the_module_masks_sets_and_says_what_is_wrong(cluster, tmp_path, kind):
    where = Folder(tmp_path / "plain", cluster, ENVIRONMENTS[0]).new(kind)
    fill(cluster, where, "zoe@real.fr")
    (tmp_path / "sets").mkdir()
    one = {"name": "notes", "models": ["a.note"]}
    common = {"site": described(where), "folder": str(tmp_path / "sets")}
    chosen = dict(common, sets=[dict(one, masks={"a.note": {"text": {"mask": "scrub"}}})])
    wrong, without, made, again = modules(
        tmp_path,
        *(
            ("sauvegarde_fixtures", arguments)
            for arguments in (
                dict(common, sets=[dict(one, masks={"a.note": {"text": {"mask": "hide"}}})]),
                chosen,
                dict(chosen, key="00112233445566778899aabbccddeeff"),
                dict(chosen, state="imported"),
            )
        ),
    )
    assert wrong["failed"] and "fixture set notes" in wrong["msg"] and "a.note.text" in wrong["msg"]
    assert without["failed"] and "need a secret key" in without["msg"] and "migrate_key" in without["msg"]
    assert made["private"] == ["a.note.text is masked (scrub) in the sets."]
    text = (tmp_path / "sets" / "notes.json").read_text(encoding="utf-8")
    assert "@example.org" in text and "real.fr" not in text
    assert not again["changed"] and ("", "zoe@real.fr") in rows(cluster, where)
