"""The one error that the engine raises on purpose, and the exit codes that every door hands on."""

OK = 0
FAILED = 1  # nothing was published, the last good archive is untouched
PARTIAL = 3  # the archive is good, but something after it (offsite copy, retention) is not
NO_REPOSITORY = 10
LOCKED = 11  # another run of the same job, or a lock held on a table, stands in the way
WRONG_KEY = 12  # the offsite repository's password
LOGIN = 13  # the database server refused the login: password changed, role gone, pg_hba.conf
DAMAGED = 14  # an archive that is not what it was: checksum, manifest, truncated data
TIMEOUT = 124  # as timeout(1)
CANCELLED = 130  # as a shell after Ctrl-C


class SauvegardeError(Exception):
    """What went wrong, why (a tool's own words kept word for word), what to do, and the exit code.

    The three texts are plain sentences; `why` may have several lines. None of them ever holds a secret.
    """

    def __init__(self, what, why="", fix="", exit_code=FAILED):
        super().__init__(what)
        self.what = what
        self.why = why.strip()
        self.fix = fix
        self.exit_code = exit_code

    def __str__(self):
        lines = [self.what]
        if self.why:
            lines.append(self.why)
        if self.fix:
            lines.append("Fix: " + self.fix)
        return "\n".join(lines)

    def as_dict(self):
        """Plain values for a state file, a module's result or a log line."""
        return {"what": self.what, "why": self.why, "fix": self.fix, "exit_code": self.exit_code}
