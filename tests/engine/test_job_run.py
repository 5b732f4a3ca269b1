"""The job runner as cron starts it: its order, its exit codes, and what is left when it is killed."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import conftest
import pytest
from sauvegarde import catalog, config
from sauvegarde.archive import archive_reader, ids, retention
from sauvegarde.backup import maintenance
from sauvegarde.errors import OK, Damaged, Locked, Partial, SauvegardeError, TimedOut
from sauvegarde.report import job_state
from sauvegarde.system import lock

ENGINE = os.environ.get("SAUVEGARDE_ENGINE") or str(Path(__file__).resolve().parents[2] / "module_utils")
LAUNCHER = f"import sys; sys.path.insert(0, {ENGINE!r}); from sauvegarde.cli import main; sys.exit(main())"
USER = "root" if os.geteuid() == 0 else __import__("pwd").getpwuid(os.geteuid()).pw_name


class Host:
    """A host's folders with one job: the copy of a SQLite database."""

    def __init__(self, folder, job="demo"):
        self.folder, self.job = folder, job
        self.root, self.state, self.metrics = folder / "archives", folder / "state", folder / "metrics"
        for each in (self.root, self.state, self.metrics, folder / "etc" / "jobs", folder / "etc" / "pings"):
            each.mkdir(parents=True, mode=0o755)
        self.directory = self.root / job
        self.directory.mkdir(mode=0o700)
        self.database = folder / "-o$(id)'é \"% db.sqlite3"  # fault 33
        with sqlite3.connect(str(self.database)) as connection:
            connection.execute("CREATE TABLE offer (id integer PRIMARY KEY, text text)")
            connection.executemany("INSERT INTO offer (text) VALUES (?)", [("é" * 2000,) for _ in range(500)])
        connection.close()
        self.configure()

    def configure(self, **changes):
        job = dict(
            {
                "name": self.job,
                "kind": "sqlite",
                "user": USER,
                "host": "db1",
                "root": str(self.root),
                "state": str(self.state),
                "metrics": str(self.metrics),
                "path": str(self.database),
            },
            **changes,
        )
        (self.folder / "etc" / "jobs" / f"{self.job}.json").write_text(json.dumps(job))
        return job

    def argv(self, *words):
        return [sys.executable, "-I", "-c", LAUNCHER, "--configuration", str(self.folder / "etc"), *words]

    def start(self, *words):
        return subprocess.Popen(
            self.argv(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
        )

    def run(self, *words):
        process = self.start(*(words or ("run", self.job)))
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def recorded_state(self):
        return job_state.read(self.state / "state.json")

    def samples(self):
        text = (self.metrics / f"sauvegarde_{self.job}.prom").read_text()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        return {line.split("{")[0].replace("sauvegarde_backup_", ""): float(line.rsplit(" ", 1)[1]) for line in lines}

    def labels(self):
        return ids.list_ids(self.directory)


@pytest.fixture()
def host(tmp_path):
    tmp_path.chmod(0o755)
    return Host(tmp_path)


def slow(seconds=600):
    return [sys.executable, "-c", f"import time; time.sleep({seconds})"]


def test_a_good_run_says_nothing_and_leaves_everything(host):
    os.umask(0o022)
    assert host.run() == (OK, "", "")
    (label,) = host.labels()
    report = host.recorded_state()
    assert report["last_success"]["id"] == label and report["last_run"]["exit_code"] == OK and report["available"] == 1
    samples = host.samples()
    assert samples["last_run_success"] == 1 and samples["available"] == 1
    assert samples["last_success_timestamp_seconds"] == pytest.approx(time.time(), abs=600)
    assert not (host.state / "progress.json").exists()
    for folder, _, names in os.walk(str(host.directory)):  # fault 20
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
        for name in names:
            assert stat.S_IMODE((Path(folder) / name).stat().st_mode) == 0o600


def test_a_verbose_run_prints_what_it_does(host):
    code, out, err = host.run("--verbose", "run", "demo")
    assert (code, out) == (OK, "") and "DEBUG   worker " in err and "INFO    job=demo step=run status=ok" in err
    assert any("started: " in line and "zstd" in line for line in err.splitlines())


def test_a_failed_run_keeps_what_there_was(host):
    host.run()
    good = host.recorded_state()
    before = host.labels()
    host.configure(path=str(host.folder / "nowhere.sqlite3"))
    code, out, err = host.run()
    assert (code, out) == (SauvegardeError.exit_code, "") and "nowhere.sqlite3" in err and "demo on db1 failed" in err
    assert host.labels() == before and host.recorded_state()["last_success"] == good["last_success"]
    samples = host.samples()
    assert samples["last_run_success"] == 0
    assert samples["last_success_timestamp_seconds"] == pytest.approx(good["last_success"]["ended"], abs=0.01)


def test_a_job_that_may_fail_is_silent_but_not_forgotten(host):
    host.configure(path=str(host.folder / "nowhere.sqlite3"), allow_failure=True)
    assert host.run() == (OK, "", "")
    assert (
        host.recorded_state()["last_run"]["exit_code"] == SauvegardeError.exit_code
        and host.samples()["last_run_success"] == 0
    )


def test_a_state_that_cannot_be_written_hides_nothing(host):
    with conftest.small_disk(host.folder / "small", "1m") as disk:
        folder = disk / "state"
        folder.mkdir()
        host.configure(state=str(folder))
        with (folder / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
        code, _, err = host.run()
        (label,) = host.labels()
        assert code == Partial.exit_code and "state cannot be written" in err and f"The archive {label} is good" in err
        assert "No space left" in err and host.samples()["last_run_exit_code"] == Partial.exit_code
        code, out, err = host.run("verify", "--json", "demo")
        assert code == Partial.exit_code and "state cannot be written" in err and "Traceback" not in err
        assert [line["verified"] for line in json.loads(out)] == [True] and host.samples()["last_verify_success"] == 1
        next((host.directory / label).glob("*.zst")).write_bytes(b"")
        code, _, err = host.run("verify", "demo")
        assert code == Damaged.exit_code and "Set aside as" in err and "state cannot be written" in err
        (folder / "filling").unlink()
        assert host.run() == (OK, "", "")


def test_a_state_folder_that_is_missing_is_reported(host):
    host.configure(state=str(host.folder / "gone"))
    code, _, err = host.run()
    assert code == SauvegardeError.exit_code and "cannot take its lock" in err and "Traceback" not in err


def test_hooks_are_reported_and_their_failures_are_distinguished(host):
    note = host.folder / "note"
    record = [
        sys.executable,
        "-c",
        f"import os; open({str(note)!r}, 'a').write(os.environ.get('SAUVEGARDE_RESULT', 'first')"
        " + ' ' + os.environ.get('SAUVEGARDE_ARCHIVE', '') + '\\n')",
    ]
    host.configure(before=[record], after=[record])
    assert host.run()[0] == OK
    assert note.read_text() == f"first \nsuccess {host.directory / host.labels()[0]}\n"
    host.configure(before=[["/bin/false"]], after=[record])
    code, _, err = host.run()
    assert code == SauvegardeError.exit_code and "hook before" in err and "/bin/false" in err
    assert note.read_text().endswith("\nfailure \n") and len(host.labels()) == 1
    host.configure(after=[["/bin/false"]])
    code, _, err = host.run()
    assert code == Partial.exit_code and "hook after" in err and "is good" in err
    assert len(host.labels()) == 2 and host.recorded_state()["last_success"]["id"] == host.labels()[1]


@pytest.mark.parametrize(
    "victim, number", [("waiting", signal.SIGTERM), ("worker", signal.SIGTERM), ("worker", signal.SIGKILL)]
)
def test_what_was_published_is_reported_whatever_ends_the_run(host, victim, number):
    host.configure(after=[slow()])
    process = host.start("run", "demo")
    conftest.wait_until(lambda: job_state.read(host.state / "progress.json").get("step") == "after")
    (pid,) = [process.pid] if victim == "waiting" else _children(process.pid)
    os.kill(pid, number)
    _, err = process.communicate(timeout=300)
    (label,) = host.labels()
    assert process.returncode == Partial.exit_code and f"The archive {label} is good" in err, err
    assert ("was stopped" if number == signal.SIGTERM else "was killed") in err
    report = host.recorded_state()
    assert (report["last_run"]["exit_code"], report["last_run"]["id"]) == (Partial.exit_code, label)
    assert report["last_success"]["id"] == label and report["last_success"]["stored_bytes"] > 0
    assert host.samples()["last_success_timestamp_seconds"] == pytest.approx(report["last_run"]["ended"], abs=0.01)


def test_a_repository_that_cannot_be_used_makes_no_archive_a_failure(host):
    """There is no such repository, and on many machines no restic."""
    host.configure(offsite=["vault"])
    code, _, err = host.run()
    assert code == Partial.exit_code and f"The archive {host.labels()[0]} is good" in err and "vault" in err
    assert host.recorded_state()["last_success"]["id"] == host.labels()[0]


def test_a_timeout_ends_everything_and_the_hooks_children(host):
    child, note = host.folder / "child", host.folder / "note"
    stop = ["/bin/sh", "-c", f"sleep 600 & echo $! > {child}; wait"]
    undo = ["/bin/sh", "-c", f"echo $SAUVEGARDE_RESULT >> {note}"]
    for seconds in (3, 30, 240):  # a busy machine may need longer to come to the hook
        note.write_text("")
        host.configure(before=[stop], after=[undo], timeout=seconds)
        code, _, err = host.run()
        assert code == TimedOut.exit_code and f"did not end within {seconds} seconds" in err
        if child.exists() and child.read_text():
            break
    assert host.labels() == [] and host.recorded_state()["last_run"]["exit_code"] == TimedOut.exit_code
    conftest.wait_until(lambda: _ended(int(child.read_text())))
    assert note.read_text() == "failure\n", "what the hook before has stopped is started again"


def test_two_at_once(host):
    """Fault 14; the second changes nothing that the first has said."""
    undo = ["/bin/sh", "-c", f"echo $SAUVEGARDE_RESULT >> {host.folder / 'note'}"]
    host.configure(before=[slow()], after=[undo])
    first = host.start("run", "demo")
    conftest.wait_until((host.state / "progress.json").exists)
    code, _, err = host.run()
    assert code == Locked.exit_code and "is running already" in err and str(first.pid) in err
    host.configure(allow_failure=True)
    assert host.run() == (OK, "", ""), "one that may fail may also find itself running"
    assert host.recorded_state() == {}
    first.send_signal(signal.SIGTERM)
    assert first.wait(300) == 130 and (host.folder / "note").read_text() == "failure\n"
    assert host.recorded_state()["last_run"]["exit_code"] == 130
    host.configure()
    assert host.run()[0] == OK, "fault 15: nothing is left of the lock"


def test_a_hook_that_outlives_a_killed_run_keeps_the_lock(host):
    begun, end = host.folder / "begun", host.folder / "end"
    host.configure(before=[["sh", "-c", f"touch {begun}; until [ -e {end} ]; do sleep 0.05; done"]])
    first = host.start("run", "demo")
    conftest.wait_until(begun.exists)
    first.kill()
    first.wait()
    host.configure()
    assert host.run()[0] == Locked.exit_code
    end.touch()
    conftest.wait_until(lambda: host.run()[0] == OK)


def test_fifty_kills(host):
    """Fault 9: at any moment, of either process or of both, the archives that there are stay whole."""
    chance = random.Random(9)
    assert host.run()[0] == OK
    duration = host.recorded_state()["last_run"]["seconds"] + 0.2
    killed = 0
    host.configure(retention={"last": 3})
    for _ in range(50):
        newest = host.labels()[-1]
        process = host.start("run", "demo")
        time.sleep(chance.random() * duration)
        victims = [process.pid] if chance.random() < 0.5 else _children(process.pid)
        for victim in victims:
            try:
                os.kill(victim, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
        process.communicate(timeout=300)
        # Every name that is there is a whole archive; the lock is free as soon as the last process is gone.
        for label in host.labels():
            archive_reader.verify(host.directory / label)
        assert host.labels()
        if process.returncode >= 0:  # whoever waited for the worker knows what it published
            published = host.labels()[-1] > newest
            assert published == (process.returncode in (OK, Partial.exit_code))
            assert published == (host.recorded_state()["last_success"]["id"] > newest)
        _wait_for_lock(host)
    assert killed > 25
    # Killed while they wrote, which chance seldom hits; and what nobody asked for.
    writers = [host.state / ".progress.json.1", host.state / ".state.json.1", host.metrics / ".sauvegarde_demo.prom.1"]
    ends = [host.state / "ended-1.0-1.json", host.state / ".ended-1.0-1.json.1"]
    for each in writers + ends:
        each.write_text("{")
    assert host.run() == (OK, "", "")
    assert all(each.exists() for each in ends)
    for each in ends:
        os.utime(str(each), (0, 0))
    assert host.run() == (OK, "", "")
    names = sorted(each.name for each in host.directory.iterdir())
    assert names == host.labels() and len(names) <= 3, "no debris after the next run"
    assert sorted(each.name for each in host.state.iterdir()) == ["lock", "state.json"]
    assert [each.name for each in host.metrics.iterdir()] == ["sauvegarde_demo.prom"]


def _ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"  # where nobody reaps orphans
    except (FileNotFoundError, ProcessLookupError):
        return True


def _children(pid):
    result = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in result.read_text().split()] if result.exists() else []


def _wait_for_lock(host):
    def free():
        try:
            with lock.hold(host.state / "lock", "x"):
                return True
        except SauvegardeError:
            return False

    conftest.wait_until(free)


def test_a_worker_that_is_killed_is_reported(host):
    host.configure(before=[slow()])
    process = host.start("run", "demo")
    conftest.wait_until(lambda: job_state.read(host.state / "progress.json").get("step") == "before")
    (worker,) = _children(process.pid)
    os.kill(worker, signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == SauvegardeError.exit_code and "was killed" in err and "signal 9" in err
    assert host.recorded_state()["last_run"]["exit_code"] == SauvegardeError.exit_code


def test_a_week_of_failures_then_retention(host):
    """Fault 4, with the runner: failures remove nothing, and the success after them keeps the last good one."""
    job = host.configure(retention={"last": 1, "minimum": 2})
    assert host.run()[0] == OK
    first = host.labels()
    host.configure(path="/nowhere", retention={"last": 1, "minimum": 2})
    for _ in range(7):
        assert host.run()[0] == SauvegardeError.exit_code
    assert host.labels() == first
    host.configure(retention={"last": 1, "minimum": 2})
    assert host.run()[0] == OK and len(host.labels()) == 2 and host.labels()[0] == first[0]
    assert [decision.keep for decision in maintenance.prune(config.Job.from_values(job), dry_run=True).decisions] == [
        True,
        True,
    ]


def test_prune_says_what_would_go_and_why(host):
    host.configure(retention={"last": 5})
    for _ in range(3):
        assert host.run()[0] == OK
    host.configure(retention={"last": 1})
    code, out, _ = host.run("prune", "--dry-run", "demo")
    assert code == OK and out.count("would remove") == 2 and "no rule keeps it" in out and "last 1 of 1" in out
    assert len(host.labels()) == 3
    assert host.run("prune", "demo")[0] == OK and len(host.labels()) == 1


@pytest.mark.parametrize("what", ["data", "manifest", "empty", "edited"])
def test_no_pruning_beside_damage(host, what):
    """Faults 17 and 23: refused, then set aside by name by `verify`, then retention goes on."""
    host.configure(retention={"last": 9})
    for _ in range(3):
        assert host.run()[0] == OK
    victim = host.directory / host.labels()[0]
    manifest = victim / "manifest.json"
    if what == "data":
        next(victim.glob("*.zst")).unlink()
    elif what == "manifest":
        manifest.unlink()
    elif what == "empty":
        manifest.write_text("")
    else:
        manifest.write_text(manifest.read_text().replace('"db1"', '"db2"').replace('"host": "', '"host": "x'))
    host.configure(retention={"last": 1})
    code, _, err = host.run("prune", "demo")
    assert code == Damaged.exit_code and victim.name in err and len(host.labels()) == 3
    code, _, err = host.run()
    assert code == Partial.exit_code and "Nothing is removed" in err and len(host.labels()) == 4
    entries = catalog.local(host.root, "db1")
    assert [entry.verified for entry in entries] == [False, True, True, True]
    code, _, err = host.run("verify", "demo")
    assert code == Damaged.exit_code and ".damaged-" + victim.name in err and host.samples()["last_verify_success"] == 0
    assert [entry.id for entry in catalog.local(host.root, "db1") if not entry.verified] == [victim.name]
    assert host.run("verify", "demo")[0] == OK and host.samples()["last_verify_success"] == 1
    assert host.run("prune", "demo")[0] == OK and len(host.labels()) == 1


def test_one_flipped_byte_is_found(host):
    """Fault 16."""
    assert host.run()[0] == OK
    path = next((host.directory / host.labels()[0]).glob("*.zst"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    code, out, _ = host.run("verify", "--json", "demo")
    assert code == Damaged.exit_code and [line["verified"] for line in json.loads(out)] == [False]


def test_the_clock_goes_back(host, monkeypatch):
    """Fault 26: labels never do, and neither does what retention takes for the newest."""
    from sauvegarde.backup import kinds

    job = host.configure()
    assert host.run()[0] == OK
    earlier = kinds.back_up(job, host.root, now=time.time() - 7200)
    assert earlier["id"] == host.labels()[-1] > host.labels()[0]
    kept = [
        each.id
        for each in retention.plan(host.labels(), retention.RetentionPolicy(last=1, daily=0, weekly=0, monthly=0))
        if each.keep
    ]
    assert kept == [earlier["id"]]


def test_the_clock_went_forward_once(host):
    """All labels after it lie in that one future day: retention by days would keep one of them and let the rest go."""
    from sauvegarde.backup import kinds

    policy = {"daily": 2}
    kinds.back_up(host.configure(), host.root, now=time.time() - 86400)
    kinds.back_up(host.configure(retention=policy), host.root, now=time.time() + 40 * 86400)
    for count in (3, 4):
        code, _, err = host.run()
        assert code == Partial.exit_code and "from the future" in err and "Set the clock right" in err
        assert len(host.labels()) == count and host.recorded_state()["last_success"]["id"] == host.labels()[-1]
    code, _, err = host.run("prune", "demo")
    assert code == SauvegardeError.exit_code and "from the future" in err and len(host.labels()) == 4


def test_a_planted_link_is_not_followed(host):
    """Fault 21: the job's folder, and what a stage could be mistaken for."""
    outside = host.folder / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (host.directory / ".partial-offsite").symlink_to(outside)
    assert host.run()[0] == OK and (outside / "precious").exists()
    aside = host.root / "kept"
    host.directory.rename(aside)
    host.directory.symlink_to(outside)
    code, _, err = host.run()
    assert (
        code == SauvegardeError.exit_code
        and "a symbolic link" in err
        and [each.name for each in outside.iterdir()] == ["precious"]
    )


def test_ping_and_metrics_fail_no_backup(host):
    """Fault 5: whoever is not told notices, because the ping and the success time stay away."""
    host.configure(metrics=str(host.folder / "nowhere"))
    (host.folder / "etc" / "pings" / "demo").write_text("http://127.0.0.1:1/ping/secret\n")
    assert host.run() == (OK, "", "")
    assert len(host.labels()) == 1


def test_the_ping_tells_the_three_events(host):
    import http.server

    heard = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (host.folder / "etc" / "pings" / "demo").write_text(f"http://127.0.0.1:{server.server_port}/x\n")
    assert host.run() == (OK, "", "")
    host.configure(path="/nowhere")
    host.run()
    host.configure(path="/nowhere", allow_failure=True)
    host.run()
    server.shutdown()
    assert heard == ["/x/start", "/x", "/x/start", "/x/fail"]


def test_unknown_jobs_and_broken_settings(host):
    code, _, err = host.run("run", "nope")
    assert code == SauvegardeError.exit_code and "There is no job named nope" in err and "Known: demo" in err
    assert host.run("run", "../demo")[0] == SauvegardeError.exit_code
    host.configure(retention={"dayly": 3})
    code, _, err = host.run()
    assert code == SauvegardeError.exit_code and "dayly" in err
    host.configure(kind="nonsense")
    code, _, err = host.run()
    assert code == SauvegardeError.exit_code and "nonsense" in err


@pytest.mark.skipif(USER != "root", reason="only root becomes somebody else")
def test_a_job_is_at_home_with_its_user(host):
    """What libpq and git look for in root's home they may not even look for."""
    script = LAUNCHER.replace("from sauvegarde.cli import main; sys.exit(main())", "") + (
        "import json, os; from sauvegarde.system import run_as; run_as.become('nobody');"
        "print(json.dumps(dict(os.environ)))"
    )
    value = {"PATH": "/usr/bin", "HOME": "/root", "USER": "root", "LOGNAME": "root", "TZ": "UTC"}
    roots = {"MAIL": "/var/mail/root", "SUDO_USER": "me", "XDG_CONFIG_HOME": "/root/.config", "GIT_DIR": "/root"}
    out = subprocess.run(
        [sys.executable, "-I", "-c", script], env=dict(value, **roots), stdout=subprocess.PIPE, check=True, timeout=300
    ).stdout
    answer = json.loads(out.decode())
    home = __import__("pwd").getpwnam("nobody").pw_dir
    assert (answer["HOME"], answer["USER"], answer["LOGNAME"], answer["TZ"]) == (home, "nobody", "nobody", "UTC")
    assert not set(roots).intersection(answer)


def test_the_list_is_json(host):
    host.run()
    code, out, _ = host.run("list")
    result = json.loads(out)
    assert code == OK and [line["id"] for line in result["archives"]] == host.labels() and result["problems"] == []
    assert result["archives"][0]["source"].endswith("db.sqlite3")
