"""One run of a job, from cron, from a playbook or by hand: `python3 -I /usr/local/lib/sauvegarde/run run JOB`.

lock → ping → hooks → the kind's dump, read back and published → retention → offsite → state, metrics, ping. Whoever is
killed, and when: the last good archive stays, the next run clears what is left. Root starts it, who alone can read the
settings and what opens the repositories; all the rest is done as the job's user.

Two processes: a small one that holds the lock, keeps the time and says what came of it, even when the other was
killed; and the worker, which does the work as the job's user and dies with the first. It tells what it has done as it
does it, so that what was published is known whatever ends it.

Exit codes (errors.py): 0 done; 1 failed, nothing published; 3 the archive is good but something after it (hook,
retention, offsite) is not; 10 no offsite repository; 11 the job runs already, or a table is locked; 12 wrong key of
the repository; 13 the server refused the login; 14 damaged archives; 124 timeout; 130 stopped. After an archive was
published, a failure is always 3. A job that may fail (`allow_failure`) ends with 0 and says it in the journal, the
state and the metrics only. On standard error there is nothing unless something failed, so cron mails nothing.
"""

import argparse
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

from .. import VERSION, catalog, config
from ..archive import archive_reader, archive_writer, ids, manifest, retention
from ..errors import OK, Cancelled, Damaged, Partial, SauvegardeError, TimedOut
from ..offsite import credentials, restic
from ..report import (
    job_state,
    journal,
    metrics,
    ping,
)
from ..system import lock
from . import detached_job, hooks, uncovered_databases

_PR_SET_PDEATHSIG = 1
_GRACE = 15  # seconds that a worker which must stop has for clearing up
_LAST_HOOK = 30  # seconds that its hook after the job has then, besides
_TICKS = ("dumping",)  # told many times during a step: progress, not steps of their own
_ARCHIVE = ("id", "bytes", "stored_bytes")
_SAID = (*_ARCHIVE, "proven")  # of an archive, in the journal
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
# A worker's report. offsite: by repository what offsite.synchronise returned, None where it failed; stopped: by a
# signal; ended: nothing is missing.
_NOTHING = {
    "archive": None,
    "without_job": None,
    "warnings": [],
    "problems": [],
    "offsite": {},
    "stopped": False,
    "ended": False,
}


class _Stopped(BaseException):
    """The worker was asked to stop; not an Exception, so that nothing on the way takes it for its own."""


class Steps:
    """Writes down what a run is at: `progress.json` for who waits, one line a finished step in the journal."""

    def __init__(self, job):
        self._job = job
        self._path = Path(job["state"]) / "progress.json"
        self._began = time.time()
        self._step = None
        self._values = {}

    def __call__(self, step, **values):
        """A kind's `notify`: `step` begins (and the one before has ended), or is further on."""
        if step == "cleaned":
            journal.log(self._job["name"], step, "warning", **values)
        elif step in _TICKS or (self._step and step == self._step[0]):
            self._values.update(values)
        else:
            self.done()
            self._step, self._values = (step, time.time()), dict(values)
        self._write()

    def done(self, status="ok", **values):
        """The step has ended."""
        if self._step:
            step, began = self._step
            journal.log(self._job["name"], step, status, seconds=time.time() - began, **dict(self._values, **values))
            self._step = None

    def _write(self):
        told = {"since": self._began, "step": self._step[0] if self._step else "", "values": self._values}
        told.update(pid=os.getppid(), now=time.time(), version=VERSION)
        with contextlib.suppress(OSError):  # a state folder that is full is told at the end, and fails no backup
            job_state.replace(self._path, json.dumps(told), sync=False)


def _locked(job):
    return lock.hold(Path(job["state"]) / "lock", "The job {}".format(job["name"]))


# --- the worker


def _work(job, repositories, steps, report, tell):
    """Everything that can fail. Fills `report` (_NOTHING's keys) and calls `tell` whenever it says more, so that what
    is told is true whenever this ends; an error before the archive is published raises.

    repositories: jobs.repositories of the job, apart from it: kinds and hooks are none the wiser.
    """
    from . import kinds

    def attempt(step, action):
        """Something after the dump: its failure is reported and stops nothing else. Returns what it returned, or None.

        Whatever the error is: a published archive is not to be called a failure for it.
        """
        value = None
        try:
            steps(step)
            value = action()
            steps.done()
        except Exception as error:  # noqa: BLE001 - whatever it is, the archive is published
            report["problems"].append(_error(error).as_dict())
            steps.done("failed", error=str(error))
        return value

    def after(**values):
        if job["after"]:
            attempt("after", lambda: hooks.run(job["after"], job, "after", **values))
            tell()

    try:
        if job["before"]:
            steps("before")
            hooks.run(job["before"], job, "before")
        made = kinds.back_up(job, job["root"], steps)
    except BaseException as error:
        steps.done("failed")
        after(result="failure", seconds=_LAST_HOOK if isinstance(error, _Stopped) else None)
        raise
    report["archive"] = _summary(made)
    report["warnings"] = list(made["warnings"])
    tell()
    steps.done()
    with contextlib.suppress(Exception):  # nothing that this run was for
        report["without_job"] = uncovered_databases.find(job, job["with_job"])
    after(result="success", archive=str(_directory(job) / made["id"]))
    attempt("retention", lambda: prune(job, steps=steps))
    if job["offsite"]:
        with contextlib.suppress(SauvegardeError):  # the copies themselves say what is wrong with restic
            report["warnings"] += restic.warnings()
    tell()
    for name in job["offsite"]:
        done = attempt("offsite", lambda name=name: _offsite(job, repositories[name], steps))
        report["offsite"][name] = done
        report["warnings"] += done["warnings"] if done else []
        tell()


def _summary(made):
    """What the state keeps of an archive's manifest."""
    counts = {"warnings": len(made["warnings"]), "unproven": len((made["fingerprint"] or {}).get("unproven", ()))}
    return dict({key: made[key] for key in _ARCHIVE}, proven=manifest.proven(made), **counts)


def _directory(job):
    return ids.job_directory(job["root"], job["name"])


def _offsite(job, repository, steps):
    if isinstance(repository, SauvegardeError):
        raise repository
    return restic.synchronise(repository, job, steps, repository["known"])


def _error(error):
    if isinstance(error, SauvegardeError):
        return error
    return SauvegardeError(
        f"{type(error).__name__}: {error}", "".join(traceback.format_exception(type(error), error, error.__traceback__))
    )


def prune(job, dry_run=False, steps=None):
    """Apply a job's retention to its folder; returns retention's plan. Refuses beside damaged archives, and beside ones
    from the future.

    An archive that goes first loses its name, so that a kill leaves no half one.
    """
    entries = catalog.of_job(job["root"], job["name"], job["host"])
    retention.refuse_damaged(entries, _directory(job))
    retention.refuse_future([line["id"] for line in entries], _directory(job))
    plan = retention.plan([line["id"] for line in entries], job["retention"])
    directory = _directory(job)
    for line in reversed([] if dry_run else plan):
        if not line["keep"]:
            if steps is not None:
                steps("retention", removed=line["id"])
            aside = directory / (".partial-" + line["id"])
            (directory / line["id"]).rename(aside)
            shutil.rmtree(str(aside))
    return plan


def verify(job):
    """Read every archive of a job whole, set damaged ones aside by name. Returns [{id, verified, problem}]."""
    from . import kinds

    directory = _directory(job)
    lines = []
    for label in ids.list_ids(directory):
        try:
            kinds.verify(directory / label)
            lines.append({"id": label, "verified": True, "problem": ""})
        except SauvegardeError as error:
            if not isinstance(error, Damaged):
                raise
            aside = archive_writer.quarantine(directory / label)
            lines.append({"id": label, "verified": False, "problem": f"{error}\nSet aside as {aside}."})
    return lines


# --- the process that waits


def _stop(_number, _frame):
    for number in _SIGNALS:  # once is enough; not SIG_IGN, which children would inherit
        signal.signal(number, lambda *_: None)
    raise _Stopped


def _in_worker(job, repositories, channel, parent):
    """The whole life of the worker; never returns. Its report goes through the channel as lines of JSON, each the whole
    of what there is to say so far; the last one has `ended`.
    """
    report = dict(_NOTHING, warnings=[], problems=[], offsite={})

    def tell():
        data = f"\n{json.dumps(report)}\n".encode("ascii")  # whatever was cut before it
        while data:
            data = data[os.write(channel, data) :]

    try:
        _lead(0)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(Cancelled.exit_code)
        signal.signal(signal.SIGTERM, _stop)
        os.nice(int(job["nice"]))
        try:
            _work(job, repositories, Steps(job), report, tell)
        except _Stopped:
            report["stopped"] = True
        except Exception as error:  # noqa: BLE001 - whatever it was is told, by the process that waits
            report["problems"].insert(0, _error(error).as_dict())
        report["ended"] = True
        tell()
    finally:
        os._exit(0)


def _lead(pid):
    """Give the worker a process group of its own. Both it and who waits do this, as neither knows who comes first."""
    with contextlib.suppress(OSError):
        os.setpgid(pid, 0)


def _listen(channel, told, seconds):
    """Add to `told` what comes through the channel. Returns whether the worker has ended: False when the time is over
    (None: no limit).
    """
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        left = None if until is None else max(0, until - time.monotonic())
        if not select.select([channel], [], [], left)[0]:
            return False
        chunk = os.read(channel, 65536)
        if not chunk:
            return True
        told += chunk


def _heard(told):
    """The last whole report among the worker's lines."""
    for line in reversed(bytes(told).split(b"\n")):
        with contextlib.suppress(ValueError):
            return json.loads(line.decode("ascii"))
    return dict(_NOTHING, warnings=[], problems=[], offsite={})


def _wait(job, pid, channel):
    """The worker's report, as far as it came; why it came no further is its first problem."""
    told, why = bytearray(), None
    began, timeout = time.monotonic(), float(job["timeout"])
    try:
        # Not before the fork: a thread that is about to end, as the ping's, can leave the child a broken C library.
        _ping(job, "start")
        if not _listen(channel, told, max(0, began + timeout - time.monotonic()) if timeout else None):
            why = TimedOut(
                f"The job did not end within {timeout:g} seconds and was stopped.",
                fix="Raise its timeout, or find out what it was waiting for.",
            )
    except _Stopped:
        why = Cancelled("The run was stopped.", "It was sent a signal.")
    if why is not None:
        _end(pid, channel, told, _GRACE + (_LAST_HOOK if job["after"] else 0))
    _, status = os.waitpid(pid, 0)
    report = _heard(told)
    if report["ended"] and not report["stopped"]:
        return report  # whoever wanted to stop it came too late
    if why is None and report["stopped"]:
        why = Cancelled("The run was stopped.", "Its worker was sent a signal.")
    if why is None:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
        why = SauvegardeError(
            "The run was killed.", f"Its process ended by {how}.", "The kernel's log says so where memory was short."
        )
    report["problems"].insert(0, why.as_dict())
    return report


def _end(pid, channel, told, grace):
    """Stop the worker and all of its group: asked first, then made to. What it still says is heard."""
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
        _listen(channel, told, seconds)


def _published(job, before):
    """The archive that a run published after the one of label `before`, where the worker was killed between doing so
    and telling; or None.
    """
    new = [label for label in _labels(job) if label > before]
    with contextlib.suppress(SauvegardeError):
        for label in new[-1:]:
            return _summary(archive_reader.read_manifest(_directory(job) / label))
    return None


def _labels(job):
    try:
        return ids.list_ids(_directory(job))
    except OSError:  # somebody has taken the folder from the job's user, which the run itself has told
        return []


def _supervise(job, repositories):
    path, progress = (Path(job["state"]) / name for name in ("state.json", "progress.json"))
    job_state.clean(path)
    job_state.clean(progress)
    detached_job.clean(job["state"])
    _clear(job)
    if job["metrics"]:
        job_state.clean(metrics.path(job["metrics"], job["name"]))
    current = job_state.read(path)
    if progress.exists():
        left = job_state.read(progress)
        journal.log(job["name"], "run", "warning", note="the run before was killed", stopped_at=left.get("step", ""))
    began, before = time.time(), max(_labels(job), default="")
    journal.log(job["name"], "run", "start", kind=job["kind"], version=VERSION)
    read, write = os.pipe()
    parent = os.getpid()
    for number in _SIGNALS:
        signal.signal(number, _stop)
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _in_worker(job, repositories, write, parent)
    _lead(pid)
    os.close(write)
    with os.fdopen(read, "rb", buffering=0) as channel:
        report = _wait(job, pid, channel.fileno())
    _clear(job)  # after a worker that was killed
    report["archive"] = report["archive"] or _published(job, before)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a second signal does not keep the first one's failure from being told
    outcome = _record(job, current, report, began, time.time())
    _keep(job, current, outcome)
    _tell(job, current, outcome)
    return outcome


def _clear(job):
    """What a killed run has left of what opens repositories goes, whether this one copies anything or not."""
    for each in (job["state"], credentials.RUN / job["name"]):
        credentials.clear(each)


def _keep(job, current, outcome):
    """Write the state down. Where that is impossible the run has one more problem, and all that is told besides."""
    try:
        _write(job, current)
        with contextlib.suppress(OSError):  # not there, or what _write would have met first
            (Path(job["state"]) / "progress.json").unlink()
    except SauvegardeError as error:
        outcome["problems"].append(error.as_dict())
        outcome["exit_code"] = _exit_code(outcome["id"], outcome["problems"])


def _write(job, current):
    folder = Path(job["state"])
    try:
        job_state.write(folder / "state.json", current)
    except OSError as error:
        raise Partial(
            f"The job's state cannot be written: {folder}",
            str(error),
            "Free some space there, or give the folder back to the job's user (the backup role does).",
        ) from error


def _record(job, current, report, began, ended):
    """Enter a run's report into the job's state; returns the run's own part."""
    made, problems = report["archive"], report["problems"]
    outcome = {
        "started": began,
        "ended": ended,
        "seconds": round(ended - began, 3),
        "exit_code": _exit_code(made, problems),
        "id": made["id"] if made else "",
        "problems": problems,
        "warnings": report["warnings"],
        "version": VERSION,
    }
    current.update(job=job["name"], kind=job["kind"], host=job["host"], last_run=outcome)
    if report["without_job"] is not None:
        current["without_job"] = report["without_job"]
    if made:
        current["last_success"] = dict(made, ended=ended, seconds=outcome["seconds"])
        current["last_verify"] = {"ended": ended, "success": True}
    told = current.setdefault("offsite", {})
    for name, done in report["offsite"].items():
        entry = told.setdefault(name, {})
        entry["last_run_success"] = done is not None
        if done is not None:
            entry.update(last_success=ended, id=done["id"])
    for name in [name for name in told if name not in job["offsite"]]:
        del told[name]
    current["available"] = len(_labels(job))
    return outcome


def _exit_code(made, problems):
    """That of a run with these problems: the first one's, but that after an archive was published it is PARTIAL."""
    if not problems:
        return OK
    return Partial.exit_code if made else problems[0]["exit_code"]


def _said(job, outcome):
    lines = [
        "Sauvegarde: the job {} on {} failed (exit code {}).".format(job["name"], job["host"], outcome["exit_code"])
    ]
    if outcome["id"]:
        lines.append("The archive {} is good; what came after it is not:".format(outcome["id"]))
    for problem in outcome["problems"]:
        lines += [problem["what"], *filter(None, [problem["why"], problem["fix"] and "Fix: " + problem["fix"]])]
    return journal.redact("\n".join(lines))


def _tell(job, current, outcome):
    """Journal, metrics, ping, and standard error for cron's mail."""
    good = outcome["exit_code"] == OK
    for warning in outcome["warnings"]:
        journal.log(job["name"], "run", "warning", note=warning)
    made = current["last_success"] if outcome["id"] else {}
    values = {key: made[key] for key in _SAID if key in made}
    text = "" if good else _said(job, outcome)
    journal.log(
        job["name"],
        "run",
        "ok" if good else "failed",
        seconds=outcome["seconds"],
        exit_code=outcome["exit_code"],
        error=text,
        **values,
    )
    _metrics(job, current)
    _ping(job, "success" if good else "fail", text)
    if text and not job["allow_failure"]:
        print(text, file=sys.stderr)


def _metrics(job, current):
    # A job that was taken from the inventory while it ran has no metrics any more, which would only go stale.
    if job["metrics"] and config.described(job):
        try:
            metrics.write(job["metrics"], job["name"], job["kind"], current)
        except OSError as error:
            journal.log(job["name"], "metrics", "failed", error=str(error))


def _ping(job, event, text=""):
    # Nobody is called for a failure that may pass; and a start that nothing follows would be a call as well.
    if job["ping"] and (event == "success" or not job["allow_failure"]):
        why = ping.send(job["ping"], event, text)
        if why:
            journal.log(job["name"], "ping", "warning", event=event, error=why)


# --- what is done by name


def run(name, configuration):
    """Run a job now; returns the exit code. What keeps a run from beginning is in the journal as well."""
    tolerated = False
    try:
        job = config.load(name, configuration)
        tolerated = job["allow_failure"]
        repositories = config.repositories(job)
        job["with_job"] = uncovered_databases.named(job)
        config.become(job["user"])
        with _locked(job):
            code = _supervise(job, repositories)["exit_code"]
    except Exception as error:  # whatever it is, it is in the journal before it goes on
        problem = _error(error)
        code = problem.exit_code
        journal.log(name, "run", "failed", exit_code=code, error=str(problem))
        if not tolerated:
            raise problem from error
    return OK if tolerated else code


def _run(arguments):
    return run(arguments.job, arguments.configuration)


def _verify(arguments):
    job = config.load(arguments.job, arguments.configuration)
    config.become(job["user"])
    with _locked(job):
        lines = verify(job)
        good = all(line["verified"] for line in lines)
        current = job_state.read(Path(job["state"]) / "state.json")
        current["last_verify"] = {"ended": time.time(), "success": good}
        current["available"] = sum(1 for line in lines if line["verified"])
        _metrics(job, current)
        untold = None
        try:
            _write(job, current)
        except SauvegardeError as error:
            untold = error
    for line in lines:
        journal.log(job["name"], "verify", "ok" if line["verified"] else "failed", id=line["id"], error=line["problem"])
    if arguments.json:
        print(json.dumps(lines, indent=1))
    for line in lines:
        if not line["verified"]:
            print(line["problem"], file=sys.stderr)
    if untold is not None:
        if good:
            raise untold
        print(untold, file=sys.stderr)
    return OK if good else Damaged.exit_code


@contextlib.contextmanager
def _journalled(name, step):
    """One line in the journal whatever comes of the block, which may add what it says."""
    began, values = time.time(), {}
    try:
        yield values
    except Exception as error:  # whatever it is, it is in the journal before it goes on
        problem = _error(error)
        journal.log(name, step, "failed", seconds=time.time() - began, error=str(problem))
        raise problem from error
    journal.log(name, step, "ok", seconds=time.time() - began, **values)


def _prune(arguments):
    with _journalled(arguments.job, "prune") as told:
        job = config.load(arguments.job, arguments.configuration)
        config.become(job["user"])
        with _locked(job):
            plan = prune(job, arguments.dry_run)
        told.update(removed=[line["id"] for line in plan if not line["keep"]], dry_run=arguments.dry_run or None)
    if arguments.json:
        print(json.dumps(plan, indent=1))
    else:
        for line in plan:
            word = "keep" if line["keep"] else ("would remove" if arguments.dry_run else "removed")
            print("{:13} {}  {}".format(word, line["id"], line["why"]))
    return OK


def _forget(arguments):
    name = arguments.repository
    with _journalled(name, "forget") as told:
        settings = config.forgetting(name, arguments.configuration)
        settings["private"] = config.private(settings["state"], "forget-" + name, settings["user"])
        config.become(settings["user"])
        with lock.hold(Path(settings["state"]) / "lock", f"The tidying of {name}"):
            done = restic.forget_for_others(settings, lambda *_step, **_values: None, arguments.dry_run)
        told.update(forgotten=done, dry_run=arguments.dry_run or None)
    if arguments.json or arguments.dry_run:
        print(json.dumps(done, indent=1))
    return OK


def _list(arguments):
    """Every archive in the configured folders and, where that is asked for, in every repository."""
    entries, problems = collect(arguments.configuration, arguments.offsite)
    without = uncovered_databases.listed(arguments.configuration)
    print(job_state.as_json({"archives": entries, "databases_without_job": without, "problems": problems}))
    return Partial.exit_code if problems else OK


def collect(configuration=config.CONFIGURATION, with_offsite=True, root=None, host=None):
    """The catalog of this host: (entries, problems). Folders of jobs that are configured no more are read too, and the
    repositories that it keeps for others: a host that is dead cannot list its own.
    """
    known, entries, problems = [], [], []

    @contextlib.contextmanager
    def attempt():
        try:
            yield
        except Exception as error:  # noqa: BLE001 - one thing that cannot be read hides nothing else
            problems.append(_error(error).as_dict())

    for name in config.names(configuration):
        with attempt():
            known.append(config.load(name, configuration))
            config.account(known[-1]["user"])
    host = host or next((job["host"] for job in known), socket.gethostname())
    for each in sorted({job["root"] for job in known} | ({root} if root else set())):
        with attempt():
            entries += catalog.local(each, host)
    filled = {str(name): job["state"] for job in known for name in job["offsite"]}
    asked = [(config.repository, name) for name in sorted({*filled, *config.repository_names(configuration)})]
    asked += [(config.forgetting, name) for name in config.forgetting_names(configuration)]
    for read, name in asked if with_offsite else []:
        with attempt():
            seen = {line["path"] for line in entries}
            settings = read(name, configuration)
            private = config.private(settings.get("state") or filled.get(name, ""))
            found = catalog.remote(dict(settings, private=private), settings.get("manifests"))
            entries += [line for line in found if line["path"] not in seen]
    return entries, problems


def _parser():
    top = argparse.ArgumentParser(prog="run", description="Sauvegarde on this host.")
    top.add_argument("--configuration", default=config.CONFIGURATION, help="folder of the settings (%(default)s)")
    top.add_argument("--version", action="version", version=VERSION)
    actions = top.add_subparsers(dest="action", metavar="ACTION")
    actions.required = True
    for name, action, subject, text in (
        ("run", _run, "job", "run a job now"),
        ("verify", _verify, "job", "read every archive of a job whole; damaged ones are set aside"),
        ("prune", _prune, "job", "apply a job's retention"),
        ("forget", _forget, "repository", "tidy an append-only repository that this host keeps for others"),
        ("list", _list, None, "list every archive, as JSON"),
    ):
        one = actions.add_parser(name, help=text, description=text)
        one.set_defaults(function=action)
        if subject:
            one.add_argument(subject)
        if name in ("prune", "forget"):
            one.add_argument("--dry-run", action="store_true", help="only say what would go, and why")
        if name in ("verify", "prune", "forget"):
            one.add_argument("--json", action="store_true", help="say it as JSON")
        if name == "list":
            one.add_argument("--offsite", action="store_true", help="in the offsite repositories too")
    return top


def main(words=None):
    """The command line; returns the exit code."""
    os.umask(0o077)
    arguments = _parser().parse_args(words)
    try:
        return arguments.function(arguments)
    except SauvegardeError as error:
        print(journal.redact(f"Sauvegarde: {error}"), file=sys.stderr)
        return error.exit_code
    except _Stopped:
        return Cancelled.exit_code
