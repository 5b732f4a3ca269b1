"""Child processes: every status counts, nobody is left behind, nothing of the caller's environment gets in."""

import fcntl
import os
import signal
import subprocess
import sys
import time

import conftest
import pytest
from sauvegarde.errors import SauvegardeError, TimedOut
from sauvegarde.system import process


def shell(line, **options):
    return process.start(["/bin/sh", "-c", line], **options)


def test_output_and_input():
    result = process.run(["/bin/cat"], stdin=b"\xffbytes")
    assert (result.status, result.stdout, result.stderr) == (0, b"\xffbytes", "")


def test_the_callers_environment_stays_outside(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "canary")
    assert "canary" not in process.run(["/usr/bin/env"]).text
    assert process.run(["/usr/bin/env"], env={"A": "b"}).text == "A=b\n"


def test_a_failure_keeps_the_programs_own_words():
    with pytest.raises(SauvegardeError, match="It failed") as caught:
        process.run(["/bin/sh", "-c", "echo 'ça alors' >&2; exit 3"], what="It failed.")
    assert "status 3" in caught.value.why
    assert "ça alors" in caught.value.why


def test_an_end_by_signal_is_a_failure():
    with pytest.raises(SauvegardeError, match="SIGKILL"):
        process.run(["/bin/sh", "-c", "kill -9 $$"])


def test_much_on_standard_error_keeps_the_end():
    with pytest.raises(SauvegardeError) as caught:
        process.run(["/bin/sh", "-c", "yes wrong | head -c 3000000 >&2; echo last >&2; exit 1"])
    assert caught.value.why.endswith("last")
    assert len(caught.value.why) < 100000


def test_a_program_that_is_not_there():
    with pytest.raises(SauvegardeError, match="could not be started"):
        process.run(["/nonexistent/program"], group=True)
    with pytest.raises(SauvegardeError, match="not installed"):
        process.find("no-such-program")


@pytest.mark.parametrize("group", [False, True])
def test_timeout(group):
    start = time.monotonic()
    with pytest.raises(SauvegardeError, match="did not end within") as caught:
        process.run(["/bin/sleep", "600"], timeout=0.3, group=group)
    assert caught.value.exit_code == TimedOut.exit_code
    assert time.monotonic() - start < 300


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - /proc
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_group_ends_as_a_whole(tmp_path):
    note = tmp_path / "pid"
    # A hook that ignores the polite signal and leaves a child behind.
    line = f"trap '' TERM; sleep 600 & echo $! > {note}; wait"
    for timeout in (0.5, 5, 50):  # a busy machine may need longer to start it
        with pytest.raises(SauvegardeError):
            process.run(["/bin/sh", "-c", line], timeout=timeout, group=True)
        if note.exists() and note.read_text():
            break
    child = int(note.read_text())
    conftest.wait_until(lambda: not alive(child))


def test_children_die_with_a_killed_runner(tmp_path):
    if not process._with_parent():
        pytest.skip("this util-linux's setpriv has no --pdeathsig (before 2.33)")
    note = tmp_path / "pid"
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from sauvegarde.system import process;"
        "p = process.start(['/bin/sleep', '600']); open(sys.argv[2], 'w').write(str(p.pid)); p.wait()"
    )
    runner = subprocess.Popen([sys.executable, "-c", script, conftest.ENGINE, str(note)])
    conftest.wait_until(lambda: note.exists() and note.read_text())
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    child = int(note.read_text())
    conftest.wait_until(lambda: not alive(child))


def test_a_lock_lives_as_long_as_a_child(tmp_path):
    path = tmp_path / "lock"
    descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    process.inherit(descriptor)
    child = process.start(["/bin/sleep", "600"])  # not through a shell, which may keep it as a child of its own
    process.disinherit(descriptor)
    os.close(descriptor)
    again = os.open(str(path), os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    child.kill()
    conftest.wait_until(lambda: taken(again))
    os.close(again)


def taken(descriptor):
    """Whether the lock could be had."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_what_failed_can_be_written_down_whatever_it_was_given():
    with pytest.raises(SauvegardeError) as error:
        process.run(["/bin/false", os.fsdecode(b"\xe9t\xe9")])
    assert "\ufffdt\ufffd" in str(error.value.why.encode("utf-8"), "utf-8")
