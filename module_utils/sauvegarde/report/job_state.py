"""The state of a job on its host: one small JSON file, replaced whole, that outlives every run.

    {"job", "kind", "host", "last_run": {"started", "ended", "seconds", "exit_code", "id", "problems", "warnings",
     "version"}, "last_success": {"id", "ended", "seconds", "bytes", "stored_bytes"}, "last_verify": {"ended",
     "success"}, "available": archives kept here, "offsite": {repository: {"last_run_success", "last_success", "id"}}}

Times are seconds since the epoch. Keys are absent until there is something to say. While a job runs, `progress.json`
beside it says {"pid", "since", "now", "step", "values"}.
"""

import contextlib
import json
import os
import re
from pathlib import Path

_SURROGATE = re.compile("[\ud800-\udfff]")


def read(path):
    """The state; empty where there is none yet, or where a broken disk left something unreadable."""
    try:
        # Root reads what a job's user can have put there: nothing that leads elsewhere, or lets it wait.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(str(path), flags), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def replace(path, text, mode=0o600, sync=True):
    """Write a file whole or not at all: under a temporary name beside it, synced (unless it can be lost), renamed."""
    path = Path(str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(str(temporary), flags, mode), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask
            file.write(text)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def clean(path):
    """Remove what killed writers of a file left half written beside it. The caller holds the lock that they take."""
    path = Path(str(path))
    for each in path.parent.glob(f".{path.name}.*"):
        if each.name[len(path.name) + 2 :].isdigit():
            with contextlib.suppress(OSError):  # it fails no backup; whatever is wrong is told when the file is written
                each.unlink()


def as_json(values, **options):
    """The values as indented JSON for people, valid UTF-8 though names in them may not be: those bytes are escaped."""
    text = json.dumps(values, indent=1, ensure_ascii=False, **options)
    return _SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def write(path, values):
    replace(path, as_json(values, sort_keys=True) + "\n")
