"""Commands of the user's own, before and after a job. No shell: a hook that wants one names it."""

from . import process
from .errors import SauvegardeError


def run(commands, job, when, **values):
    """Run each command (a list of words) to its end, as the job's own user, in a process group that is killed as a
    whole.

    Told by its environment: SAUVEGARDE_JOB, SAUVEGARDE_KIND, SAUVEGARDE_HOST, and SAUVEGARDE_<VALUE> for each of
    `values` (result, archive). The first that fails raises.
    """
    environment = dict(process.BASE_ENVIRONMENT)
    told = dict(values, job=job["name"], kind=job["kind"], host=job["host"])
    environment.update({f"SAUVEGARDE_{name.upper()}": value for name, value in told.items()})
    for words in commands:
        result = process.run(words, env=environment, stdout=process.DEVNULL, group=True, checked=False)
        if result.status:
            raise SauvegardeError(
                f"The hook {when} the job failed with status {result.status}: {words[0]}",
                result.stderr,
                f"Run it by hand as the job's user; the job's {when} in the inventory names it.",
            )
