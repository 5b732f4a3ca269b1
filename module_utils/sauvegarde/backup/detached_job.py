"""A run of a job that somebody far away waits for: started detached, asked by its token until it has ended."""

import contextlib
import json
import os
import re
import subprocess
import time
from pathlib import Path

from .. import config
from ..errors import OK, SauvegardeError, class_of
from ..report import job_state
from ..system import process

PYTHON = "/usr/bin/python3"  # the system's, as in cron's file
_KEPT = 86400  # seconds that the end of a run waits for somebody to ask


def start(name, launcher, configuration=config.CONFIGURATION, python=PYTHON):
    """Start the job as cron does. Returns {token, running, seconds, step, values}."""
    job = config.load(name, configuration)
    if not Path(launcher).exists():
        raise SauvegardeError(f"There is no engine on this host: {launcher}", fix="Run the backup role.")
    began = time.time()
    argv = [python, "-I", str(launcher), "--configuration", configuration, "run", name]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _watch(argv, job, began, write)
    os.close(write)
    with os.fdopen(read) as channel:
        watcher = channel.read()
    os.waitpid(child, 0)
    return {"token": f"{began:.6f}-{watcher}", "running": True, "seconds": 0.0, "step": "start", "values": {}}


def _watch(argv, job, began, channel):
    """In the child: leave the caller's session and files, run the job, write down how it ended. Never returns."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.write(channel, str(os.getpid()).encode("ascii"))
        os.closerange(3, 1024)  # the caller's connection ends when nobody holds it any more
        done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=process.BASE_ENVIRONMENT)
        told = {"exit_code": done.returncode, "said": done.stderr.decode("utf-8", "replace").strip()}
        job_state.replace(_ending(job, f"{began:.6f}-{os.getpid()}"), json.dumps(told))
    finally:
        os._exit(0)


def _ending(job, token):
    if not re.match(r"[0-9.]+-[0-9]+\Z", token):
        raise SauvegardeError(f"{token!r} is no token of a run.")
    return Path(job["state"]) / f"ended-{token}.json"


def clean(folder):
    """Remove the ends of runs that nobody asked for: whoever started them has gone away."""
    for pattern in ("ended-*.json", ".ended-*.json.*"):  # the second: of watchers that were killed
        for each in Path(str(folder)).glob(pattern):
            with contextlib.suppress(OSError):
                if each.lstat().st_mtime < time.time() - _KEPT:
                    each.unlink()


def ask(name, token, configuration=config.CONFIGURATION):
    """How the run is going: {running: true, step, values, seconds}, or {running: false, exit_code, archive,
    warnings_of_the_run, seconds}; a failed one raises with what it said."""
    job = config.load(name, configuration)
    ending = _ending(job, token)
    began, watcher = float(token.split("-")[0]), token.split("-")[1]
    alive = Path("/proc", watcher).exists()
    seconds = round(time.time() - began, 1)
    if alive and not ending.exists():
        told = job_state.read(Path(job["state"]) / "progress.json")
        return {"running": True, "step": told.get("step", ""), "values": told.get("values", {}), "seconds": seconds}
    told = job_state.read(ending)
    if not told:
        raise SauvegardeError(
            f"The run of {name} was killed.",
            "Nobody wrote down how it ended.",
            "Run it again: that clears what is left.",
        )
    ending.unlink()
    current = job_state.read(Path(job["state"]) / "state.json")
    run = current.get("last_run", {})
    if told["exit_code"] != OK or told["said"]:
        raise class_of(told["exit_code"])(told["said"])
    if run.get("started", 0) < began:  # the run of another, which stood in the way of this one
        words = ["It failed, which it may, and did not say how: the journal has it."]
        return {"running": False, "exit_code": OK, "archive": None, "seconds": seconds, "warnings_of_the_run": words}
    success = current.get("last_success", {})
    made = {key: success[key] for key in ("id", "bytes", "stored_bytes")} if run.get("id") else None
    ended = {"running": False, "exit_code": run.get("exit_code", OK), "archive": made}
    passed = ["It failed, which it may: " + problem["what"] for problem in run.get("problems", [])]
    return dict(ended, seconds=run.get("seconds", seconds), warnings_of_the_run=run.get("warnings", []) + passed)
