"""Provide the host's command, `sauvegarde`: run, verify, prune and list backups. Cron starts it, and so can users."""

from __future__ import annotations

import argparse
import json
import os
import sys

from . import VERSION, catalog, config, errors
from .backup import maintenance, supervisor, uncovered_databases
from .backup.stop_signals import StopRequested
from .errors import OK, Cancelled, Damaged, Partial, SauvegardeError
from .report import job_state, journal

_DESCRIPTION = """\
Run, verify, prune and list the backups of this host. Run it as root: only root can read the jobs' settings.
All other work is done as the job's own user. Jobs are described in the inventory (backup_jobs) and written to
/etc/sauvegarde/jobs by the backup role; archives are restored by playbooks/restore.yml."""
_EXAMPLES = """\
examples:
  sauvegarde run elpaso               back up now, as cron does
  sauvegarde verify elpaso            read every archive of the job completely
  sauvegarde prune --dry-run elpaso   which archives would be removed, and why
  sauvegarde list --offsite           every archive of this host and of its repositories, as JSON

exit codes:
"""


def _run(arguments: argparse.Namespace) -> int:
    outcome = supervisor.run_job(arguments.job, arguments.configuration)
    return OK if outcome is None or outcome.may_fail else outcome.exit_code


def _verify(arguments: argparse.Namespace) -> int:
    checks, state_error = maintenance.verify_job(arguments.job, arguments.configuration)
    damaged = [check for check in checks if not check.verified]
    if arguments.json:
        print(json.dumps([check.as_dict() for check in checks], indent=1))
    for check in damaged:
        print(check.problem, file=sys.stderr)
    if state_error is not None:
        if not damaged:
            raise state_error
        print(state_error, file=sys.stderr)
    return Damaged.exit_code if damaged else OK


def _prune(arguments: argparse.Namespace) -> int:
    plan = maintenance.prune_job(arguments.job, arguments.configuration, arguments.dry_run)
    if arguments.json:
        print(json.dumps([decision.as_dict() for decision in plan], indent=1))
    else:
        removed = "would remove" if arguments.dry_run else "removed"
        for decision in plan:
            print("{:13} {}  {}".format("keep" if decision.keep else removed, decision.id, decision.why))
    return OK


def _forget(arguments: argparse.Namespace) -> int:
    done = maintenance.forget_for_others(arguments.repository, arguments.configuration, arguments.dry_run)
    if arguments.json or arguments.dry_run:
        print(json.dumps(done, indent=1))
    return OK


def _list(arguments: argparse.Namespace) -> int:
    archives, problems = catalog.collect(arguments.configuration, arguments.offsite)
    databases = uncovered_databases.listed(arguments.configuration)
    values = {"databases_without_job": databases, "problems": problems}
    print(job_state.as_json({"archives": [entry.as_dict() for entry in archives], **values}))
    return Partial.exit_code if problems else OK


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    codes = "".join(f"  {code:>3}  {meaning}\n" for code, meaning in errors.exit_codes().items())
    top = argparse.ArgumentParser(
        prog="sauvegarde",
        description=_DESCRIPTION,
        epilog=_EXAMPLES + codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--configuration", default=config.CONFIGURATION, help="folder of the settings (%(default)s)")
    top.add_argument("--verbose", action="store_true", help="print debug lines on standard error")
    top.add_argument("--version", action="version", version=VERSION)
    commands = top.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name, function, text in (
        ("run", _run, "back up now: run a job once, as cron does"),
        ("verify", _verify, "read every archive of a job completely; damaged ones are set aside by name"),
        ("prune", _prune, "remove the archives that a job's retention does not keep"),
        ("forget", _forget, "apply retention to an append-only repository that this host keeps for others"),
        ("list", _list, "list every archive and every database without a job, as JSON"),
    ):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(function=function)
        if name == "forget":
            command.add_argument("repository", help="name of the repository, as in backup_forget")
        elif name != "list":
            command.add_argument("job", help="name of the job, as in backup_jobs")
        if name in ("prune", "forget"):
            command.add_argument("--dry-run", action="store_true", help="only print what would be removed, and why")
        if name in ("verify", "prune", "forget"):
            command.add_argument("--json", action="store_true", help="print the result as JSON")
        if name == "list":
            command.add_argument("--offsite", action="store_true", help="list the offsite repositories, too")
    return top


def main(words: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    os.umask(0o077)
    arguments = parser().parse_args(words)
    if arguments.verbose:
        journal.show_debug()
    try:
        code: int = arguments.function(arguments)
        return code
    except SauvegardeError as error:
        print(journal.redact(f"Sauvegarde: {error}"), file=sys.stderr)
        return error.exit_code
    except StopRequested:
        return Cancelled.exit_code
