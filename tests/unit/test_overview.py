"""The commands that read, on archives of this machine and a host that is dead."""

import json
import os
import pty
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from sauvegarde import errors
from sauvegarde.archive import manifest
from sauvegarde.restore import live_comparison

from sauvegarde_cli import commands, completion_script, completion_words, first_screen, json_keys, on_call, overview
from sauvegarde_cli.__main__ import parser
from sauvegarde_cli.command_failed import ROOT
from sauvegarde_cli.commands import list as list_command
from sauvegarde_cli.commands import show, status
from sauvegarde_cli.playbook_run import INTERRUPTED, Outcome

CANARY = "zorgolim-4b1d"
NEW, OLD = "20261124T030000Z", "20261123T030000Z"


def contents(job, identifier, host="here", **more):
    """The manifest of an archive, as the engine writes it."""
    values = {
        "format": 1,
        "id": identifier,
        "job": job,
        "kind": "pg_dump",
        "tool": {"name": "sauvegarde", "version": "1"},
        "host": host,
        "started": "2026-11-24T03:00:00Z",
        "ended": "2026-11-24T03:00:09Z",
        "files": [],
        "bytes": 0,
        "stored_bytes": 0,
        "source": {
            "database": job,
            "server": {"version": "15.18", "version_num": 150018, "system_identifier": "7", "standby": False},
        },
        "tools": {"pg_dump": "15.18"},
        "fingerprint": {
            "algorithm": "md5-sum/1",
            "tables": {
                '"public"."offers"': {"rows": 412, "hash": "a" * 32},
                '"public"."tags"': {"rows": 3, "hash": "b" * 32},
            },
        },
        "restore_by_hand": {"local": ["zstd -d x"], "plain": ["pg_restore -d elpaso dump"]},
        "warnings": [],
        **more,
    }
    return manifest.dumps(values)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of an inventory: this machine with two archives, and a host that does not answer."""
    folder = tmp_path_factory.mktemp("site")
    for job, identifier in (("elpaso", NEW), ("elpaso", OLD), ("other", NEW)):
        path = folder / "archives" / job / identifier
        path.mkdir(parents=True)
        (path / "manifest.json").write_text(contents(job, identifier))
    here = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
        "backup_directory": str(folder / "archives"),
        "ansible_become_password": CANARY,
    }
    dead = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_args": "-F /dev/null"}
    hosts = {"all": {"children": {"backup": {"hosts": {"here": here, "dead": dead}}}}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
    return folder


def environment(site):
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "SAUVEGARDE_ROOT": str(ROOT),
        "ANSIBLE_INVENTORY": str(site / "hosts.yml"),
        "RESTIC_PASSWORD": CANARY,
    }


def start(site, *words):
    """Run the command as a program, without a terminal."""
    command = [sys.executable, "-m", "sauvegarde_cli", *words]
    return subprocess.run(command, env=environment(site), stdin=subprocess.DEVNULL, capture_output=True, text=True)


def test_the_tasks_that_are_read_are_those_of_the_playbooks():
    for names, playbook in (
        ([overview.LIST, overview.KEPT], list_command.PLAYBOOK),
        ([overview.STATES], status.PLAYBOOK),
        ([show.TASK], show.PLAYBOOK),
    ):
        (play,) = yaml.safe_load((ROOT / playbook).read_text())
        assert set(names) <= {task["name"] for task in play["tasks"]}


def test_the_list_is_partial_where_a_host_does_not_answer(site):
    ended = start(site, "list", "--json")
    document = json.loads(ended.stdout)
    assert ended.returncode == document["exit_code"] == 3, ended.stderr
    assert list(document) == list(json_keys.DOCUMENT) and list(document["result"]) == list(json_keys.RESULTS["list"])
    result = document["result"]
    assert result["unread"] == ["dead"]
    assert [(each["job"], each["id"]) for each in result["archives"]] == [
        ("elpaso", NEW), ("elpaso", OLD), ("other", NEW)
    ]  # fmt: skip
    reached = completion_words.folder()
    assert {"dead", "here"} <= set((reached / "hosts").read_text().split())
    assert OLD in (reached / "archives").read_text()
    assert {stat.S_IMODE(path.stat().st_mode) for path in reached.iterdir()} == {0o600}
    written = [*reached.iterdir(), *Path(document["log"]).parent.iterdir()]
    assert len(written) > 4 and not [path for path in written if CANARY in path.read_text()]
    assert CANARY not in ended.stdout + ended.stderr


def test_show_has_all_of_one_archive_and_the_command_that_restores_it(site):
    ended = start(site, "show", NEW, "--job", "elpaso", "--of-host", "here", "--limit", "here")
    assert ended.returncode == 0, ended.stderr
    for words in (
        "elpaso (15.18), kind pg_dump",
        "2 with 415 rows",
        "412  public.offers",
        "pg_restore -d elpaso dump",
        "Live:      not compared",
        f"Next:   ./sauvegarde plan elpaso --target here --source-host here --point {NEW}",
    ):
        assert words in ended.stdout, words


def test_the_keys_of_show_are_those_of_the_reference(site):
    ended = start(site, "show", OLD, "--no-live", "--json", "--limit", "here")
    document = json.loads(ended.stdout)
    assert ended.returncode == 0 and list(document["result"]) == list(json_keys.RESULTS["show"])
    assert document["result"]["manifest"]["id"] == OLD and len(document["next"]) == 1


def test_every_command_with_json_is_in_the_reference():
    def has_json(name):
        with pytest.raises(SystemExit):
            parser().parse_args([name, "--json", "--help"])
        actions = parser()._subparsers._group_actions[0].choices[name]._actions
        return any("--json" in action.option_strings for action in actions)

    named = {name for name in commands.names() if has_json(name)} - {"report"}
    assert named | {"overview"} == set(json_keys.RESULTS)


def test_the_exit_codes_are_those_of_the_engine_and_of_the_commands():
    assert set(errors.exit_codes()) | {on_call.USAGE, INTERRUPTED} == set(json_keys.EXIT_CODES)
    assert overview.PARTIAL in json_keys.EXIT_CODES


def test_show_says_whose_archives_have_the_id(site):
    ended = start(site, "show", NEW, "--limit", "here")
    assert ended.returncode == 2
    assert "here, job elpaso\n" in ended.stderr and "--of-host here --job elpaso" in ended.stderr


def test_the_first_screen_and_its_menu_on_a_terminal(site):
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "sauvegarde_cli"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment(site), "COLUMNS": "200"},
        start_new_session=True,
    ) as running:
        os.close(slave)
        os.write(master, f"77\n2\n\n{len(first_screen.MENU)}\nq\n".encode())
        shown = b""
        try:
            while piece := os.read(master, 4096):
                shown += piece
        except OSError:  # the terminal's other side has ended
            pass
        code = running.wait()
    os.close(master)
    text = shown.decode()
    assert code == 0, text
    for words in (
        "Protected, the newest archive of each:",
        "here elpaso",
        "rows of 2 of 2 tables proven",
        "dead (no answer)",
        "1  List all archives",
        "'77' is no number of the menu.",
        "An answer is missing.",
        "$ ./sauvegarde report last",
    ):
        assert words in text, (words, text)


def test_without_a_terminal_there_is_the_help(site):
    ended = start(site)
    assert ended.returncode == 2 and "COMMAND" in ended.stdout


def outcome(**results):
    return Outcome("x", results=results, changed={host: 0 for each in results.values() for host in each})


@pytest.mark.parametrize("is_well", [True, False])
def test_the_status_is_one_only_if_all_is_well(is_well):
    job = {"host": "db", "job": "site", "state": "good" if is_well else "overdue", "why": "cron?", "is_well": is_well}
    jobs = overview.jobs(outcome(**{overview.STATES: {"db": {"jobs": [job]}}}))
    assert bool(jobs.unwell) != is_well and jobs.as_dict()["is_well"] == is_well
    assert list(jobs.as_dict()) == list(json_keys.RESULTS["status"])
    assert not overview.Jobs((), ()).is_well, "a site without a job is not protected"
    assert ("db site (overdue): cron?" in jobs.lines) != is_well


def test_the_screen_says_what_takes_space_and_what_has_no_job():
    entry = {"host": "db", "job": "before", "id": NEW, "system": "", "kind": "database", "source": "elpaso__before"}
    entry |= {"where": "server", "path": "elpaso__before", "verified": None, "problem": "", "stored_bytes": 2**30}
    entry |= {"bytes": 2**30, "warnings": [], "lacks": [], "unproven": []}
    listed = {"archives": [], "databases_without_job": [{"server": "x", "database": "forgotten"}]}
    catalog = overview.catalog(
        outcome(**{overview.LIST: {"db": listed}, overview.KEPT: {"db": {"archives": [entry], "lost": []}}})
    )
    assert catalog.databases and not catalog.archives and catalog.is_complete
    lines = first_screen.lines(catalog, overview.Jobs((), ()), datetime.now(UTC))
    assert "  db: elpaso__before, 1.0 GiB" in lines and "  db: no job names the database forgotten" in lines


def test_a_list_by_name_still_says_which_hosts_failed():
    entry = {"host": "db", "job": "site", "id": NEW, "source": "elpaso (15)", "where": "local", "path": "/x"}
    entry |= {"verified": True, "stored_bytes": 1, "bytes": 1, "kind": "pg_dump", "system": ""}
    results = {
        overview.LIST: {"db": {"archives": [entry, {**entry, "job": "b", "path": "/y", "source": "b"}]}, "x": {}}
    }
    catalog = overview.catalog(outcome(**results), "elpaso")
    assert [each["job"] for each in catalog.archives] == ["site"] and catalog.unread == ("x",)


def test_a_snapshot_has_the_place_that_its_own_host_names():
    """Its repository's host reads it too, under another name, and comes first in the alphabet."""
    entry = {"host": "db", "job": "site", "id": NEW, "source": "elpaso (15)", "where": "vault", "path": "0a1b2c3d"}
    entry |= {"verified": True, "stored_bytes": 1, "bytes": 1, "kind": "pg_dump", "system": ""}
    read = {"archive": {"archives": [{**entry, "where": "db"}]}, "db": {"archives": [entry]}}
    assert [each["where"] for each in overview.catalog(outcome(**{overview.LIST: read})).archives] == ["vault"]


def test_every_choice_of_the_menu_is_a_command():
    for choice in first_screen.MENU:
        words = first_screen.words_of(choice, lambda question: "word")
        assert parser().parse_args(words).run, words


def test_tables_that_differ_are_named_the_largest_loss_first():
    counts = {"public.less": (5, 2), "public.new": (None, 4), "public.gone": (9, None), "public.other": (2, 2)}
    changes = [{"table": table, "archive_rows": before, "live_rows": now} for table, (before, now) in counts.items()]
    assert [each["sentence"] for each in live_comparison.differing(changes)] == [
        "public.gone: 9 rows in the archive, no such table in the live database",
        "public.less: 5 rows in the archive, 2 in the live database",
        "public.other: 2 rows in both, with other content or other columns",
        "public.new: no such table in the archive, 4 rows in the live database",
    ]
    partial = live_comparison.differing(changes, is_partial=True)
    assert "public.new" not in [each["table"] for each in partial]


def test_a_shell_completes_what_the_last_list_had(tmp_path, monkeypatch):
    monkeypatch.setattr(completion_words, "folder", lambda: tmp_path)
    words = {"hosts": ["db1", "db2"], "databases": ["elpaso"], "archives": [NEW], "jobs": ["$(touch x)", "site"]}
    completion_words.write(words, tmp_path)
    assert (tmp_path / "jobs").read_text() == "site\n", "a hostile name is left out"
    (tmp_path / "script").write_text(completion_script.script(parser(), "bash"))
    ask = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sauvegarde; echo "${COMPREPLY[@]}"'

    def completed(*typed):
        command = ["bash", "-c", ask, str(tmp_path / "script"), *typed]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert completed("./sauvegarde", "sho") == ["show"]
    assert completed("./sauvegarde", "show", "2026") == [NEW]
    assert completed("./sauvegarde", "restore", "--target", "") == ["db1", "db2"]
    assert completed("./sauvegarde", "restore", "el") == ["elpaso"]
    assert completed("./sauvegarde", "completion", "b") == ["bash"]
    assert "--of-host" in completed("./sauvegarde", "show", "--")
    assert completion_script.script(parser(), "zsh").startswith("#compdef sauvegarde")
