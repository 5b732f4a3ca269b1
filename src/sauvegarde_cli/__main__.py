"""Run the command line of ``./sauvegarde``: parse it, run the command, map what it raises to an exit code."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from sauvegarde_cli import commands, podman
from sauvegarde_cli.command_failed import CommandFailed

USAGE, STOPPED = 2, 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="sauvegarde",
        description="Backups that have already been restored: PostgreSQL/PostGIS and Django, with Ansible.",
        epilog="Settings: SAUVEGARDE_PYTHON=python3.13, the Python to run on where it is not python3; "
        "SAUVEGARDE_DEBIAN_MIRROR='URI [SECURITY_URI]' where apt has no Debian mirror (Ubuntu).",
    )
    commands.register(top.add_subparsers(title="commands", metavar="COMMAND", required=True))
    return top


def names_inventory_only(words: Sequence[str]) -> bool:
    """Return whether a command line has no command: no words at all, or only those that name the inventory."""
    return not words or words[0].startswith(("-i", "--inventory"))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run the command, or show the first screen without one; return the exit code."""
    # A terminal that is closed ends a command as Ctrl-C does: nothing goes on unseen, no private file is left.
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, _interrupt)
    words = sys.argv[1:]
    if not names_inventory_only(words):
        return start(words)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        parser().print_help()
        return USAGE
    return guarded(lambda: first_screen(words))


def first_screen(words: Sequence[str]) -> int:
    """Show the first screen and its menu; return the exit code. words: those that name the inventory."""
    from sauvegarde_cli import first_screen

    return first_screen.run(start, words)


def start(words: Sequence[str]) -> int:
    """Carry out a command line and return its exit code."""
    try:
        arguments = parser().parse_args(words)
    except SystemExit as ended:  # argparse has printed the help, or what is wrong
        return int(ended.code or 0)
    return guarded(lambda: int(arguments.run(arguments)))


def guarded(work: Callable[[], int]) -> int:
    """Return the work's exit code; print what it raises, and return the exit code of that."""
    try:
        return work()
    except CommandFailed as failure:
        from sauvegarde_cli.terminal import complain

        complain(failure.what, failure.why, failure.fix)
        return failure.code
    except podman.LabFailed as failure:
        from sauvegarde_cli.terminal import complain

        complain(str(failure))
        return 1
    except KeyboardInterrupt:
        from sauvegarde_cli.terminal import complain

        complain("stopped by the user.", fix="Run it again: it removes what is half done first.")
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
