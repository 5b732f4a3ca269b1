"""The modules on sites whose start-up leads elsewhere: as playbooks call them, on a controller that has Ansible.

Ansible builds each module again for each play, from more than a hundred files: a test has one play, for both engines.
"""

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
    """What the modules answer, their failures included. calls: (name, arguments) of each; one play runs them all.

    The answer to call N is `answerN` in the arguments of those after it.
    """
    tasks = [
        {"name": name, name: arguments, "ignore_errors": True, "register": f"answer{number}"}
        for number, (name, arguments) in enumerate(calls)
    ]
    answers = tmp_path / "answers.json"
    names = ", ".join(task["register"] for task in tasks)
    kept = {"dest": str(answers), "content": f"{{{{ [{names}] | to_json }}}}", "mode": "0600"}
    tasks.append({"name": "Keep the answers", "ansible.builtin.copy": kept})
    play = {"name": "Modules", "hosts": "localhost", "gather_facts": False, "tasks": tasks}
    path = write(tmp_path / "play.json", [play])
    # The file is empty. A list of hosts that ends with a comma would have Ansible read the working directory, too, each
    # file below it as an inventory: minutes.
    values = dict(os.environ, LC_ALL="C.UTF-8", ANSIBLE_INVENTORY=str(write(tmp_path / "inventory.json", {})))
    done = subprocess.run([str(ANSIBLE), str(path)], cwd=str(ROOT), env=values, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return json.loads(answers.read_text(encoding="utf-8"))


def described(where):
    return {name: getattr(where, name) for name in ("path", "python", "settings", "env_file")}


def target(where, folder):
    """The arguments that say where a migration ends."""
    result = about(where, folder)
    return {"keeper": "root", "connection": result["connection"], "server_directory": result["server_directory"]}


def test_a_migration_through_the_modules_leaves_the_live_database_alone(cluster, tmp_path):
    folder = Folder(tmp_path / "asking", cluster, ENVIRONMENTS[0], ASKS)
    sites, calls = {}, []
    for kind in KINDS:
        one, two = sites[kind] = folder.new(kind), folder.new(kind)
        fill(cluster, one, "source")
        fill(cluster, two, "live")
        common = target(two, tmp_path)
        values = dict(common, site=described(one), state="dumped", masking="never", directory=str(tmp_path / "out"))
        path = f"{{{{ answer{len(calls)}.path }}}}"
        calls.append(("sauvegarde_migration_source", values))
        name = database(two) if kind == "pg" else Path(database(two)).name
        values = dict(common, site=described(two), path=path, directory=str(tmp_path / "in"), host="here")
        calls.append(("sauvegarde_migration", dict(values, confirm=f"{name}@here")))
    answers = iter(modules(tmp_path, *calls))
    for one, two in sites.values():
        result, done = next(answers), next(answers)
        assert "path" in result, result
        assert done.get("status") == "ready", done
        assert ("site", "live") in rows(cluster, two) and not [row for row in rows(cluster, two) if "source" in row]
        assert rows(cluster, two, done["side"]) == rows(cluster, one)


def test_no_module_works_on_another_database(cluster, tmp_path):
    good = Folder(tmp_path / "source", cluster, ENVIRONMENTS[0])
    faulty = Folder(tmp_path / "faulty", cluster, ENVIRONMENTS[0], FAULTS)
    path = write(tmp_path / "f.json", [{"model": "a.note", "pk": 9, "fields": {"text": "sent"}}])
    leaving = {"masking": "never", "directory": str(tmp_path / "out"), "environment_of_host": "production"}
    sites, calls = {}, []
    for kind in KINDS:
        source, where, other = good.new(kind), faulty.new(kind), faulty.new(kind)
        for site, word in ((source, "source"), (where, "live"), (other, "other")):
            fill(cluster, site, word)
        with Path(where.env_file).open("a", encoding="utf-8") as file:
            file.write(f"FAULT=listener\nOTHER={database(other)}\n")
        sites[kind] = where, other, (rows(cluster, where), rows(cluster, other))
        sets = tmp_path / f"sets-{kind}"
        sets.mkdir()
        # A plan is for a source without faults.
        answer = f"{{{{ answer{len(calls)}.source }}}}"
        calls.append(("sauvegarde_migration_source", dict(leaving, site=described(source), state="described")))
        for name, arguments in (
            ("sauvegarde_dumpdata", {"path": str(tmp_path / f"{kind}.json")}),
            ("sauvegarde_loaddata", {"fixtures": [str(path)]}),
            ("sauvegarde_fixtures", {"folder": str(sets), "sets": [{"name": "notes", "models": ["a.note"]}]}),
            ("sauvegarde_site_info", {}),
            ("sauvegarde_migration_source", dict(leaving, state="dumped")),
            ("sauvegarde_migration_plan", dict(target(where, tmp_path), source=answer)),
        ):
            calls.append((name, dict(arguments, site=described(where))))
    answers = modules(tmp_path, *calls)
    for (name, arguments), answer in zip(calls, answers):
        if arguments.get("state") == "described":
            assert "source" in answer, answer
            continue
        assert answer.get("failed"), (name, answer)
        assert "leads to another database than the requested one" in answer["msg"], (name, answer)
    for kind, (where, other, before) in sites.items():
        assert (rows(cluster, where), rows(cluster, other)) == before
        assert not (tmp_path / f"{kind}.json").exists() and not list((tmp_path / f"sets-{kind}").iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_the_module_masks_sets_and_says_what_is_wrong(cluster, tmp_path, kind):
    where = Folder(tmp_path / "plain", cluster, ENVIRONMENTS[0]).new(kind)
    fill(cluster, where, "zoe@real.fr")
    (tmp_path / "sets").mkdir()
    one = {"name": "notes", "models": ["a.note"]}
    common = {"site": described(where), "folder": str(tmp_path / "sets")}
    chosen = dict(common, sets=[dict(one, masks={"a.note": {"text": {"mask": "scrub"}}})])
    wrong, without, result, again = modules(
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
    assert result["private"] == ["a.note.text is masked (scrub) in the sets."]
    text = (tmp_path / "sets" / "notes.json").read_text(encoding="utf-8")
    assert "@example.org" in text and "real.fr" not in text
    assert not again["changed"] and ("", "zoe@real.fr") in rows(cluster, where)
