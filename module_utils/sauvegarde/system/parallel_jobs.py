"""Decide how many files or tables are worked on at once if nobody says it: in backups, restores and verification."""

from __future__ import annotations

import os

_MOST = 4


def default_jobs() -> int:
    """Return one job per core that this process may use, at most 4."""
    return min(_MOST, len(os.sched_getaffinity(0)))
