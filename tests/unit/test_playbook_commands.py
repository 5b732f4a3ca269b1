"""The commands that run playbooks: their options, what they refuse, and what they say after Ctrl-C."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sauvegarde_cli import playbook_options, progress, repository_access, restore_command, restore_questions
from sauvegarde_cli.__main__ import parser
from sauvegarde_cli.command_failed import CommandFailed
from sauvegarde_cli.commands import backup, cleanup, rollback
from sauvegarde_cli.on_call import Settings
from sauvegarde_cli.playbook_run import Outcome
from sauvegarde_cli.system import ROOT

PLAYBOOKS = ("backup", "cleanup", "fixtures", "migrate", "policy", "restore", "rollback")
CANARY = "zorgolim-of-the-repository"
SETTINGS = Settings(inventories=(f"{ROOT}/inventories/demo",))


def tasks(name):
    """The names of a playbook's tasks."""
    return set(re.findall(r"^ +- name: (.*)$", (ROOT / "playbooks" / f"{name}.yml").read_text(), re.MULTILINE))


def start(*words, stdin=subprocess.DEVNULL, environ=None):
    """Run the command as a program, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "sauvegarde_cli", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "SAUVEGARDE_ROOT": str(ROOT), **(environ or {})},
        stdin=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_tasks_that_results_are_read_of_are_those_of_the_playbooks():
    assert backup.TASK in tasks("backup")
    assert cleanup.TASK in tasks("cleanup")
    assert {rollback.TASK, "Show the result"} <= tasks("rollback")
    assert {restore_command.PLAN, restore_command.LOAD, restore_command.SWAP} <= tasks("restore")


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_every_option_that_is_no_secret_can_be_given(name):
    if name == "backup":  # by its words
        return
    parsed = vars(parser().parse_args([name]))
    for variable, option in yaml.safe_load((ROOT / f"playbooks/options/{name}.yml").read_text())["options"].items():
        assert (variable in parsed) != bool(option.get("no_log")), variable


def test_options_become_variables_and_words_again():
    words = ["restore", "elpaso", "--target", "db", "--repository", "vault", "--accept-losses", "VIEW v"]
    arguments = parser().parse_args([*words, "--connection", '{"port": 5433}'])
    values = playbook_options.variables(arguments, "restore")
    assert values["restore_database"] == "elpaso" and values["restore_accept_losses"] == ["VIEW v"]
    assert values["restore_connection"] == {"port": 5433}
    line = restore_command.command_line(values, SETTINGS)
    assert line.startswith("./sauvegarde restore elpaso --target db --repository vault ") and line.endswith("demo")
    assert "--accept-losses 'VIEW v'" in line and "5433" in line


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["restore"], "DATABASE and --target"),
        (["restore", "elpaso"], "--target"),
        (["plan", "elpaso", "--target", "db"], "--source-host"),
        (["restore", "elpaso", "--target", "db", "--path", "/a", "--file", "/b"], "--source-host"),
        (["restore", "elpaso", "--target", "db", "--path", "/a"], "--confirm elpaso@db"),
        (["restore", "elpaso", "--target", "db", "--path", "/a", "--confirm", "elpaso@other"], "--confirm elpaso@db"),
        (["rollback", "elpaso", "--target", "db"], "--confirm elpaso@db"),
        (["rollback", "/srv/site/cap.sqlite3", "--target", "dev"], "--confirm cap.sqlite3@dev"),
        (["cleanup", "elpaso"], "--target"),
        (["nosuch"], "nosuch"),
    ],
)
def test_without_a_terminal_it_says_which_option_is_missing(words, missing):
    more = ["-i", "localhost,"] if words != ["nosuch"] else []
    ended = start(*words, *more)
    assert ended.returncode == 2 and missing in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("steps", "line", "words"),
    [
        ([restore_command.PLAN], "", "untouched, and nothing runs"),
        ([restore_command.PLAN, restore_command.LOAD], "", "If the load had begun on the host, it goes on"),
        ([restore_command.PLAN, restore_command.LOAD], "db: elpaso: data", "The load goes on on the host"),
        ([restore_command.LOAD, "A check of the site's"], "", "waits on the host for its swap"),
        ([restore_command.PLAN, restore_command.LOAD, restore_command.SWAP], "", "happened or it did not"),
    ],
)
def test_after_ctrl_c_the_state_is_reported(steps, line, words):
    outcome = Outcome("restore.yml", steps=[{"task": step, "seconds": 0} for step in steps], line=line)
    assert words in restore_command.state_after_stop(outcome)


def test_json_is_one_document_with_the_error_and_the_exit_code():
    ended = start("cleanup", "elpaso", "--target", "nosuch", "-i", "localhost,", "--json")
    document = json.loads(ended.stdout)
    assert ended.returncode == document["exit_code"] == 1
    assert "restore_target" in document["error"]["what"] and document["log"].endswith("/log")
    reported = start("report", "last", "--json")
    assert reported.returncode == 0 and "run" in json.loads(reported.stdout)


def entry(identifier, where="local", host="prod", source="elpaso (PostgreSQL 15.8)", **values):
    """An archive as the list has it."""
    values = {"kind": "pg_dump", "verified": True, "bytes": 2**20, "lacks": [], **values}
    return {"id": identifier, "where": where, "host": host, "source": source, **values}


def test_archives_are_offered_newest_first_and_in_their_nearest_place(monkeypatch):
    early, late = "20261124T030000Z", "20261125T030000Z"
    entries = [
        entry(early, "vault"),
        entry(early),
        entry(late, "vault"),
        entry(late, "vault", "other"),
        entry("20261126T030000Z", verified=False),
        entry("20261126T030000Z", kind="globals"),
    ]
    offered = restore_questions.archives(entries)
    assert [(each.host, each.id, each.where) for each in offered] == [
        ("prod", late, "vault"),
        ("other", late, "vault"),
        ("prod", early, "local"),
    ]
    answers = iter(["nosuch", "9", "1", early])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    chosen = restore_questions.choose_archive(offered, "elpaso")
    assert chosen.source == {"restore_source_host": "prod", "restore_point": early}
    assert offered[0].source == {"restore_repository": "vault", "restore_of_host": "prod", "restore_point": late}
    assert "loses what was written after 2026-11-25 03:00:00 UTC" in restore_questions.about(offered[0])
    with pytest.raises(CommandFailed) as refusal:
        restore_questions.choose_archive(offered, "nosuch")
    assert "elpaso" in refusal.value.why and "list" in refusal.value.fix


def test_plain_output_names_only_tasks_that_take_long(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.Progress() as shown:
        for task in ("One", "Two"):
            shown.show("task", task)
            clock[0] += 1
        shown.show("task", "Three")
        for _ in range(30):
            clock[0] += 1
            shown.tick()
        shown.show("line", "db: half of it")
    lines = capsys.readouterr().out.split("\n")
    assert [line.strip() for line in lines] == ["Three", "Three, 24 s", "db: half of it", ""]


@pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
def test_a_repository_is_opened_by_its_address_and_its_password_stays_secret(tmp_path):
    environ = {**os.environ, "RESTIC_PASSWORD": "right-one"}
    subprocess.run(["restic", "-q", "-r", tmp_path / "vault", "init"], env=environ, check=True)
    words = ["restore", "--repository", str(tmp_path / "vault"), "-e", "ansible_become=false"]
    words += ["-e", f"ansible_python_interpreter={sys.executable}", "--directory", str(tmp_path / "runs")]
    refused = start(*words)
    assert refused.returncode == 2 and "--repository-password-file" in refused.stderr
    (tmp_path / "password").write_text(f"{CANARY}\n")
    (tmp_path / "runs").mkdir(mode=0o700)
    wrong = start("plan", "elpaso", *words[1:], "--repository-password-file", str(tmp_path / "password"), "--json")
    document = json.loads(wrong.stdout)
    assert wrong.returncode == document["exit_code"] == 12, wrong.stdout + wrong.stderr
    log = Path(document["log"])
    written = [path for folder in (log.parent, tmp_path / "runs") for path in folder.rglob("*") if path.is_file()]
    assert log in written and not [path for path in written if CANARY in path.read_text(errors="replace")]
    assert CANARY not in wrong.stdout + wrong.stderr
    listed = start(*words, environ={"RESTIC_PASSWORD": "right-one"})
    assert listed.returncode == 2 and "The repository has:" in listed.stderr


def test_a_repository_over_sftp_needs_a_known_host(monkeypatch):
    answer = subprocess.CompletedProcess([], 0, stdout="# Host vault found\nvault ssh-ed25519 AAAA\n")
    asked = []
    monkeypatch.setattr(repository_access.subprocess, "run", lambda words, **_: asked.append(words[-1]) or answer)
    for address, name in (
        ("sftp:backup@vault:/srv/restic", "vault"),
        ("sftp:vault:restic", "vault"),
        ("sftp://backup@vault:2222//srv/restic", "[vault]:2222"),
        ("sftp://vault/restic", "vault"),
    ):
        assert repository_access.known_hosts(address) == "vault ssh-ed25519 AAAA\n"
        assert asked.pop() == name, address
    assert repository_access.known_hosts("s3:s3.example.org/bucket") == ""
    answer.stdout = ""
    with pytest.raises(CommandFailed) as refusal:
        repository_access.known_hosts("sftp:backup@vault:/srv/restic")
    assert "vault" in refusal.value.what and "--repository-known-hosts" in refusal.value.fix


def test_a_wrong_name_typed_on_a_terminal_is_refused():
    master, slave = pty.openpty()
    words = [sys.executable, "-m", "sauvegarde_cli", "rollback", "elpaso", "--target", "db", "-i", "localhost,"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "SAUVEGARDE_ROOT": str(ROOT)}
    with subprocess.Popen(
        words, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True
    ) as running:
        os.close(slave)
        os.write(master, b"elpaso@elsewhere\n")
        shown = b""
        try:
            while piece := os.read(master, 4096):
                shown += piece
        except OSError:  # the terminal's other side has ended
            pass
        code = running.wait()
    os.close(master)
    assert code == 2
    assert b"type elpaso@db" in shown and b"Nothing was changed" in shown
