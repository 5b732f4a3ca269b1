"""Run the command line of ``./sauvegarde``: parse it, run the command, map what it raises to an exit code."""

import argparse
import sys

from sauvegarde_cli import commands, podman
from sauvegarde_cli.command_failed import CommandFailed

STOPPED = 130


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


def main() -> int:
    """Run the command and return its exit code."""
    arguments = parser().parse_args()
    try:
        return int(arguments.run(arguments))
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
