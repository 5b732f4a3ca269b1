"""`doctor`: what each finding is drawn from, schedules that overlap, and the command on a host and one that is dead."""

import copy
import json
import time

import pytest
from sauvegarde.backup import host_facts
from test_overview import site, start  # noqa: F401 - a fixture

from sauvegarde_cli import json_keys
from sauvegarde_cli.commands import doctor
from sauvegarde_cli.playbook_run import Outcome
from sauvegarde_cli.playbook_text import doctor_text

GIB = 2**30
SERVER = {
    "problem": "",
    "exit_code": 0,
    "version_num": 150018,
    "client": "15.18",
    "client_problem": "",
    "is_local": True,
}
JOB = {"job": "elpaso", "kind": "pg_dump", "problem": "", "schedule": "15 2 * * *", "root": "/srv", "next_bytes": GIB}
JOB |= {"free_bytes": 9 * GIB, "seconds": 60.0, "offsite": ["vault"], "server": {**SERVER, "database_bytes": GIB}}
REPOSITORY = {"repository": "vault", "state": host_facts.OPENS, "problem": "", "append_only": True}
FACTS = {
    "now": 0.0,
    "clock_difference": 0.4,
    "python": "3.11.2",
    "engine": "",
    "programs": ["zstd", "restic", "setpriv"],
    "jobs": [JOB, {**JOB, "job": "globals", "kind": "globals"}],
    "overlaps": [],
    "repositories": [{**REPOSITORY, "deletion": host_facts.REFUSED}],
    "server_free_bytes": 9 * GIB,
}
DESCRIBED = {"jobs": ["elpaso", "globals"], "kinds": ["pg_dump", "globals"], "escrow": "the safe", "known_hosts": "x"}


def findings(facts=None, described=None, answer=None):
    """The findings about a host that is well but for these facts."""
    whole = {**FACTS, "engine": doctor_text.controllers_engine(), **copy.deepcopy(facts or {})}
    variables = {
        "doctor_facts": {"facts": whole, **(answer or {})},
        "doctor_described": {**DESCRIBED, **(described or {})},
    }
    return doctor_text.findings({"db": variables}, ["db"])


def job(**changes):
    return {"jobs": [{**JOB, **changes}, FACTS["jobs"][1]]}


def repository(**changes):
    return {"repositories": [{**FACTS["repositories"][0], **changes}]}


CASES = {
    "unreachable": ({}, {}, {"facts": None, "msg": "Connection refused"}),
    "python-old": ({"python": "3.8.10"}, {}, {}),
    "clock": ({"clock_difference": -300.0}, {}, {}),
    "engine-missing": ({"engine": ""}, {}, {}),
    "engine-other": ({"engine": "0123"}, {}, {}),
    "program-missing": ({"programs": ["zstd", "setpriv"]}, {}, {}),
    "job-missing": ({}, {"jobs": ["elpaso", "globals", "new"]}, {}),
    "job-unreadable": (job(problem="missing: root"), {}, {}),
    "job-unscheduled": (job(schedule=""), {}, {}),
    "overlap": ({"overlaps": [{"job": "elpaso", "other": "elpaso", "at": 0, "seconds": 90000}]}, {}, {}),
    "globals-missing": ({"jobs": [JOB]}, {"jobs": []}, {}),
    "server": (job(server={**SERVER, "problem": "password authentication failed"}), {}, {}),
    "client": (job(server={**SERVER, "client_problem": "No pg_dump is as new"}), {}, {}),
    "space-backup": (job(free_bytes=GIB), {}, {}),
    "space-restore": ({"server_free_bytes": GIB - 1}, {}, {}),
    "offsite-missing": ({"jobs": [{**each, "offsite": []} for each in FACTS["jobs"]]}, {}, {}),
    "host-key": ({}, {"known_hosts": "vault ssh-ed25519 REPLACE-ME"}, {}),
    "repository-missing": (repository(state=host_facts.MISSING), {}, {}),
    "repository-key": (repository(state=host_facts.WRONG), {}, {}),
    "repository-locked": (repository(state=host_facts.LOCKED), {}, {}),
    "repository-fails": (repository(state=host_facts.FAILS), {}, {}),
    "deletion-allowed": (repository(deletion=host_facts.ALLOWED), {}, {}),
    "deletion-unknown": (repository(deletion=host_facts.UNKNOWN), {}, {}),
    "escrow": ({}, {"escrow": ""}, {}),
}


def test_a_host_that_is_well_has_no_finding():
    assert findings() == []
    assert "Nothing would stop" in doctor_text.lines([])[0]


@pytest.mark.parametrize("code", CASES)
def test_each_finding_has_its_code_reason_and_what_repairs_it(code):
    facts, described, answer = CASES[code]
    (result,) = findings(facts, described, answer)
    assert result["code"] == code and result["why"] and result["what"] == doctor_text.CODES[code].meaning
    assert result["fix"] and "{" not in result["fix"] and "None" not in result["why"]
    assert any(f"[{code}]" in line for line in doctor_text.lines([result]))


def test_every_code_has_a_case():
    assert {*CASES, "inventory", "controller-program", "controller-old", "runs-open"} == set(doctor_text.CODES)


def test_an_inventory_that_cannot_be_read_is_a_finding():
    outcome = Outcome("doctor.yml", code=4, output="ERROR! Attempting to decrypt but no vault secrets found")
    (result,) = doctor.of_hosts(outcome)
    assert result["code"] == "inventory" and "--vault-password-file" in result["why"]


def test_what_is_wrong_with_the_controller(monkeypatch, tmp_path):
    tmp_path.chmod(0o755)
    monkeypatch.setattr("sauvegarde_cli.run_record.folder", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sauvegarde_cli.environment.support_note", lambda: "It is out of support.")
    codes = {"controller-program", "controller-old", "runs-open"}
    assert {each["code"] for each in doctor.of_controller()} == codes


NOON = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("schedules", "expected"),
    [
        ({"a": ("0 2 * * *", 600), "b": ("30 2 * * *", 600)}, []),
        ({"a": ("0 2 * * *", 3600), "b": ("30 2 * * *", 600)}, [("a", "b")]),
        ({"a": ("0 2 * * *", 60), "b": ("0 2 * * *", 60)}, [("a", "b")]),
        ({"a": ("*/10 * * * *", 700)}, [("a", "a")]),
        ({"a": ("*/10 * * * *", 500)}, []),
        ({"a": ("", 700), "b": ("0 2 * * *", 0)}, []),
    ],
)
def test_jobs_that_run_at_once(schedules, expected):
    jobs = [{"job": name, "schedule": cron, "seconds": float(taken)} for name, (cron, taken) in schedules.items()]
    assert [(each["job"], each["other"]) for each in host_facts.overlaps(jobs, NOON)] == expected


def test_the_command_on_this_machine_and_a_dead_host(site):  # noqa: F811
    ended = start(site, "doctor", "--json")
    document = json.loads(ended.stdout)
    assert ended.returncode == document["exit_code"] == 1, ended.stderr
    assert list(document["result"]) == list(json_keys.RESULTS["doctor"])
    codes = {(each["host"], each["code"]) for each in document["result"]["findings"]}
    assert ("dead", "unreachable") in codes and ("here", "unreachable") not in codes
    assert "refused" in next(each["why"] for each in document["result"]["findings"] if each["host"] == "dead")
