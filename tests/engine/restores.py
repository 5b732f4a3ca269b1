"""Call a restore's operations with the plain values that a module's parameters are."""

from pathlib import Path

from sauvegarde.restore import previous_databases, restore_plan, restore_run, restore_swap
from sauvegarde.restore.request import RestoreRequest
from sauvegarde.targets.postgresql_target import PostgresqlTarget
from sauvegarde.targets.target_choice import choose_target


def target(values):
    return choose_target(values["database"], values.get("connection", {}), values.get("directory", "/nonexistent"))


def request(values):
    return RestoreRequest.from_values(values)


def fill(values, identifier=""):
    """Returns the final state of the run."""
    return restore_run.fill(request(values), identifier)


def plan(values, confirmation=None):
    """Returns the plan as a module does."""
    return restore_plan.make_plan(request(values), confirmation).as_dict()


def waiting(values):
    """Returns the state of the run that waits for its swap, or None."""
    return restore_run.waiting_run(request(values))


def swap_in(values, identifier, **options):
    return restore_swap.swap_in(target(values), identifier, **options)


def proven(values, identifier):
    return restore_swap.proven_run(target(values), identifier)


def roll_back(values, name=""):
    return restore_swap.roll_back(target(values), name).as_dict()


def kept(values):
    return [database.as_dict() for database in target(values).kept()]


def remove(values, name):
    return previous_databases.remove(target(values), name)


def roll_back_unrecorded(server, database, identifier):
    """A rollback by the target alone, which records nothing in the runs."""
    return PostgresqlTarget(database, server, Path("/nonexistent")).roll_back(identifier).as_dict()
