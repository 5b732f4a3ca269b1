"""Define archive ids and job names, and list or create ids in a directory.

An id is a UTC timestamp such as `20261128T235324Z`, so that ids in alphabetical order are in order of time. The runs of
restores and migrations have ids of the same form. A repository is ROOT/JOB/ID/: an archive being written is
ROOT/JOB/.partial-ID, an archive found damaged ROOT/JOB/.damaged-ID.
"""

from __future__ import annotations

import datetime
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from ..errors import SauvegardeError

ID_FORMAT = "%Y%m%dT%H%M%SZ"  # strftime
ID_PATTERN = r"\d{8}T\d{6}Z"
JOB_NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
PARTIAL = ".partial-"
DAMAGED = ".damaged-"

_ID = re.compile(ID_PATTERN)
_JOB_NAME = re.compile(JOB_NAME_PATTERN)
_PREFIX = re.compile(rf"\A(?:{re.escape(PARTIAL)}|{re.escape(DAMAGED)})")


def is_id(text: str) -> bool:
    """Return whether the text has the form of an id."""
    return _ID.fullmatch(text) is not None


def format_id(seconds: float | None = None) -> str:
    """Return the id for a time in seconds since the epoch (default: now)."""
    return time.strftime(ID_FORMAT, time.gmtime(seconds))


def parse_id(identifier: str) -> datetime.datetime:
    """Return the time that an id states, in UTC. Raises ValueError for another text."""
    return datetime.datetime.strptime(identifier, ID_FORMAT).replace(tzinfo=datetime.timezone.utc)


def list_ids(directory: str | Path) -> list[str]:
    """Return the ids that name directories in a directory, oldest first; empty where the directory does not exist."""
    directory = Path(directory)
    if not directory.is_dir():
        return []
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if is_id(entry.name) and entry.is_dir(follow_symlinks=False))


def new_id(directory: str | Path, now: float | None = None, others: Iterable[str] = ()) -> str:
    """Return an id greater than every id in the directory, partial and damaged archives included, and than `others`.

    It states the time `now` (seconds since the epoch, default: the clock), or, where the clock went back, the second
    after the newest id.
    """
    with os.scandir(directory) as entries:
        names = [_PREFIX.sub("", entry.name, count=1) for entry in entries]
    newest = max([*filter(is_id, names), *others], default="")
    identifier = format_id(now)
    return identifier if identifier > newest else format_id(parse_id(newest).timestamp() + 1)


def is_job_name(text: str) -> bool:
    """Return whether the text can name a job, its directory and its files of settings."""
    return _JOB_NAME.fullmatch(text) is not None


def check_job_name(name: str) -> str:
    """Return the name; raise SauvegardeError if it cannot name a job (a repository's name follows the same rule)."""
    if not is_job_name(name):
        raise SauvegardeError(
            f"{name!r} is not a valid job's name.",
            fix="Use up to 100 letters, digits, '_', '-' and '.', starting with none of the last two.",
        )
    return name


def job_directory(root: str | Path, job: str) -> Path:
    """Return ROOT/JOB. Raises SauvegardeError for a name that could lead elsewhere."""
    return Path(root) / check_job_name(job)
