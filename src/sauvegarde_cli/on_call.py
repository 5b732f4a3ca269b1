"""Define the options that all on-call commands have, and what they mean to a run of a playbook."""

import argparse
import getpass
import json
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sauvegarde_cli import inventory
from sauvegarde_cli.command_failed import ROOT, CommandFailed

USAGE = 2
HERE = ("localhost,",)  # the inventory that is this machine alone
_LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
VAULT_PROMPT, BECOME_PROMPT = r"Vault password.*:\s*?$", r"BECOME password.*:\s*?$"


def options() -> argparse.ArgumentParser:
    """Return a parent parser with the options of every on-call command."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("options of all commands on call")
    group.add_argument(
        "-i",
        "--inventory",
        action="append",
        default=[],
        metavar="PATH",
        help="inventory; without it ANSIBLE_INVENTORY, or the only one in inventories/",
    )
    group.add_argument("-l", "--limit", default="", metavar="HOSTS", help="only these hosts")
    group.add_argument(
        "-C", "--check", action="store_true", help="only say what would be done, where that can be known"
    )
    group.add_argument("--json", action="store_true", help="print one JSON document, and nothing else, on stdout")
    group.add_argument(
        "-v", "--verbose", action="count", default=0, help="write more into the log; -vvv for connections"
    )
    group.add_argument(
        "-e",
        "--extra-vars",
        action="append",
        default=[],
        metavar="VARIABLES",
        help="more variables of the playbook: NAME=VALUE, JSON, or @FILE (secrets: @FILE)",
    )
    group.add_argument(
        "--vault-password-file", action="append", default=[], metavar="FILE", help="as ansible-playbook has it"
    )
    group.add_argument("-J", "--ask-vault-pass", action="store_true", help="ask for the vault's password")
    group.add_argument("-K", "--ask-become-pass", action="store_true", help="ask for the password of sudo")
    return parser


@dataclass(frozen=True)
class Settings:
    """What the options of all on-call commands say.

    passwords: what Ansible's prompts are answered with, by their patterns. They are never shown.
    """

    inventories: tuple[str, ...]
    limit: str = ""
    check: bool = False
    verbosity: int = 0
    is_json: bool = False
    variables: dict[str, Any] = field(default_factory=dict)
    variable_files: tuple[str, ...] = ()
    vault_password_files: tuple[str, ...] = ()
    passwords: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, arguments: argparse.Namespace, inventories: tuple[str, ...] | None = None) -> "Settings":
        """Return the settings of parsed arguments; asks for passwords. Raises CommandFailed.

        inventories: used where the arguments name none.
        """
        variables, files = extra_variables(arguments.extra_vars)
        if inventories is None or arguments.inventory:
            inventories = inventory.choose(arguments.inventory)
        if inventories == HERE:
            variables = {**_LOCAL, **variables}
        passwords = {}
        for is_asked, pattern, prompt in (
            (arguments.ask_vault_pass, VAULT_PROMPT, "Vault password: "),
            (arguments.ask_become_pass, BECOME_PROMPT, "BECOME password: "),
        ):
            if is_asked:
                passwords[pattern] = ask_secret(prompt)
        return cls(
            inventories=inventories,
            limit=arguments.limit,
            check=arguments.check,
            verbosity=arguments.verbose,
            is_json=arguments.json,
            variables=variables,
            variable_files=files,
            vault_password_files=tuple(
                str(Path(name).expanduser().absolute()) for name in arguments.vault_password_file
            ),
            passwords=passwords,
        )

    @property
    def secrets(self) -> list[str]:
        """What no log and no report may show."""
        return [secret for secret in self.passwords.values() if secret]


def extra_variables(words: list[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the variables of `-e` and the files it names, as ansible-playbook reads them. Raises CommandFailed."""
    variables: dict[str, Any] = {}
    files = []
    for word in words:
        if word.startswith("@"):
            files.append(str(Path(word[1:]).expanduser().absolute()))
        elif word.lstrip().startswith("{"):
            try:
                variables.update(json.loads(word))
            except ValueError as error:
                raise CommandFailed(
                    f"-e {word} is not JSON.", str(error), "Write it as '{\"NAME\": VALUE}'.", USAGE
                ) from error
        else:
            for pair in shlex.split(word):
                name, is_pair, value = pair.partition("=")
                if not is_pair:
                    raise CommandFailed(
                        f"-e {word} sets no variable.", fix="Write NAME=VALUE, JSON, or @FILE.", code=USAGE
                    )
                variables[name] = value
    return variables, tuple(files)


def on_terminal() -> bool:
    """Return whether a person can be asked: input and output are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask_secret(prompt: str) -> str:
    """Return a secret that a person types. Raises CommandFailed without a terminal."""
    if not sys.stdin.isatty():
        raise CommandFailed(
            f"{prompt.rstrip(': ')} cannot be asked for: this is no terminal.",
            fix="Give it in a file: --vault-password-file, or become_password_file in ansible.cfg.",
            code=USAGE,
        )
    return getpass.getpass(prompt)


def our_command() -> str:
    """Return what the user types to start the command."""
    return "./sauvegarde" if Path.cwd() == ROOT else str(ROOT / "sauvegarde")
