"""Run a job detached for a remote caller, which polls its progress with a token until it has ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import config
from ..errors import OK, SauvegardeError, class_of
from ..report import job_state
from ..system import atomic_file, installation, process
from ..system.detach import start_detached
from . import outcome, progress

PYTHON = "/usr/bin/python3"  # the system's, as in the command's first line
_KEPT = 86400  # seconds for which the result of a run is kept for its caller
_MAY_FAIL = "It failed, which it may: "


@dataclass(frozen=True)
class _Token:
    """Identifies a detached run: when it was started (seconds since the epoch), and its watching process."""

    started: str
    watcher: int

    @classmethod
    def parse(cls, text: str) -> _Token:
        match = re.fullmatch(r"([0-9]+[.][0-9]+)-([0-9]+)", text)
        if match is None:
            raise SauvegardeError(f"{text!r} is no token of a run.")
        return cls(match.group(1), int(match.group(2)))

    def __str__(self) -> str:
        return f"{self.started}-{self.watcher}"

    def result_path(self, state: str | Path) -> Path:
        """Where the result of the run is written for its caller."""
        return Path(state) / f"ended-{self}.json"


def start(
    name: str,
    command: str = installation.COMMAND,
    configuration: str = config.CONFIGURATION,
    python: str = PYTHON,
) -> dict[str, Any]:
    """Start the job as cron does. Returns {token, running, seconds, step, values}."""
    job = config.load_job(name, configuration)
    if not Path(command).exists():
        raise SauvegardeError(f"There is no engine on this host: {command}", fix="Run the backup role.")
    started = f"{time.time():.6f}"
    argv = [python, "-I", str(command), "--configuration", configuration, "run", name]
    detached = start_detached(lambda: _run(argv, job.state, started))
    detached.errors.close()
    token = _Token(started, detached.pid)
    return {"token": str(token), "running": True, "seconds": 0.0, "step": "start", "values": {}}


def _run(argv: list[str], state: str | Path, started: str) -> None:
    """In the detached process: run the job, then write its result for the caller."""
    done = subprocess.run(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=process.BASE_ENVIRONMENT, check=False
    )
    result = {"exit_code": done.returncode, "said": done.stderr.decode("utf-8", "replace").strip()}
    atomic_file.replace(_Token(started, os.getpid()).result_path(state), json.dumps(result))


def remove_old_results(state: str | Path) -> None:
    """Remove results that no caller has read."""
    for pattern in ("ended-*.json", ".ended-*.json.*"):  # the second: of watchers that were killed
        for path in Path(state).glob(pattern):
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < time.time() - _KEPT:
                    path.unlink()


def ask(name: str, token: str, configuration: str = config.CONFIGURATION) -> dict[str, Any]:
    """Return how the run is going: {running: true, step, values, seconds}, or {running: false, exit_code, archive,
    databases, warnings_of_the_run, seconds}. A run that failed raises its error; its result can be read once."""
    job = config.load_job(name, configuration)
    run = _Token.parse(token)
    path = run.result_path(job.state)
    seconds = round(time.time() - float(run.started), 1)
    if Path("/proc", str(run.watcher)).exists() and not path.exists():
        current = job_state.read(job.state / progress.FILE)
        return {
            "running": True,
            "step": current.get("step", ""),
            "values": current.get("values", {}),
            "seconds": seconds,
        }
    result = job_state.read(path)
    if not result:
        raise SauvegardeError(
            f"The run of {name} was killed.",
            "It left no result.",
            "Run it again: that removes what it left.",
        )
    path.unlink()
    if result["exit_code"] != OK or result["said"]:
        error = class_of(result["exit_code"])(result["said"])
        error.exit_code = result["exit_code"]  # of a signal or another program, too
        raise error
    state = job_state.read(job.state / outcome.STATE)
    return _ended(state, float(run.started), seconds)


def _ended(state: dict[str, Any], started: float, seconds: float) -> dict[str, Any]:
    """Return the result of a run that ended without an error, from the job's state."""
    last_run = state.get("last_run", {})
    if last_run.get("started", 0) < started:
        # That is another run, which kept this one from starting; the job may fail, so it printed nothing.
        warnings = ["It failed, which it may, and did not say how: the journal has it."]
        return {
            "running": False,
            "exit_code": OK,
            "archive": None,
            "databases": {},
            "seconds": seconds,
            "warnings_of_the_run": warnings,
        }
    success = state.get("last_success", {})
    archive = {key: success[key] for key in ("id", "bytes", "stored_bytes")} if last_run.get("id") else None
    results = {
        name: {"status": entry["last_run"]["status"], "id": entry["last_run"]["id"]}
        for name, entry in state.get("databases", {}).items()
        if entry.get("last_run", {}).get("started", 0) >= started
    }
    problems = [_MAY_FAIL + problem["what"] for problem in last_run.get("problems", [])]
    return {
        "running": False,
        "exit_code": last_run.get("exit_code", OK),
        "archive": archive,
        "databases": results,
        "seconds": last_run.get("seconds", seconds),
        "warnings_of_the_run": last_run.get("warnings", []) + problems,
    }
