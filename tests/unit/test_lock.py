"""The lock of a job: one at a time, held by children too, never stale."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sauvegarde.errors import Locked, SauvegardeError
from sauvegarde.system import lock, process

MODULES = str(Path(__file__).resolve().parents[2] / "module_utils")
HOLDER = f"""
import sys, time
sys.path.insert(0, {MODULES!r})
from sauvegarde.system import lock, process
with lock.hold(sys.argv[1], "The job x"):
    child = process.start(["sleep", "600"], group=True) if "child" in sys.argv else None
    print(child.pid if child else 0, flush=True)
    time.sleep(600)
"""


def holder(path, *words):
    started = subprocess.Popen([sys.executable, "-c", HOLDER, str(path), *words], stdout=subprocess.PIPE)
    return started, int(started.stdout.readline())


def free(path):
    try:
        with lock.hold(path, "The job x"):
            return True
    except SauvegardeError as error:
        assert error.exit_code == Locked.exit_code
        return False


def test_two_at_once(tmp_path):
    path = tmp_path / "lock"
    one, _ = holder(path)
    with pytest.raises(SauvegardeError) as caught, lock.hold(path, "The job x"):
        pass
    assert caught.value.exit_code == Locked.exit_code and str(one.pid) in caught.value.why
    one.kill()
    one.wait()
    assert free(path), "a killed run leaves no lock"


def test_a_child_that_outlives_its_parent_keeps_it(tmp_path):
    path = tmp_path / "lock"
    one, child = holder(path, "child")
    one.kill()
    one.wait()
    assert not free(path)
    os.kill(child, signal.SIGKILL)
    until = time.monotonic() + 300
    while not free(path) and time.monotonic() < until:
        time.sleep(0.05)
    assert free(path)


def test_a_child_does_not_inherit_it_after_the_block(tmp_path):
    path = tmp_path / "lock"
    with lock.hold(path, "The job x"):
        pass
    with process.start(["sleep", "60"]):
        assert free(path)


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(SauvegardeError, match="cannot take its lock"), lock.hold(tmp_path / "lock", "The job x"):
        pass
    assert (tmp_path / "target").read_text() == "precious"
