"""Read and write the state of a job on its host: one small JSON file, replaced atomically, that outlives every run.

    {"job", "kind", "host", "last_run": {"started", "ended", "seconds", "exit_code", "id", "problems", "warnings",
     "version"}, "last_success": {"id", "ended", "seconds", "bytes", "stored_bytes", "proven", "warnings", "unproven"},
     "last_failure": {"ended", "exit_code", "what", "why", "fix"},
     "last_verify": {"ended", "success"}, "available": archives on the host, "without_job": names of databases,
     "offsite": {repository: {"last_run_success", "last_success", "id"}}}

A job that backs up several databases has `databases` too (backup/database_results.py), and `left_out`: why, by name,
its patterns did not choose a database. Its `last_success` has the newest id and the sums of all archives of the run.

Times are seconds since the epoch. A key is absent until there is something to record.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..system import atomic_file

_SURROGATE = re.compile("[\ud800-\udfff]")


def read(path: str | Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty where there is none, or where it cannot be read."""
    try:
        # Root reads what a job's user can have put there: follow no link, wait for no pipe.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags), encoding="utf-8") as file:
            values = json.load(file)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def as_json(values: Any, sort_keys: bool = False) -> str:
    """Return the values as indented JSON for people, valid UTF-8 even if names in them are not: bytes are escaped."""
    text = json.dumps(values, indent=1, ensure_ascii=False, sort_keys=sort_keys)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def write(path: str | Path, values: Mapping[str, Any]) -> None:
    """Replace the file by the values as JSON."""
    atomic_file.replace(path, as_json(values, sort_keys=True) + "\n")
