"""Child processes: an explicit environment, every status checked, errors kept word for word.

Children stay in the caller's process group, so that whoever kills the group ends them all, and die with their parent
where `setpriv` can arrange it, so that a runner that is killed alone leaves nobody writing. A hook, which may start
children of its own, gets a group of its own (`group=True`) and is killed as a whole.
"""

import contextlib
import fcntl
import os
import resource
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import List, NamedTuple

from ..errors import SauvegardeError, TimedOut

PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL

# Error texts are read by people and by tests: untranslated, but able to show any name.
BASE_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}

_STDERR_KEPT = 64 * 1024
_CHUNK = 1024 * 1024
_PIPE_BYTES = 1024 * 1024
_F_SETPIPE_SZ = 1031  # Linux; not named in fcntl before Python 3.10
_inherited = set()
_death = []


class Result(NamedTuple):
    argv: List[str]
    status: int  # negative: ended by that signal
    stdout: bytes  # empty unless it was piped
    stderr: str  # its last 64 KiB
    seconds: float

    @property
    def text(self):
        return self.stdout.decode("utf-8", "replace")


def inherit(descriptor):
    """Hand an open file (a job's lock) on to every child, so that it stays locked while any of them lives."""
    os.set_inheritable(descriptor, True)
    _inherited.add(descriptor)


def disinherit(descriptor):
    """Stop handing the descriptor on."""
    _inherited.discard(descriptor)


def find(name, fix=""):
    """The absolute path of a tool, looked for where packages put it, never in the caller's PATH."""
    path = shutil.which(name, path=BASE_ENVIRONMENT["PATH"])
    if path is None:
        raise SauvegardeError(
            f"The program {name} is not installed on this host.",
            "Looked in {}.".format(BASE_ENVIRONMENT["PATH"]),
            fix or f"Install it (Debian and Ubuntu: apt install {name}).",
        )
    return path


def _with_parent():
    """The prefix that makes a child die with its parent; empty where util-linux is too old to know (before 2.33)."""
    if not _death:
        prefix = []
        path = shutil.which("setpriv", path=BASE_ENVIRONMENT["PATH"])
        if path is not None:
            known = subprocess.run(
                [path, "--pdeathsig", "KILL", "--", "/bin/true"], stdout=DEVNULL, stderr=DEVNULL, check=False
            )
            if known.returncode == 0:
                prefix = [path, "--pdeathsig", "KILL", "--"]
        _death.append(prefix)
    return _death[0]


def _lines(descriptor):
    """The lines of a file, however long it is; its position, which a child may share, is left alone."""
    offset, rest = 0, b""
    while True:
        data = os.pread(descriptor, _CHUNK, offset)
        offset += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace") + "\n"
        if not data:
            if rest:
                yield rest.decode("utf-8", "replace")
            return


class Process:
    """One running child. Use `start`; as a context manager it is killed if its block is left early."""

    def __init__(
        self, argv, env=None, stdin=DEVNULL, stdout=DEVNULL, cwd=None, group=False, kept=_STDERR_KEPT, sift=None
    ):
        self.argv = list(argv)
        self._kept, self._sift = kept, sift
        self._group = group
        self._started = time.monotonic()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        try:
            self._popen = subprocess.Popen(
                ([] if group else _with_parent()) + self.argv,
                env=dict(BASE_ENVIRONMENT if env is None else env),
                stdin=stdin,
                stdout=stdout,
                stderr=self._stderr,
                cwd=cwd,
                start_new_session=group,
                pass_fds=tuple(_inherited),
            )
        except OSError as error:
            self._stderr.close()
            raise SauvegardeError(f"{argv[0]} could not be started.", str(error)) from error
        self.pid = self._popen.pid
        self.stdin = self._popen.stdin
        self.stdout = self._popen.stdout

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def running(self):
        return self._popen.poll() is None

    def wait(self, timeout=None):
        """Wait for the end and return the Result whatever the status. A timeout kills it and raises."""
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimedOut(
                f"{self.name} did not end within {timeout:g} seconds and was stopped.",
                self.errors(),
                "Raise the timeout, or find out what it was waiting for.",
            ) from None
        except BaseException:
            self.kill()
            raise
        return Result(self.argv, self._popen.returncode, b"", self.errors(), time.monotonic() - self._started)

    def finish(self, timeout=None, what=""):
        """Wait for the end; anything but status 0 raises with the program's own words."""
        result = self.wait(timeout)
        check(result, what)
        return result

    @property
    def name(self):
        return Path(self.argv[0]).name

    def errors(self):
        """What the child has written to its standard error so far (the last 64 KiB, or `kept` bytes of it).

        Where there is a `sift`, that function picks the lines first, from an iterator over all of them.
        """
        if self._stderr.closed:
            return self._last_words
        if self._sift is not None:
            return "".join(self._sift(_lines(self._stderr.fileno())))[-self._kept :].strip()
        size = os.fstat(self._stderr.fileno()).st_size
        data = os.pread(self._stderr.fileno(), self._kept, max(0, size - self._kept))
        return data.decode("utf-8", "replace").strip()

    def kill(self, grace=5):
        """End it if it runs: asked first, then made to; a group of its own ends as a whole."""
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
            # A group outlives its leader, so it is signalled even when the leader is gone.
            if not self._group and self._popen.poll() is not None:
                break
            try:
                if self._group:
                    os.killpg(self.pid, number)
                else:
                    self._popen.send_signal(number)
            except ProcessLookupError:
                break
            try:
                self._popen.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        self._popen.poll()
        for stream in (self.stdin, self.stdout):
            if stream is not None and not stream.closed:
                with contextlib.suppress(OSError):  # what was buffered for a dead reader is lost on purpose
                    stream.close()
        if not self._stderr.closed:
            self._last_words = self.errors()
            self._stderr.close()


def start(argv, **options):
    """Start a child (options as Process) that the caller will `finish()` or `kill()`."""
    return Process(argv, **options)


def _shown(word):
    """The word as far as it is text: a name in another encoding can be said to a program, but not written to a log."""
    return word.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def check(result, what=""):
    """Raise unless the status is 0; the error says how the program ended, in its own words."""
    if result.status == 0:
        return
    name = Path(result.argv[0]).name
    if result.status < 0:
        how = f"{name} was ended by signal {signal.Signals(-result.status).name}"
    else:
        how = f"{name} ended with status {result.status}"
    raise SauvegardeError(
        what or f"{how}.",
        "{} (command: {})\n{}".format(how, " ".join(shlex.quote(_shown(word)) for word in result.argv), result.stderr),
    )


def warnings(tool, said):
    """What a tool wrote on its standard error though it ended well, a line a sentence. Each begins with the tool's
    name, which some versions leave out, and continuation lines always do."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return [line if line.startswith(tool + ": ") else f"{tool}: {line}" for line in lines]


def run(
    argv,
    env=None,
    stdin=DEVNULL,
    stdout=PIPE,
    timeout=None,
    cwd=None,
    group=False,
    checked=True,
    what="",
    kept=_STDERR_KEPT,
    sift=None,
):
    """Run a child to its end and return its Result.

    `stdin`: DEVNULL, an open file, or bytes to feed. `stdout`: PIPE (kept in the result: small outputs only), DEVNULL
    or an open file. `timeout` in seconds. Unless `checked` is false, a status other than 0 raises SauvegardeError.
    `kept`: how many bytes of its standard error are kept; `sift`: a function that picks its lines (Process.errors).
    """
    with contextlib.ExitStack() as stack:
        collected = None
        if stdout == PIPE:
            collected = stdout = stack.enter_context(tempfile.TemporaryFile())
        if isinstance(stdin, bytes):
            given = stack.enter_context(tempfile.TemporaryFile())
            given.write(stdin)
            given.seek(0)
            stdin = given
        with Process(argv, env=env, stdin=stdin, stdout=stdout, cwd=cwd, group=group, kept=kept, sift=sift) as process:
            result = process.wait(timeout)
        if collected is not None:
            collected.seek(0)
            result = result._replace(stdout=collected.read())
    if checked:
        check(result, what)
    return result


def finish_all(processes, timeout=None, what=""):
    """Wait for every process of a pipeline, then check every status, the first one first.

    A process ended by SIGPIPE only says that its reader went first: the reader's own failure is told before it.
    """
    results = [process.wait(timeout) for process in processes]
    for result in results:
        if result.status != -signal.SIGPIPE:
            check(result, what)
    for result in results:
        check(result, what)
    return results


def widen_pipe(pipe):
    """Let a pipe hold several chunks, so that both ends work at the same time; a full quota of pipe memory is no
    error."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, _PIPE_BYTES)


def peak_memory():
    """Peak resident memory in bytes: of this process, and of its largest child that has ended."""
    return {
        "own": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "largest_child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }
