"""Ask for the name of what will be replaced."""

from sauvegarde_cli import on_call
from sauvegarde_cli.command_failed import CommandFailed

USAGE = 2


def typed(expected: str, words: str | None, verb: str) -> str:
    """Return the confirmation, from the command line or as a person types it. Raises CommandFailed for another name."""
    if words is None:
        if not on_call.on_terminal():
            raise missing(expected, verb)
        words = input(f"To {verb} it, type {expected}: ").strip()
    if words != expected and expected not in words.split(","):
        raise CommandFailed(
            f"{words!r} is not {expected}. Nothing was changed.",
            fix=f"If {expected} is what you mean: --confirm {expected}",
            code=USAGE,
        )
    return words


def missing(expected: str, verb: str) -> CommandFailed:
    """Return the error of a command that may not ask."""
    return CommandFailed(
        "Nothing was confirmed, and nobody can be asked here.",
        f"It would {verb} {expected}.",
        f"If that is what you mean: --confirm {expected}",
        USAGE,
    )
