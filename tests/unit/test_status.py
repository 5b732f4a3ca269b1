"""How jobs do: when cron last started them, and what their state says against that."""

from __future__ import annotations

import json
import os
import time

import pytest
import yaml
from sauvegarde.backup import cron_times, job_status, schedule
from sauvegarde.report import job_state

NOW = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))  # a Tuesday, by whatever clock this machine has
DAY = 86400


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("15 2 * * *", (2026, 11, 24, 2, 15)),
        ("0 12 * * *", (2026, 11, 24, 12, 0)),
        ("1 12 * * *", (2026, 11, 23, 12, 1)),
        ("*/20 * * * *", (2026, 11, 24, 12, 0)),
        ("30 1 * * mon", (2026, 11, 23, 1, 30)),
        ("30 1 * * 7", (2026, 11, 22, 1, 30)),
        ("0 3 31 * *", (2026, 10, 31, 3, 0)),
        ("0 3 1 * sat", (2026, 11, 21, 3, 0)),
        ("5,50 0-6/3 1-7 jan,feb *", (2026, 2, 7, 6, 50)),
        ("0 0 29 2 *", (2024, 2, 29, 0, 0)),
    ],
)
def test_the_last_start_is_that_of_cron(expression, expected):
    moment = cron_times.last_due(expression, NOW)
    assert time.localtime(moment)[:5] == expected


def test_schedules_are_those_of_the_cron_file(tmp_path):
    entries = [{"job": "site", "schedule": "daily", "action": "run"}]
    entries.append({"job": "vault", "schedule": "0 4 * * *", "action": "forget"})
    text = schedule.crontab(entries, "db1", "/usr/local/sbin/sauvegarde", header=["A note: run site"])
    (tmp_path / "cron").write_text(text)
    assert cron_times.schedules(tmp_path / "cron") == {"site": schedule.expression("daily", "db1", "site")}
    assert cron_times.schedules(tmp_path / "missing") == {}


@pytest.fixture
def status(tmp_path):
    """Return a function that gives the status of a daily job with this state."""

    def read(state, damaged="", cron="15 2 * * * root umask 077; exec /x run site\n", written=NOW - 30 * DAY, **job):
        settings = tmp_path / "etc/jobs/site.json"
        settings.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root/site" / f".damaged-{damaged}").mkdir(parents=True, exist_ok=True) if damaged else None
        values = {"name": "site", "kind": "sqlite", "user": "root", "host": "db1", "path": "/x"}
        values |= {"root": str(tmp_path / "root"), "state": str(tmp_path), **job}
        settings.write_text(json.dumps(values))
        os.utime(settings, (written, written))
        job_state.write(tmp_path / "state.json", state)
        (tmp_path / "cron").write_text(cron)
        (one,) = job_status.of_host(tmp_path / "etc", tmp_path / "cron", now=NOW)
        return one

    return read


def success(age):
    return {"id": "20261124T021500Z", "ended": NOW - age, "seconds": 60, "stored_bytes": 2048}


FAILURE = {"ended": NOW - 60, "exit_code": 13, "problems": [{"what": "The login was refused.", "why": "x", "fix": "y"}]}


@pytest.mark.parametrize(
    ("state", "more", "expected"),
    [
        ({"last_success": success(9 * 3600)}, {}, "good"),
        ({"last_success": success(34 * 3600)}, {}, "overdue"),
        ({"last_success": success(34 * 3600)}, {"allow_failure": True}, "overdue"),
        ({}, {}, "overdue"),
        ({}, {"written": NOW - 60}, "never ran"),
        ({"last_success": success(9 * 3600), "last_run": FAILURE}, {}, "failed"),
        ({"last_success": success(9 * 3600)}, {"damaged": "20261124T021500Z"}, "damaged"),
        ({"last_success": success(9 * 3600)}, {"damaged": "20261101T021500Z"}, "good"),
        ({"last_success": success(9 * 3600)}, {"cron": ""}, "not in cron"),
        ({"last_success": success(9 * 3600)}, {"root": ""}, "unreadable"),
        ({"last_success": {"ended": "forged"}}, {}, "unreadable"),
        ({"last_success": "forged", "last_run": [1]}, {"written": NOW - 60}, "never ran"),
    ],
)
def test_the_state_of_a_job_is_the_worst_that_holds(status, state, more, expected):
    result = status(state, **more)
    assert result.state == expected
    assert result.is_well == (expected == "good" or "allow_failure" in more)


def test_the_last_failure_outlives_a_success(status):
    assert status({"last_run": FAILURE}).last_failure["exit_code"] == 13
    kept = {"ended": NOW - DAY, "exit_code": 3, "what": "a", "why": "b", "fix": "c"}
    run = {"ended": NOW - 60, "exit_code": 0, "problems": []}
    result = status({"last_run": run, "last_success": success(60), "last_failure": kept})
    assert (result.state, result.is_failing, result.last_failure) == ("good", False, kept)


def test_the_table_puts_the_worst_first_and_says_why(played, status):
    good = status({"last_success": success(9 * 3600)}).as_dict()
    bad = {**status({"last_success": success(34 * 3600), "last_run": FAILURE}).as_dict(), "job": "other"}
    show = "{{ hostvars | sauvegarde_status_text(ansible_play_hosts_all) }}"
    names = "{{ hostvars | sauvegarde_status_jobs(ansible_play_hosts_all) | map('sauvegarde_status_name') | list }}"
    done = played(
        {"name": "Answer", "set_fact": {"status_jobs": {"jobs": [good, bad]}}},
        {"name": "Show", "debug": {"msg": show}},
        {"name": "Name", "debug": {"msg": names}},
    )
    lines = done.result("Show")["msg"]
    assert lines[1].split()[:3] == ["here", "other", "failed"] and "1 d 10 h ago" in lines[1]
    assert lines[2].split()[:3] == ["here", "site", "good"] and "2.0 KiB" in lines[2]
    assert "here other: Its last run ended with 13: The login was refused. x" in lines and "  Fix: y" in lines
    assert done.result("Name")["msg"] == ["here other (failed)", "here site (good)"]


@pytest.fixture
def played(tmp_path):
    """Return a function that plays tasks on this machine."""
    from test_playbooks import LOCAL

    from sauvegarde_cli.playbooks import play

    def run(*tasks):
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(LOCAL))
        plays = [{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}]
        (tmp_path / "play.yml").write_text(yaml.safe_dump(plays))
        return play(tmp_path / "play.yml", tmp_path / "hosts.yml", lambda kind, text: None)

    return run
