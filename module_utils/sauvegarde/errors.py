"""Define the errors that the engine raises on purpose, each with the exit code that every entry point returns for it.

SauvegardeError
├── Partial          the archive is good, but a later step (offsite copy, retention) failed
├── NoRepository     there is no repository at this address
├── Locked           another run, or a lock on a table, stands in the way
├── WrongKey         the password does not open the repository
├── LoginRefused     the database server refused the login: password changed, role gone, pg_hba.conf
├── Damaged          an archive is not what it was: checksum, manifest, truncated data
├── TimedOut         a time limit ended the work
└── Cancelled        a signal or a user ended the work
"""

from __future__ import annotations

import traceback
from typing import Any

OK = 0


class SauvegardeError(Exception):
    """What happened, why (a tool's own words kept word for word) and what to do.

    The three texts are plain sentences; `why` may have several lines. None of them ever holds a secret.
    """

    exit_code = 1  # nothing was published, the last good archive is untouched

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why.strip()
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(self.why)
        if self.fix:
            lines.append("Fix: " + self.fix)
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a state file, a module's result or a log line."""
        return {"what": self.what, "why": self.why, "fix": self.fix, "exit_code": self.exit_code}


class Partial(SauvegardeError):
    """The archive is good, but a later step (offsite copy, retention) failed."""

    exit_code = 3


class NoRepository(SauvegardeError):
    """There is no repository at this address."""

    exit_code = 10


class Locked(SauvegardeError):
    """Another run, or a lock on a table, stands in the way."""

    exit_code = 11


class WrongKey(SauvegardeError):
    """The password does not open the offsite repository."""

    exit_code = 12


class LoginRefused(SauvegardeError):
    """The database server refused the login: password changed, role gone, pg_hba.conf."""

    exit_code = 13


class Damaged(SauvegardeError):
    """An archive is not what it was: checksum, manifest, truncated data."""

    exit_code = 14


class TimedOut(SauvegardeError):
    """A time limit ended the work. The exit code is that of timeout(1)."""

    exit_code = 124


class Cancelled(SauvegardeError):
    """A signal or a user ended the work. The exit code is a shell's after Ctrl-C."""

    exit_code = 130


_CLASSES = {
    error.exit_code: error
    for error in (
        SauvegardeError,
        Partial,
        NoRepository,
        Locked,
        WrongKey,
        LoginRefused,
        Damaged,
        TimedOut,
        Cancelled,
    )
}


def class_of(exit_code: int) -> type[SauvegardeError]:
    """Return the class whose exit code this is; SauvegardeError for an unknown one."""
    return _CLASSES.get(exit_code, SauvegardeError)


def from_dict(values: dict[str, Any]) -> SauvegardeError:
    """Return the error that `as_dict` described."""
    return class_of(values.get("exit_code", 1))(values["what"], values.get("why", ""), values.get("fix", ""))


def from_exception(error: Exception) -> SauvegardeError:
    """Return the error itself, or a SauvegardeError with the traceback of an unexpected error."""
    if isinstance(error, SauvegardeError):
        return error
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return SauvegardeError(f"{type(error).__name__}: {error}", "".join(lines))


def exit_codes() -> dict[int, str]:
    """Return what every exit code means, in ascending order."""
    meanings = {OK: "Success.", SauvegardeError.exit_code: "Failed: nothing was published."}
    meanings.update({code: (error.__doc__ or "").splitlines()[0] for code, error in _CLASSES.items() if code > 1})
    return meanings
