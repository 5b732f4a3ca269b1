"""Run child processes with an explicit environment, check every status, and keep their errors word for word.

Children stay in the caller's process group, so that killing the group ends them all. If `setpriv` can arrange it, they
die with their parent, so that a parent that is killed alone leaves no writer behind. A hook may start children of its
own, so it gets its own group (`group=True`), which is killed as a whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import logging
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Union

from ..errors import SauvegardeError, TimedOut

PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL
Stream = Union[int, IO[Any]]  # PIPE, DEVNULL, a descriptor or an open file
Sift = Callable[[Iterator[str]], Iterable[str]]

# Error texts are read by people and by tests: untranslated, but able to show any name.
BASE_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}

_STDERR_KEPT = 64 * 1024
_CHUNK = 1024 * 1024
_PIPE_BYTES = 1024 * 1024
_F_SETPIPE_SZ = 1031  # Linux; not named in fcntl before Python 3.10
_logger = logging.getLogger("sauvegarde")
_inherited: set[int] = set()
_death_prefix: list[list[str]] = []


@dataclass(frozen=True)
class Result:
    """How a child ended. status: negative if a signal ended it. stdout: empty unless it was piped. stderr: its last
    64 KiB."""

    argv: list[str]
    status: int
    stdout: bytes
    stderr: str
    seconds: float

    @property
    def text(self) -> str:
        """The output, decoded."""
        return self.stdout.decode("utf-8", "replace")


def inherit(descriptor: int) -> None:
    """Pass an open file (a job's lock) on to every child, so that it stays locked while any of them lives."""
    os.set_inheritable(descriptor, True)
    _inherited.add(descriptor)


def disinherit(descriptor: int) -> None:
    """Stop passing the descriptor on."""
    _inherited.discard(descriptor)


def find(name: str, fix: str = "") -> str:
    """Return the absolute path of a tool, searched where packages install it, never in the caller's PATH."""
    path = shutil.which(name, path=BASE_ENVIRONMENT["PATH"])
    if path is None:
        raise SauvegardeError(
            f"The program {name} is not installed on this host.",
            "Searched in {}.".format(BASE_ENVIRONMENT["PATH"]),
            fix or f"Install it (Debian and Ubuntu: apt install {name}).",
        )
    return path


def _with_parent() -> list[str]:
    """Return the prefix that makes a child die with its parent; empty where util-linux is too old (before 2.33)."""
    if not _death_prefix:
        prefix: list[str] = []
        path = shutil.which("setpriv", path=BASE_ENVIRONMENT["PATH"])
        if path is not None:
            command = [path, "--pdeathsig", "KILL", "--"]
            test = subprocess.run([*command, "/bin/true"], stdout=DEVNULL, stderr=DEVNULL, check=False)
            if test.returncode == 0:
                prefix = command
        _death_prefix.append(prefix)
    return _death_prefix[0]


def _lines(descriptor: int) -> Iterator[str]:
    """Yield the lines of a file, however long it is. Its position, which a child may share, does not change."""
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
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        stdin: Stream = DEVNULL,
        stdout: Stream = DEVNULL,
        cwd: str | Path | None = None,
        group: bool = False,
        kept: int = _STDERR_KEPT,
        sift: Sift | None = None,
    ) -> None:
        self.argv = list(argv)
        self._kept, self._sift, self._group = kept, sift, group
        self._started = time.monotonic()
        self._last_errors = ""
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
        _logger.debug("process %d started: %s", self.pid, _command_line(self.argv))

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe to the child's input."""
        assert self._popen.stdin is not None, "started with stdin=PIPE"
        return self._popen.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe from the child's output."""
        assert self._popen.stdout is not None, "started with stdout=PIPE"
        return self._popen.stdout

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def running(self) -> bool:
        """Return whether the child still runs."""
        return self._popen.poll() is None

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for the end and return the Result whatever the status. A timeout (seconds) kills the child and raises
        TimedOut."""
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
        seconds = time.monotonic() - self._started
        status = self._popen.returncode
        _logger.debug("process %d (%s) ended with status %d after %.3f s", self.pid, self.name, status, seconds)
        return Result(self.argv, status, b"", self.errors(), seconds)

    def finish(self, timeout: float | None = None, what: str = "") -> Result:
        """Wait for the end; raise with the program's own words unless its status is 0."""
        result = self.wait(timeout)
        check(result, what)
        return result

    @property
    def name(self) -> str:
        """The program's name."""
        return Path(self.argv[0]).name

    def errors(self) -> str:
        """Return what the child has written to its standard error so far (the last 64 KiB, or `kept` bytes of it).

        A `sift` picks the lines first, from an iterator over all of them.
        """
        if self._stderr.closed:
            return self._last_errors
        if self._sift is not None:
            return "".join(self._sift(_lines(self._stderr.fileno())))[-self._kept :].strip()
        size = os.fstat(self._stderr.fileno()).st_size
        data = os.pread(self._stderr.fileno(), self._kept, max(0, size - self._kept))
        return data.decode("utf-8", "replace").strip()

    def kill(self, grace: float = 5) -> None:
        """End the child if it runs, by SIGTERM, after `grace` seconds by SIGKILL; a group of its own as a whole."""
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
            # A group outlives its leader, so it is signalled even if the leader has ended.
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
        self._close()

    def _close(self) -> None:
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None and not stream.closed:
                with contextlib.suppress(OSError):  # data buffered for a dead reader is lost on purpose
                    stream.close()
        if not self._stderr.closed:
            self._last_errors = self.errors()
            self._stderr.close()


def start(argv: Sequence[str], **options: Any) -> Process:
    """Start a child (options as Process) that the caller will `finish()` or `kill()`."""
    return Process(argv, **options)


def _command_line(argv: Sequence[str]) -> str:
    """Return a command as text: a name in another encoding can be passed to a program, but not written to a log."""
    line = " ".join(shlex.quote(word) for word in argv)
    return line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def check(result: Result, what: str = "") -> None:
    """Raise unless the status is 0; the error says how the program ended, in its own words."""
    if result.status == 0:
        return
    name = Path(result.argv[0]).name
    if result.status < 0:
        how = f"{name} was ended by signal {signal.Signals(-result.status).name}"
    else:
        how = f"{name} ended with status {result.status}"
    raise SauvegardeError(what or f"{how}.", f"{how} (command: {_command_line(result.argv)})\n{result.stderr}")


def warnings(tool: str, stderr: str) -> list[str]:
    """Return what a tool wrote on its standard error although it succeeded, a line a sentence. Each begins with the
    tool's name, which some versions leave out, and continuation lines always do."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return [line if line.startswith(tool + ": ") else f"{tool}: {line}" for line in lines]


def run(
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    stdin: Stream | bytes = DEVNULL,
    stdout: Stream = PIPE,
    timeout: float | None = None,
    cwd: str | Path | None = None,
    group: bool = False,
    checked: bool = True,
    what: str = "",
    kept: int = _STDERR_KEPT,
    sift: Sift | None = None,
) -> Result:
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
            data, stdin = stdin, stack.enter_context(tempfile.TemporaryFile())
            stdin.write(data)
            stdin.seek(0)
        with Process(argv, env=env, stdin=stdin, stdout=stdout, cwd=cwd, group=group, kept=kept, sift=sift) as process:
            result = process.wait(timeout)
        if collected is not None:
            collected.seek(0)
            result = dataclasses.replace(result, stdout=collected.read())
    if checked:
        check(result, what)
    return result


def widen_pipe(pipe: IO[bytes]) -> None:
    """Let a pipe hold several chunks, so that both ends work at the same time. A full quota of pipe memory is no
    error."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, _PIPE_BYTES)
