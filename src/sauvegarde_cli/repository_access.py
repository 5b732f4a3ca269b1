"""Open a restic repository by its address, for when nothing but the repository is left: no inventory knows it."""

import argparse
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sauvegarde_cli import on_call, playbook_options
from sauvegarde_cli.command_failed import CommandFailed

NAME = "repository"  # what the playbook calls it
USAGE = 2
# What restic reads of its environment, by the kind of the repository.
_ENVIRONMENT = {
    "s3": ("AWS_",),
    "b2": ("B2_",),
    "azure": ("AZURE_",),
    "gs": ("GOOGLE_",),
    "swift": ("OS_", "ST_"),
    "rest": ("RESTIC_REST_",),
    "rclone": ("RCLONE_",),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that open a repository."""
    group = parser.add_argument_group("options of a --repository that is an address, as restic takes it")
    group.add_argument(
        "--repository-password-file",
        metavar="FILE",
        help="its password; without it RESTIC_PASSWORD_FILE, RESTIC_PASSWORD, or a question",
    )
    group.add_argument("--repository-key-file", metavar="FILE", help="private SSH key that opens it, for sftp")
    group.add_argument(
        "--repository-known-hosts", metavar="FILE", help="lines of known hosts, for sftp; without it this user's own"
    )


def add_restore(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    """Add and return the parser of a command that takes the options of a restore."""
    parser = commands.add_parser(name, help=text, description=text, parents=[on_call.options()])
    parser.add_argument("restore_database", nargs="?", metavar="DATABASE", help="name of the database to replace")
    playbook_options.add(parser, "restore", ("restore_database",))
    add_options(parser)
    return parser


def is_address(repository: str) -> bool:
    """Return whether it is an address or a path, and not a name of `backup_offsite`."""
    return ":" in repository or "/" in repository


@dataclass(frozen=True)
class RepositoryAccess:
    """A repository and what opens it. words: the options to type for it once more."""

    address: str
    password: str = field(repr=False)
    ssh_key: str = field(default="", repr=False)
    ssh_known_hosts: str = ""
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, address: str, arguments: argparse.Namespace) -> "RepositoryAccess":
        """Return the access that options, environment and, on a terminal, a person give. Raises CommandFailed."""
        password_file = arguments.repository_password_file or os.environ.get("RESTIC_PASSWORD_FILE")
        key_file = arguments.repository_key_file
        words: list[str] = []
        if password_file:
            password = _read(password_file).partition("\n")[0]
            words += ["--repository-password-file", str(Path(password_file).expanduser().absolute())]
        else:
            password = os.environ.get("RESTIC_PASSWORD", "")
        if not password and not on_call.on_terminal():
            raise CommandFailed(
                f"The repository {address} needs its password.",
                "There is no --repository-password-file, no RESTIC_PASSWORD_FILE and no RESTIC_PASSWORD.",
                "Put it into a file: --repository-password-file FILE.",
                USAGE,
            )
        hosts_file = arguments.repository_known_hosts
        if hosts_file:
            words += ["--repository-known-hosts", str(Path(hosts_file).expanduser().absolute())]
        if key_file:
            words += ["--repository-key-file", str(Path(key_file).expanduser().absolute())]
        prefixes = _ENVIRONMENT.get(address.partition(":")[0], ())
        return cls(
            address,
            password or on_call.ask_secret("Password of the repository: "),
            _read(key_file) if key_file else "",
            _read(hosts_file) if hosts_file else known_hosts(address),
            {name: value for name, value in os.environ.items() if prefixes and name.startswith(prefixes)},
            tuple(words),
        )

    @property
    def secrets(self) -> list[str]:
        """What no log and no report may show."""
        return [secret for secret in (self.password, self.ssh_key, *self.environment.values()) if secret]

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the playbooks that stand for it."""
        settings = {
            "name": NAME,
            "repository": self.address,
            "password": self.password,
            "ssh_key": self.ssh_key,
            "ssh_known_hosts": self.ssh_known_hosts,
            "environment": self.environment,
        }
        return {"restore_repository": NAME, "restore_repositories": [settings]}


def known_hosts(address: str) -> str:
    """Return this user's lines of known hosts for an sftp repository. Raises CommandFailed if there are none."""
    match = re.match(r"sftp:(?://)?(?:[^@/]*@)?(?P<host>\[[^]]*\]|[^:/]+)(?::(?P<port>\d+)/)?", address)
    if not match:
        return ""
    host, port = match["host"].strip("[]"), match["port"]
    name = f"[{host}]:{port}" if port and port != "22" else host
    keys = subprocess.run(["ssh-keygen", "-F", name], capture_output=True, text=True, check=False).stdout
    lines = [line for line in keys.splitlines() if line and not line.startswith("#")]
    if not lines:
        raise CommandFailed(
            f"The host {name} of the repository is not among the known hosts.",
            "Without its key, another host could take its place.",
            f"Log in once (ssh {name}) and compare its key with what its owner says; or --repository-known-hosts FILE.",
            USAGE,
        )
    return "\n".join(lines) + "\n"


def _read(path: str) -> str:
    """Return the text of a file. Raises CommandFailed."""
    try:
        return Path(path).expanduser().read_text()
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read.", error.strerror or str(error), code=USAGE) from error
