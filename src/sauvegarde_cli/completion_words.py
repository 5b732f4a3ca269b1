"""Keep the words that a shell completes: hosts, databases, archive ids, jobs of the last list. They are no secrets.

Plain files with a word a line, for the shell to read without starting Python; private all the same.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sauvegarde_cli import run_record
from sauvegarde_cli.command_failed import ROOT

if TYPE_CHECKING:
    from sauvegarde_cli.overview import Catalog

KINDS = ("hosts", "databases", "archives", "jobs")
MOST_ARCHIVES = 500  # the newest
_DATABASE = "pg_dump"


def folder(root: Path = ROOT) -> Path:
    """Return the folder of the words, beside that of the runs."""
    return run_record.folder(root).parent / "completion"


def save(catalog: "Catalog", place: Path | None = None) -> None:
    """Keep the words of a catalog. A folder that cannot be written is no error: completion is a comfort."""
    from sauvegarde_cli.playbook_text import catalog_text

    entries = catalog.archives
    databases = {catalog_text.source_name(entry) for entry in entries if entry["kind"] == _DATABASE}
    words: dict[str, Iterable[str]] = {
        "hosts": {*catalog.hosts, *(str(entry["host"]) for entry in entries)},
        "databases": databases,
        "archives": sorted({str(entry["id"]) for entry in entries})[-MOST_ARCHIVES:],
        "jobs": {str(entry["job"]) for entry in entries},
    }
    with contextlib.suppress(OSError):
        write(words, place)


def write(words: dict[str, Iterable[str]], place: Path | None = None) -> None:
    """Write each kind's words to its file. Words that a shell would read as something else are left out."""
    place = place or folder()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for kind, values in words.items():
        plain = sorted(word for word in values if word and all(char.isalnum() or char in "._-/" for char in word))
        partial = place / f".{kind}.{os.getpid()}"
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write("".join(f"{word}\n" for word in plain))
        partial.rename(place / kind)
