"""Run the user's own commands before and after a job. No shell: a hook that needs one names it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..config import Job
from ..errors import SauvegardeError
from ..system import process


def run(commands: Sequence[Sequence[str]], job: Job, when: str, seconds: float | None = None, **values: str) -> None:
    """Run each command (a list of words) to its end, as the job's user, in a process group that is killed as a whole.

    when: `before` or `after`, for errors. seconds: limit for all of them together. Their environment has
    SAUVEGARDE_JOB, SAUVEGARDE_KIND, SAUVEGARDE_HOST, and SAUVEGARDE_<NAME> for each of `values` (result, archive).
    Raises SauvegardeError for the first that fails, TimedOut for the one that the limit ends.
    """
    until = None if seconds is None else time.monotonic() + seconds
    variables = dict(values, job=job.name, kind=job.kind, host=job.host)
    environment = dict(process.BASE_ENVIRONMENT)
    environment.update({f"SAUVEGARDE_{name.upper()}": value for name, value in variables.items()})
    for words in commands:
        remaining = None if until is None else max(0, until - time.monotonic())
        result = process.run(
            words, env=environment, stdout=process.DEVNULL, group=True, checked=False, timeout=remaining
        )
        if result.status:
            raise SauvegardeError(
                f"The hook {when} the job failed with status {result.status}: {words[0]}",
                result.stderr,
                f"Run it by hand as the job's user; the job's {when} in the inventory names it.",
            )
