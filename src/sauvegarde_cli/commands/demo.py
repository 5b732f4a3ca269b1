"""Define `demo`."""

import argparse


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    text = "lose production, and have it again: install, back up, restore, prove, go back, on hosts of the lab"
    parser = commands.add_parser("demo", help=text, description=text)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--keep", action="store_true", help="leave the hosts standing, to go on playing")
    choice.add_argument("--destroy", action="store_true", help="only remove what an earlier demo has left")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo, or remove its hosts."""
    from sauvegarde_cli import demo
    from sauvegarde_cli.system import as_root

    as_root("Starting the demo's hosts")
    return demo.destroy() if arguments.destroy else demo.run(keep=arguments.keep)
