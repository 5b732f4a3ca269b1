"""A run that somebody far away waits for: it goes on by itself, and its end is told once."""

import os
import signal
import sys
import time

import conftest
import pytest
from sauvegarde.backup import detached_job
from sauvegarde.errors import OK, SauvegardeError
from sauvegarde.report import job_state
from sauvegarde.system import engine_files, installation
from test_job_run import Host, slow


@pytest.fixture()
def host(tmp_path):
    tmp_path.chmod(0o755)
    result = Host(tmp_path)
    installation.install(tmp_path / "engine", tmp_path / "sauvegarde", engine_files.engine_files(), "")
    return result


def start(host):
    options = {"configuration": str(host.folder / "etc"), "python": sys.executable}
    return detached_job.start("demo", str(host.folder / "sauvegarde"), **options)["token"]


def wait(host, token):
    steps = set()
    until = time.monotonic() + 300
    while time.monotonic() < until:
        report = detached_job.ask("demo", token, str(host.folder / "etc"))
        if not report["running"]:
            return report, steps
        steps.add(report["step"])
        time.sleep(0.05)
    raise AssertionError("it did not end")


def wait_for_hook(host, token):
    """Wait until the answer says that the run is at its hook before."""
    conftest.wait_until(lambda: detached_job.ask("demo", token, str(host.folder / "etc"))["step"] == "before")


def test_started_asked_and_ended(host):
    end = host.folder / "end"
    host.configure(before=[["sh", "-c", f"until [ -e {end} ]; do sleep 0.05; done"]])
    token = start(host)
    wait_for_hook(host, token)
    end.touch()
    report, _ = wait(host, token)
    assert report["exit_code"] == 0 and report["archive"]["id"] == host.labels()[0]
    assert not list(host.state.glob("ended-*"))


def test_a_failure_is_reported_in_the_runs_own_words(host):
    host.configure(path="/nowhere")
    with pytest.raises(SauvegardeError) as caught:
        wait(host, start(host))
    assert caught.value.exit_code == SauvegardeError.exit_code and "/nowhere" in caught.value.what


def test_a_failure_that_may_pass_is_a_warning(host):
    host.configure(path="/nowhere", allow_failure=True)
    report, _ = wait(host, start(host))
    assert (report["exit_code"], report["archive"]) == (SauvegardeError.exit_code, None)
    assert "which it may" in report["warnings_of_the_run"][0] and "/nowhere" in report["warnings_of_the_run"][0]


def test_one_that_may_fail_and_runs_already_is_a_warning(host):
    """What the other run made is not this one's."""
    host.configure(before=[slow()], allow_failure=True)
    assert start(host)
    conftest.wait_until(lambda: job_state.read(host.state / "progress.json").get("step") == "before")
    report, _ = wait(host, start(host))
    os.kill(job_state.read(host.state / "progress.json")["pid"], signal.SIGTERM)
    assert (report["exit_code"], report["archive"]) == (OK, None) and "the journal has it" in report[
        "warnings_of_the_run"
    ][0]
    conftest.wait_until(lambda: host.recorded_state())


def test_a_killed_run_is_reported(host):
    host.configure(before=[slow()])
    token = start(host)
    wait_for_hook(host, token)
    os.kill(int(token.split("-")[1]), signal.SIGKILL)
    os.kill(job_state.read(host.state / "progress.json")["pid"], signal.SIGTERM)
    with pytest.raises(SauvegardeError) as caught:
        wait(host, token)
    assert "was killed" in caught.value.what


def test_unknown_jobs_and_hosts_without_an_engine(host):
    with pytest.raises(SauvegardeError) as caught:
        detached_job.start("nope", str(host.folder / "sauvegarde"), str(host.folder / "etc"))
    assert "no job named nope" in caught.value.what
    with pytest.raises(SauvegardeError) as caught:
        detached_job.start("demo", "/nowhere/run", str(host.folder / "etc"))
    assert "no engine" in caught.value.what
    with pytest.raises(SauvegardeError):
        detached_job.ask("demo", "../../etc/passwd", str(host.folder / "etc"))
