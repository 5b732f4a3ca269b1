"""Define `init`: write a first inventory from a few questions."""

import argparse

TEXT = "write a first inventory from a few questions: hosts, database, site, where copies go; with a vault for secrets"


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's parser."""
    parser = commands.add_parser("init", help=TEXT, description=TEXT)
    parser.add_argument("directory", metavar="DIRECTORY", help="the new inventory, for example inventories/mine")
    parser.add_argument("--production", metavar="HOST", help="the host with the database to protect")
    parser.add_argument(
        "--development", metavar="HOST", help="a host of developers with its own server; none without it"
    )
    parser.add_argument("--ssh-user", metavar="USER", help="who logs in to the hosts, and may use sudo")
    parser.add_argument("--database", metavar="NAME", help="the database")
    parser.add_argument("--owner", metavar="ROLE", help="its owner; the database's name without it")
    parser.add_argument(
        "--postgis", action=argparse.BooleanOptionalAction, default=None, help="whether it uses PostGIS"
    )
    parser.add_argument("--site", metavar="FOLDER", help="folder of the Django site on the host, with manage.py")
    parser.add_argument("--copies", metavar="ADDRESS", help="restic repository elsewhere: sftp:USER@HOST:PATH, …")
    parser.add_argument(
        "--known-hosts", metavar="FILE", help="ssh's known hosts, for sftp; asked of the host without it"
    )
    parser.add_argument("--escrow", metavar="TEXT", help="where the vault's password is kept besides this machine")
    parser.add_argument(
        "--vault-password-file",
        metavar="FILE",
        help="file of the vault's password; a new one gets a generated password, and must lie outside the checkout",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document, and nothing else, on stdout")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask what is missing, write the inventory, and say what to type next."""
    from sauvegarde_cli import first_inventory
    from sauvegarde_cli.on_call import Settings
    from sauvegarde_cli.playbook_command import Command
    from sauvegarde_cli.playbook_run import Outcome

    written = first_inventory.create(first_inventory.answers(arguments))
    settings = Settings(inventories=(str(written.directory),), is_json=arguments.json)
    command = Command("init", settings, is_reading=True)
    return command.end(Outcome("init"), written.as_dict(), written.lines(), following=written.following())
