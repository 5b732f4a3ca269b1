"""State, metrics, ping and journal: what a run tells, to whom, and what it must not tell."""

import http.server
import logging
import socket
import stat
import threading

import pytest
from sauvegarde.report import (
    job_state,
    journal,
    metrics,
    ping,
)
from sauvegarde.system import process

GOOD = {
    "last_run": {"ended": 1000.5, "exit_code": 0},
    "last_success": {"ended": 1000.5, "seconds": 12.25, "stored_bytes": 4096},
    "last_verify": {"ended": 1000.5, "success": True},
    "available": 3,
    "offsite": {"vault": {"last_success": 999.0}, "never": {}},
}


def samples(text):
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def test_metrics_of_a_good_run():
    text = metrics.render("offers", "pg_dump", GOOD)
    values = samples(text)
    labels = '{backup_job="offers",kind="pg_dump"}'
    assert values["sauvegarde_backup_last_success_timestamp_seconds" + labels] == "1000.5"
    assert values["sauvegarde_backup_last_run_success" + labels] == "1"
    assert values["sauvegarde_backup_last_duration_seconds" + labels] == "12.25"
    assert values["sauvegarde_backup_last_size_bytes" + labels] == "4096"
    assert values["sauvegarde_backup_available" + labels] == "3"
    assert values["sauvegarde_backup_last_verify_success" + labels] == "1"
    repository = '{backup_job="offers",kind="pg_dump",repository="vault"}'
    assert values["sauvegarde_backup_offsite_last_success_timestamp_seconds" + repository] == "999.0"
    assert "never" not in text
    for line in text.splitlines():
        if not line.startswith("#"):
            name = line.split("{")[0]
            assert f"# TYPE {name} gauge\n" in text and f"# HELP {name} " in text


def test_a_failed_run_keeps_the_old_success_time():
    values = samples(metrics.render("offers", "pg_dump", dict(GOOD, last_run={"ended": 2000.0, "exit_code": 13})))
    labels = '{backup_job="offers",kind="pg_dump"}'
    assert values["sauvegarde_backup_last_run_success" + labels] == "0"
    assert values["sauvegarde_backup_last_run_exit_code" + labels] == "13"
    assert values["sauvegarde_backup_last_success_timestamp_seconds" + labels] == "1000.5"


def test_labels_are_escaped():
    text = metrics.render("offers", "pg_dump", {"offsite": {'a"\\\nb': {"last_success": 1}}})
    assert 'repository="a\\"\\\\ b"' in text


def test_files_are_replaced_whole(tmp_path, monkeypatch):
    metrics.write(tmp_path, "offers", "pg_dump", GOOD)
    path = metrics.path(tmp_path, "offers")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    before = path.read_text()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        metrics.write(tmp_path, "offers", "pg_dump", {})
    assert path.read_text() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_state_round_trip_and_debris(tmp_path):
    path = tmp_path / "state.json"
    assert job_state.read(path) == {}
    job_state.write(path, GOOD)
    assert job_state.read(path) == GOOD and stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("{half")
    assert job_state.read(path) == {}


class _Listener(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.heard.append((self.path, body))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def listener():
    server = http.server.HTTPServer(("127.0.0.1", 0), _Listener)
    server.heard, server.answer = [], 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_ping_tells_start_success_and_fail(listener):
    url = f"http://127.0.0.1:{listener.server_port}/ping/secret?rid=1"
    assert [ping.send(url, event, "é") for event in ("start", "success", "fail")] == ["", "", ""]
    assert listener.heard == [
        ("/ping/secret/start?rid=1", "é"),
        ("/ping/secret?rid=1", "é"),
        ("/ping/secret/fail?rid=1", "é"),
    ]


def test_ping_never_raises_and_never_takes_long(listener):
    listener.answer = 500
    assert "500" in ping.send(f"http://127.0.0.1:{listener.server_port}/x", "success")
    assert ping.send("file:///etc/passwd", "success")
    assert ping.send("http://127.0.0.1:1/secret", "success")
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        # It never answers, so that without the time limit this would not end.
        assert ping.send(f"http://127.0.0.1:{mute.getsockname()[1]}/", "start", timeout=0.3)


@pytest.fixture
def system_journal(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "socket"))
        heard.settimeout(300)
        monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "socket"))
        yield heard


def test_a_step_is_one_line(system_journal):
    journal.log("offers", "dump", "ok", seconds=1.23456, bytes=10, empty="")
    fields = dict(line.split("=", 1) for line in system_journal.recv(65536).decode().splitlines())
    assert fields == {
        "MESSAGE": "job=offers step=dump status=ok seconds=1.235 bytes=10",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "sauvegarde",
        "SAUVEGARDE_JOB": "offers",
        "SAUVEGARDE_STEP": "dump",
        "SAUVEGARDE_STATUS": "ok",
    }


def test_nothing_can_forge_a_line_or_a_field(system_journal):
    hostile = "x\nMESSAGE=forged\r\x1b[31m\u2028status=ok\u0085 \"q\" 'é'"
    journal.log("offers", "dump", "failed", error=hostile, number="1\nPRIORITY=0")
    lines = system_journal.recv(65536).decode().split("\n")
    assert sum(line.startswith(("MESSAGE=", "PRIORITY=")) for line in lines) == 2
    message = lines[0]
    assert all(char.isprintable() for char in message) and "é" in message and "\\nMESSAGE=forged" in message


def test_a_long_error_still_arrives(system_journal):
    journal.log("offers", "dump", "failed", error="x" * 500000)
    assert system_journal.recv(65536).startswith(b"MESSAGE=job=offers")


def test_passwords_of_addresses_are_left_out(system_journal):
    journal.log("offers", "offsite", "failed", error="rest:https://me:c4nary@vault.example.org:8000/ refused")
    text = system_journal.recv(65536)
    assert b"c4nary" not in text and b"rest:https://me:***@vault.example.org:8000/" in text


def test_no_journal_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr(journal, "SYSLOG", str(tmp_path / "none"))
    journal.log("offers", "dump", "ok")


@pytest.fixture
def fresh_logger():
    """The engine's logger as a process finds it."""
    logger = logging.getLogger(journal.LOGGER)
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before


def test_debug_lines_are_printed_on_request_and_not_in_the_journal(system_journal, fresh_logger, capsys):
    fresh_logger.debug("nobody asked for this")
    journal.show_debug()
    fresh_logger.debug("open %s", "https://me:c4nary@example.org/x")
    fresh_logger.warning("two\nlines")
    printed = capsys.readouterr().err
    assert printed == "DEBUG   open https://me:***@example.org/x\nWARNING two\nlines\n"
    assert system_journal.recv(65536) == b"MESSAGE=two\\nlines\nPRIORITY=4\nSYSLOG_IDENTIFIER=sauvegarde\n"


@pytest.mark.parametrize(("verbosity", "count"), [(0, 0), (1, 0), (2, 1), (4, 1)])
def test_modules_collect_debug_lines_by_their_verbosity(fresh_logger, verbosity, count):
    lines = journal.collect_debug(verbosity)
    process.run(["/bin/true"], stdout=process.DEVNULL)
    assert len([line for line in lines if line.startswith("DEBUG process ") and "started: /bin/true" in line]) == count


def test_a_detached_run_writes_debug_lines_into_a_file_if_they_are_shown(fresh_logger, tmp_path, capsys):
    path = tmp_path / "debug.log"
    journal.copy_debug(path)
    assert not path.exists()
    journal.show_debug()
    journal.copy_debug(path)
    fresh_logger.debug("open %r", "https://me:c4nary@example.org/\udce9")
    assert "me:***@example.org" in path.read_text() and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "c4nary" not in path.read_text() + capsys.readouterr().err


def test_every_metric_is_one_entry():
    assert len({metric.name for metric in metrics.METRICS}) == len(metrics.METRICS)
    assert metrics.render("x", "globals", {}) == "\n", "a job that never ran has none"
