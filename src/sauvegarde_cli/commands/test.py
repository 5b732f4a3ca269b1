"""Define `test`."""

import argparse

from sauvegarde_cli import check_names


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    parser = commands.add_parser("test", help="lint, unit tests and scenarios on real hosts")
    parser.add_argument("--record", action="store_true", help="write what was tested to docs/supported.json")
    parser.add_argument(
        "names",
        nargs=argparse.REMAINDER,
        metavar="NAME",
        help="one of: " + ", ".join(check_names.names()) + "; words after `engine` go to pytest",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the named tests."""
    from sauvegarde_cli import checks

    return checks.test(arguments.names, arguments.record)
