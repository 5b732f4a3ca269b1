"""Commands of the user's own, before and after a job. No shell: a hook that wants one names it."""

import time

from ..errors import SauvegardeError
from ..system import process


def run(commands, job, when, seconds=None, **values):
    """Run each command (a list of words) to its end, as the job's own user, in a process group that is killed as a
    whole.

    Told by its environment: SAUVEGARDE_JOB, SAUVEGARDE_KIND, SAUVEGARDE_HOST, and SAUVEGARDE_<VALUE> for each of
    `values` (result, archive). The first that fails raises, and so does the one that is not done when all of them
    together have taken `seconds`.
    """
    until = None if seconds is None else time.monotonic() + seconds
    environment = dict(process.BASE_ENVIRONMENT)
    told = dict(values, job=job["name"], kind=job["kind"], host=job["host"])
    environment.update({f"SAUVEGARDE_{name.upper()}": value for name, value in told.items()})
    for words in commands:
        left = None if until is None else max(0, until - time.monotonic())
        result = process.run(words, env=environment, stdout=process.DEVNULL, group=True, checked=False, timeout=left)
        if result.status:
            raise SauvegardeError(
                f"The hook {when} the job failed with status {result.status}: {words[0]}",
                result.stderr,
                f"Run it by hand as the job's user; the job's {when} in the inventory names it.",
            )
