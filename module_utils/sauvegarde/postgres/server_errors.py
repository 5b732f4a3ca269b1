"""Turn the database server's errors into SauvegardeErrors: the server's own words, and what to do about them."""

from __future__ import annotations

import re

from ..errors import Locked, SauvegardeError

_LOCK_NOT_AVAILABLE = "55P03"
_FIXES = tuple(
    (re.compile(words), fix)
    for words, fix in (
        (
            r"No space left on device|could not (?:extend|write to) file",
            "Free space on the server's disk, and run it again.",
        ),
        (r"max_locks_per_transaction", "Raise max_locks_per_transaction, restart the server, and run it again."),
        (r"out of memory|out of shared memory", "Free memory on the server's host, and run it again."),
        (r"too many clients|remaining connection slots", "End sessions or raise max_connections, and run it again."),
        (
            r"terminating connection due to administrator command|the database system is (?:shutting|starting)",
            "The server was stopped or restarted: run it again once it is up.",
        ),
        (
            r"server closed the connection|terminating connection|no connection to the server|connection .*closed",
            "The session was ended: look in the server's log for the reason (a crash, memory), and run it again.",
        ),
        (r"canceling statement due to user request", "Somebody cancelled it: run it again."),
        (r"canceling statement due to statement timeout", "Take statement_timeout off the role, and run it again."),
        (
            r"in a read-only transaction",
            "The server takes no changes: use its primary, or look at why it is read-only.",
        ),
        (r"permission denied|must be (?:owner|superuser)", "Run it as a superuser of the server."),
    )
)


def server_fix(message: str) -> str:
    """Return what to do about a failure that the server's message explains; '' for any other message."""
    return next((fix for pattern, fix in _FIXES if pattern.search(message)), "")


def database_error(error: Exception, what: str, fix: str = "") -> SauvegardeError:
    """Return a SauvegardeError for an error of psycopg2, with its message; Locked if a lock could not be had in time.

    fix: what to do; by default what `server_fix` says.
    """
    fix = fix or server_fix(str(error))
    if getattr(error, "pgcode", None) == _LOCK_NOT_AVAILABLE:
        return Locked(
            what,
            str(error),
            fix or "See who holds the lock in pg_stat_activity, and run it again once the lock is released.",
        )
    return SauvegardeError(what, str(error), fix)
