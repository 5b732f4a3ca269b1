"""Run a program on a pseudo-terminal: type into it, wait for what it shows."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time

PATIENCE = 180  # seconds for anything to be shown
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A program on a terminal of its own, as a person has it before them."""

    def __init__(self, *words, cwd=None, environ=None):
        self._master, slave = pty.openpty()
        self._running = subprocess.Popen(
            words, cwd=cwd, env=environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=_own_terminal,
        )  # fmt: skip
        os.close(slave)
        self.shown = ""
        self._read = 0

    def _more(self, seconds):
        """Read what is there within that time; whether the program still has the terminal."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            piece = os.read(self._master, 65536)
        except OSError:  # the other side has ended
            return False
        self.shown += _STYLE.sub("", piece.decode("utf-8", "replace")).replace("\r", "\n")
        return bool(piece)

    def wait_for(self, words):
        """Wait until these words are shown after those that were waited for last."""
        until = time.monotonic() + PATIENCE
        while (place := self.shown.find(words, self._read)) < 0:
            assert time.monotonic() < until, f"{words!r} was not shown:\n{self.shown[-3000:]}"
            assert self._more(1) or words in self.shown[self._read :], f"ended without {words!r}:\n{self.shown[-3000:]}"
        self._read = place + len(words)

    def type(self, text):
        """Type it, with Enter at its end."""
        os.write(self._master, text.encode() + b"\n")

    def interrupt(self):
        """Type Ctrl-C."""
        os.write(self._master, b"\x03")

    def end(self):
        """Wait for its end; returns (exit code, what was shown)."""
        until = time.monotonic() + PATIENCE
        while self._more(1):
            assert time.monotonic() < until, f"it has not ended:\n{self.shown[-3000:]}"
        code = self._running.wait(PATIENCE)
        os.close(self._master)
        return code, self.shown


def _own_terminal():
    """Make the terminal that is standard input the controlling one, so that Ctrl-C reaches the program's group.

    A shell lets the programs that it starts in the background ignore Ctrl-C; a person's shell does not.
    """
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
