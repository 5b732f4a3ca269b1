"""Keep what a command did: its log and its report, as JSON and as text, in a private folder of its own."""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from sauvegarde_cli.command_failed import ROOT, CommandFailed

KEPT = 50  # runs
HIDDEN = "********"
SHORTEST_SECRET = 4  # characters; a shorter one would hide half of every log
LOG, JSON, TEXT = "log", "report.json", "report.txt"


def folder(root: Path = ROOT) -> Path:
    """Return the folder of the runs: of the checkout, or of the user where the checkout is not writable."""
    if os.access(root, os.W_OK):
        return root / ".sauvegarde" / "runs"
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "sauvegarde" / "runs"


def runs(place: Path | None = None) -> list[str]:
    """Return the ids of the runs that are kept, oldest first."""
    place = place or folder()
    return sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


def read(identifier: str, place: Path | None = None) -> dict[str, Any]:
    """Return the report of a run, of the newest one for `last`. Raises CommandFailed."""
    place = place or folder()
    reported = [name for name in runs(place) if (place / name / JSON).is_file()]
    name = reported[-1] if identifier == "last" and reported else identifier
    if name not in reported:
        raise CommandFailed(
            f"There is no report {identifier}." if reported else "There is no report yet.",
            f"There are: {', '.join(reported[-5:])}." if reported else f"{place} has none.",
            "Name one of these, or `last`." if reported else "",
            2,
        )
    report: dict[str, Any] = json.loads((place / name / JSON).read_text())
    return report


class RunRecord:
    """The folder of one run. Every text that it writes is free of the given secrets."""

    def __init__(self, command: str, secrets: Iterable[str] = (), place: Path | None = None) -> None:
        self.command = command
        self.began = time.time()
        self._secrets: list[str] = []
        self.hide(secrets)
        place = place or folder()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = self._create(place)
        self._rotate(place)
        self._log: IO[str] = os.fdopen(
            os.open(self.path / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8"
        )

    @property
    def id(self) -> str:
        """The id of the run."""
        return self.path.name

    def _create(self, place: Path) -> Path:
        for _ in range(1000):
            moment = datetime.now(UTC)
            stamp = f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z"
            with contextlib.suppress(FileExistsError):
                path = place / f"{stamp}-{self.command}"
                path.mkdir(mode=0o700)
                return path
            time.sleep(0.001)
        raise CommandFailed(f"No folder for this run could be made in {place}.")

    @staticmethod
    def _rotate(place: Path) -> None:
        for name in runs(place)[:-KEPT]:
            shutil.rmtree(place / name, ignore_errors=True)

    def hide(self, secrets: Iterable[str]) -> None:
        """Hide these texts in all that is written from now on, each of their lines as well."""
        lines = {line for secret in secrets for line in (secret, *secret.splitlines())}
        long_enough = {line for line in lines if len(line.strip()) >= SHORTEST_SECRET}
        self._secrets = sorted({*self._secrets, *long_enough}, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return the text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def log(self, text: str) -> None:
        """Add lines to the log."""
        self._log.write(self.clean(text.rstrip()) + "\n")
        self._log.flush()

    def finish(self, report: Mapping[str, Any], lines: Iterable[str]) -> dict[str, Any]:
        """Write both forms of the report and return the whole of it. lines: what people read."""
        ended = time.time()
        user = os.environ.get("SUDO_USER") or os.environ.get("USER") or str(os.getuid())
        whole = {
            "run": self.id,
            "command": self.command,
            "user": user,
            "started": _moment(self.began),
            "ended": _moment(ended),
            "seconds": round(ended - self.began, 1),
            **report,
            "log": str(self.path / LOG),
        }
        text = self.clean(json.dumps(whole, indent=2, default=str, ensure_ascii=False))
        self._write(JSON, text + "\n")
        head = f"{self.id}: {whole['command']} by {user}, {whole['started']}, {whole['seconds']} s"
        self._write(TEXT, self.clean("\n".join([head, *lines])) + "\n")
        self._log.close()
        cleaned: dict[str, Any] = json.loads(text)
        return cleaned

    def _write(self, name: str, text: str) -> None:
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def typed(words: Iterable[str] | None = None) -> list[str]:
    """Return the words of the command line without the values of `-e`, which may be secret."""
    shown: list[str] = []
    is_hidden = False
    for word in sys.argv[1:] if words is None else words:
        name, is_joined, _ = word.partition("=")
        if is_hidden:
            shown.append(HIDDEN)
        elif word.startswith("-e") and word != "-e":
            shown.append("-e" + HIDDEN)
        else:
            shown.append(f"{name}={HIDDEN}" if is_joined and name == "--extra-vars" else word)
        is_hidden = word in ("-e", "--extra-vars")
    return shown
