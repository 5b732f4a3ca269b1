"""Jobs run by a playbook, and the list of all hosts and repositories."""

import json
import subprocess

from tests_support.hosts import ROOT, inventory, play


def command(*words):
    """The exit code and the document of a command of the controller."""
    line = [ROOT / "sauvegarde", *words, "-i", inventory(), "--json"]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def test_jobs_run_now_with_progress(everyone):
    before = {name: one.labels() for name, one in everyone.items()}
    done = play(playbook="playbooks/backup.yml", variables={"backup_run": ["elpaso"]})
    assert done.code == 0, done.output
    assert set(done.changed()) == set(everyone) and set(done.changed().values()) == {1}
    assert "not the controller's" not in done.text, "the engine on the hosts is this one"
    for name, one in everyone.items():
        assert f"{name}: elpaso: " in done.output, "progress is shown"
        assert one.labels()[-1] > before[name][-1]
        assert (f"{name}: elpaso: restic 0.11.0 does not compress" in done.text) == (name in ("db96", "db13"))


def test_the_list_as_a_table_and_as_json(everyone, tmp_path):
    file = tmp_path / "list.json"
    done = play(playbook="playbooks/list.yml", variables={"list_file": str(file)})
    assert done.code == 0, done.output
    entries = json.loads(file.read_text())
    for name, one in everyone.items():
        collected = {
            where: [
                line["id"] for line in entries if (line["host"], line["job"], line["where"]) == (name, "elpaso", where)
            ]
            for where in ("local", "vault")
        }
        assert collected == {"local": one.labels(), "vault": one.offsite()}, name
        assert one.labels()[-1] in done.output
    assert all(line["verified"] and line["stored_bytes"] > 0 and line["source"] for line in entries), entries
    assert "AGE" in done.output and "99 %" in done.output


def test_the_list_has_what_a_dead_host_left(everyone):
    """Its repository's own host has it."""
    done = play("--limit=archive", playbook="playbooks/list.yml", variables={"list_format": "json"})
    assert done.code == 0, done.output
    assert all(label in done.output for label in everyone["db15"].offsite())


def test_the_status_names_the_jobs_that_need_attention(everyone):
    everyone["db15"].root("mv /var/lib/sauvegarde/globals/state.json /root/state.json")
    try:
        done = play(playbook="playbooks/status.yml")
        code, status = command("status")
    finally:
        everyone["db15"].root("mv /root/state.json /var/lib/sauvegarde/globals/state.json")
    assert done.code != 0 and "db15 globals (" in done.output, done.output
    jobs = {(job["host"], job["job"]): job["is_well"] for job in status["result"]["jobs"]}
    assert code == 1 and not jobs["db15", "globals"] and all(jobs[name, "elpaso"] for name in everyone), jobs
    assert "canary-Zephyr" not in json.dumps(status)


def test_the_commands_that_read(everyone):
    code, listed = command("list")
    assert code in (0, 3) and not listed["result"]["unread"], listed
    archives = {(entry["host"], entry["job"], entry["id"], entry["where"]) for entry in listed["result"]["archives"]}
    for name, one in everyone.items():
        assert {(name, "elpaso", one.labels()[-1], where) for where in ("local", "vault")} <= archives, name
    assert "canary-Zephyr" not in json.dumps(listed)


def test_the_doctor_names_the_jobs_that_their_host_lacks():
    code, document = command("doctor")
    collected = {(each["host"], each["code"], each["name"]) for each in document["result"]["findings"]}
    assert code == 1 and ("db15", "job-missing", "failing") in collected, collected
    assert "canary-Zephyr" not in json.dumps(document)
