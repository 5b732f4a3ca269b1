"""Playbooks through ansible-runner: what is told on the way, and what comes back."""

import contextlib
import itertools
import os
import re
import sqlite3
import sys
import threading
import time

import pytest
import yaml
from sauvegarde.targets.sqlite_target import SqliteTarget

from sauvegarde_cli.playbooks import play
from sauvegarde_cli.system import CommandFailed

LOCAL = {"all": {"hosts": {"here": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}}}


@pytest.fixture
def played(tmp_path):
    """Play tasks on this machine; returns (what came of it, what was told)."""

    def run(*tasks, tell=None, **options):
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(LOCAL))
        (tmp_path / "play.yml").write_text(
            yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}])
        )
        messages = []
        done = play(
            tmp_path / "play.yml",
            tmp_path / "hosts.yml",
            tell or (lambda kind, text: messages.append((kind, text))),
            **options,
        )
        return done, messages

    return run


def test_tasks_are_reported_and_their_results_come_back(played):
    done, report = played(
        {"name": "Say it", "debug": {"msg": "{{ word }}"}, "changed_when": True},
        {"name": "Left out", "debug": {"msg": "no"}, "when": False},
        variables={"word": "bonjour"},
    )
    assert done.result("Say it")["msg"] == done.result("Say it", "here")["msg"] == "bonjour"
    assert done.changed == {"here": 1}
    assert not done.unreachable
    assert ("task", "Say it") in report


def test_what_failed_is_reported_in_its_own_words(played):
    with pytest.raises(CommandFailed) as failure:
        played(
            {"name": "Passes over", "fail": {"msg": "ignored"}, "ignore_errors": True},
            {"name": "Stop here", "fail": {"msg": "{{ item }} is wrong"}, "loop": ["this", "that"]},
        )
    assert failure.value.why == "here, Stop here: this is wrong\nthat is wrong"


def test_a_playbook_that_cannot_be_read_is_a_failure(played):
    with pytest.raises(CommandFailed) as failure:
        played({"name": "Nothing", "no_such_module": {}})
    assert "no_such_module" in failure.value.why


def test_a_module_that_takes_long_is_not_silent(tmp_path, played):
    """Fault 35: a plan whose source has no end, until it was told of twice within ten seconds. A busy machine may need
    several attempts, and is never the reason for a line that comes early."""
    source = tmp_path / "source"
    os.mkfifo(source)
    options, ended = [], threading.Event()

    def end():
        """Whoever opens the source finds it empty."""
        while not ended.wait(0.05):
            with contextlib.suppress(OSError):
                os.close(os.open(source, os.O_WRONLY | os.O_NONBLOCK))

    ending = threading.Thread(target=end)

    def tell(kind, text):
        if kind == "line":
            options.append((time.monotonic(), text))
            if not ending.ident and ((pauses() and min(pauses()) <= 10) or len(options) == 6):
                ending.start()

    def pauses():
        return [after - before for (before, _), (after, _) in itertools.pairwise(options)]

    plan = {"path": str(source), "database": "x", "directory": str(tmp_path / "restores")}
    try:
        done, _ = played({"name": "Make the plan", "sauvegarde_plan": plan}, tell=tell)
    finally:
        ended.set()
        if ending.ident:
            ending.join()
    assert "is damaged or cut short" in done.result("Make the plan")["lines"][0]
    assert all(re.fullmatch(r"here: Make the plan, \d+ s", text) for _, text in options), options
    assert min(pauses()) <= 10


def test_a_swap_that_waits_for_others_is_not_silent(tmp_path, played):
    """Fault 35: somebody holds the live file until a line was told."""
    live = tmp_path / "db"
    kept = SqliteTarget(str(live)).previous_name("20261124T030000Z")
    for path in (live, kept):
        with contextlib.closing(sqlite3.connect(str(path))) as connection:
            connection.execute("CREATE TABLE t (x)")
    holder = sqlite3.connect(str(live), isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    messages = []

    def tell(kind, text):
        if kind == "line":
            messages.append(text)
            holder.rollback()

    swap = {"database": str(live), "state": "before", "confirm": "db@here", "host": "here"}
    with contextlib.closing(holder):
        done, _ = played({"name": "Go back", "sauvegarde_swap": swap}, tell=tell)
    assert done.result("Go back")["restored"] == kept
    assert messages and all(re.fullmatch(r"here: Go back, \d+ s", text) for text in messages), messages


def test_a_list_repeats_only_what_the_newest_archive_lacks(played):
    """Also where the newest one lacks nothing any more; one that is damaged says nothing."""

    def entry(job, day, verified=True, warnings=()):
        return {
            "host": "db",
            "job": job,
            "id": f"202601{day:02}T000000Z",
            "bytes": 4096,
            "stored_bytes": 1024,
            "system": "7",
            "where": "local",
            "verified": verified,
            "source": "x",
            "problem": "" if verified else "cut short",
            "warnings": list(warnings),
            "unproven": [],
        }

    entries = [
        entry("put_right", 1, warnings=["an old warning"]),
        entry("put_right", 2),
        entry("lacking", 1, warnings=["a current warning"]),
        entry("lacking", 2, warnings=["a current warning"]),
        entry("lacking", 3, verified=False),
    ]
    for archive in entries:
        archive["path"] = f"/{archive['job']}/{archive['id']}"
    done, _ = played(
        {"name": "Answer", "set_fact": {"list_catalog": {"archives": entries}}},
        {"name": "Show", "debug": {"msg": "{{ hostvars | sauvegarde_catalog_text(ansible_play_hosts_all) }}"}},
    )
    lines = done.result("Show")["msg"]
    assert len(lines) == 1 + len(entries) + 1 and "an old warning" not in "".join(lines)
    assert [line for line in lines if "a current warning" in line] == ["db lacking 20260102T000000Z: a current warning"]
    assert [line.split()[1:3] for line in lines[1:6]] == [
        ["lacking", "20260103T000000Z"],  # the worst first: its newest archive is damaged
        ["lacking", "20260102T000000Z"],
        ["lacking", "20260101T000000Z"],
        ["put_right", "20260102T000000Z"],
        ["put_right", "20260101T000000Z"],
    ]
    assert re.fullmatch(
        r"db +lacking +20260103T000000Z +\d+ days +1\.0 KiB +4\.0 KiB +its own host +DAMAGED +x cut short", lines[1]
    )


def test_a_list_knows_what_a_read_on_another_host_has_found(played):
    """Also of a snapshot, and the databases that restores left stand apart, in the same unit."""
    common = {"host": "db", "job": "site", "id": "20260101T000000Z", "system": "7", "kind": "pg_dump", "bytes": 1}
    common |= {"source": "x (15)", "verified": True, "problem": "", "warnings": [], "unproven": [], "stored_bytes": 1}
    entries = [dict(common, where="local", path="/a/site"), dict(common, where="vault", path="0fa1")]
    kept = dict(common, job="before", where="server", path="x__before_20260101T000000Z", verified=None)
    kept |= {"stored_bytes": 34183578}
    record = {"host": "dead-name", "system": "7", "job": "site", "id": common["id"], "found": 1.0}
    records = [dict(record, where="local", path="/copy", problem="bad block")]
    records += [dict(record, where="vault", path="0fa1", problem="bad pack")]
    for damaged, states in (([], ["good", "good"]), (records[1:], ["DAMAGED", "good"]), (records, ["DAMAGED"] * 2)):
        answer = {"list_catalog": {"archives": entries, "damaged": damaged}, "list_kept": {"archives": [kept]}}
        done, _ = played(
            {"name": "Answer", "set_fact": answer},
            {"name": "Show", "debug": {"msg": "{{ hostvars | sauvegarde_catalog_text(ansible_play_hosts_all) }}"}},
        )
        lines = done.result("Show")["msg"]
        assert sorted(re.findall(r"  (good|DAMAGED)  ", "\n".join(lines[1:3]))) == states
        assert "32.6 MiB  previous" in lines[-1] and "before" not in "".join(lines[:3])
