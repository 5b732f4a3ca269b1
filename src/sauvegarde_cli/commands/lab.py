"""Define `lab`."""

import argparse

# The scenario that `lab up` starts when none is named: one host of every Debian release.
DEFAULT_SCENARIO = "debian"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser, with one for each action."""
    parser = commands.add_parser("lab", help="start, stop and list real hosts to try things on")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, action, text in (
        ("up", start, "start the hosts of a scenario"),
        ("down", stop, "stop them and leave nothing behind"),
        ("list", show, "the hosts that are up and how to reach them"),
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


def start(arguments: argparse.Namespace) -> int:
    """Run `lab up`."""
    from sauvegarde_cli import lab
    from sauvegarde_cli.system import as_root

    as_root("Starting the lab's hosts")
    lab.up(arguments.scenario)
    return show(arguments)


def stop(arguments: argparse.Namespace) -> int:
    """Run `lab down`."""
    from sauvegarde_cli import lab
    from sauvegarde_cli.system import as_root

    as_root("Stopping the lab's hosts")
    lab.down(arguments.scenario)
    return 0


def show(_arguments: argparse.Namespace) -> int:
    """Run `lab list`."""
    from rich.table import Table

    from sauvegarde_cli import podman
    from sauvegarde_cli.system import as_root
    from sauvegarde_cli.terminal import console, say

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
