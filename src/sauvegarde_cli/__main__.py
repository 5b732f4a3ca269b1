"""Define the commands of ``./sauvegarde``."""

import argparse
import sys

from rich.table import Table

from sauvegarde_cli import checks, demo, lab, podman
from sauvegarde_cli.system import CommandFailed, as_root
from sauvegarde_cli.terminal import complain, console, say

# The scenario that `lab up` starts when none is named: one host of every Debian release.
DEFAULT_SCENARIO = "debian"


def lab_up(arguments: argparse.Namespace) -> int:
    """Run `lab up`."""
    as_root("Starting the lab's hosts")
    lab.up(arguments.scenario)
    return lab_list(arguments)


def lab_down(arguments: argparse.Namespace) -> int:
    """Run `lab down`."""
    as_root("Stopping the lab's hosts")
    lab.down(arguments.scenario)
    return 0


def lab_list(arguments: argparse.Namespace) -> int:
    """Run `lab list`."""
    as_root("Listing the lab's hosts")
    hosts = podman.hosts()
    if not hosts:
        say("No host is up.")
        return 0
    table = Table("scenario", "host", "release", "state", "log in with", box=None)
    for host in hosts:
        table.add_row(host.scenario, host.host, host.release, host.state, host.login)
    console.print(table)
    say("Playbooks reach them all by inventories/lab.")
    return 0


def demonstrate(arguments: argparse.Namespace) -> int:
    """Run `demo`."""
    as_root("Starting the demo's hosts")
    return demo.destroy() if arguments.destroy else demo.run(keep=arguments.keep)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="sauvegarde",
        description="Backups that have already been restored: PostgreSQL/PostGIS and Django, with Ansible.",
        epilog="Setting: SAUVEGARDE_DEBIAN_MIRROR='URI [SECURITY_URI]' where apt has no Debian mirror (Ubuntu).",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    text = "lose production, and have it again: install, back up, restore, prove, go back, on hosts of the lab"
    demo_parser = commands.add_parser("demo", help=text, description=text)
    choice = demo_parser.add_mutually_exclusive_group()
    choice.add_argument("--keep", action="store_true", help="leave the hosts standing, to go on playing")
    choice.add_argument("--destroy", action="store_true", help="only remove what an earlier demo has left")
    demo_parser.set_defaults(run=demonstrate)

    lab_parser = commands.add_parser("lab", help="start, stop and list real hosts to try things on")
    actions = lab_parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, action, text in (
        ("up", lab_up, "start the hosts of a scenario"),
        ("down", lab_down, "stop them and leave nothing behind"),
        ("list", lab_list, "the hosts that are up and how to reach them"),
    ):
        one = actions.add_parser(name, help=text, description=text)
        one.set_defaults(run=action)
        if name != "list":
            one.add_argument(
                "scenario",
                nargs="?",
                metavar="SCENARIO",
                default=DEFAULT_SCENARIO if name == "up" else None,
                help="a folder of molecule/ (without it: %s)"
                % (DEFAULT_SCENARIO if name == "up" else "every scenario"),
            )

    test_parser = commands.add_parser("test", help="lint, unit tests and scenarios on real hosts")
    test_parser.add_argument(
        "names",
        nargs=argparse.REMAINDER,
        metavar="NAME",
        help="one of: " + ", ".join(checks.names()) + "; words after `engine` go to pytest",
    )
    test_parser.set_defaults(run=lambda arguments: checks.test(arguments.names))

    bench_parser = commands.add_parser("bench", help="measure against what people use today")
    bench_parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join(checks.benchmarks())}")
    bench_parser.add_argument(
        "words", nargs="*", metavar="WORD", help="what the benchmark itself takes: see benchmarks/"
    )
    bench_parser.set_defaults(run=lambda arguments: checks.bench(arguments.name, arguments.words))
    return top


def main() -> int:
    """Run the command and return its exit code."""
    arguments = parser().parse_args()
    try:
        return int(arguments.run(arguments))
    except CommandFailed as failure:
        complain(failure.what, failure.why, failure.fix)
        return failure.code
    except podman.LabFailed as failure:
        complain(str(failure))
        return 1
    except KeyboardInterrupt:
        complain("stopped by the user.", fix="Run it again: it removes what is half done first.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
