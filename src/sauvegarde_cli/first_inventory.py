"""Write a first inventory: ask what is missing, generate the secrets, encrypt them, and write all files or none."""

import argparse
import getpass
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sauvegarde_cli import on_call
from sauvegarde_cli.command_failed import ROOT, CommandFailed

USAGE = 2
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z")
_ROLE = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
_SFTP = re.compile(r"sftp:(?://)?(?:[^@/]+@)?([A-Za-z0-9.-]+)[:/]")
UNKNOWN_KEY = "REPLACE-ME"  # in place of a host key that could not be asked for


@dataclass(frozen=True)
class Answers:
    """What the inventory is made from. password: of the vault; empty if it is in, or goes to, the file."""

    directory: Path
    production: str
    database: str
    owner: str
    development: str = ""
    ssh_user: str = ""
    postgis: bool = True
    site: str = ""
    copies: str = ""
    known_hosts: str = ""
    escrow: str = ""
    password_file: Path | None = None
    password: str = field(default="", repr=False)

    @property
    def copies_host(self) -> str:
        """The host that copies go to by sftp; empty for any other repository."""
        match = _SFTP.match(self.copies)
        return match[1] if match else ""


@dataclass(frozen=True)
class Written:
    """What was written. public_key: the line that the account for copies needs."""

    directory: Path
    files: tuple[str, ...]
    password_file: Path | None
    public_key: str
    host_key_known: bool
    copies_host: str
    escrow: str

    def as_dict(self) -> dict[str, Any]:
        """Return the keys of `init --json`."""
        values = {**asdict(self), "directory": str(self.directory), "files": list(self.files)}
        return {**values, "password_file": str(self.password_file or "")}

    def lines(self) -> list[str]:
        """Return what people read."""
        lines = [f"Written: {self.directory}: {', '.join(self.files)}"]
        if self.password_file:
            lines.append(f"Vault:   its password is in {self.password_file}, which only you can read.")
        lines.append("         Keep a copy of it elsewhere: without it no offsite archive can be read.")
        if self.public_key:
            lines.append(f"Key:     let it in on {self.copies_host}: {self.public_key}")
        if self.copies_host and not self.host_key_known:
            lines.append(f"Missing: {self.copies_host} did not say its host key. Write the line of")
            lines.append(f"         ssh-keyscan -t ed25519 {self.copies_host} into group_vars/backup/main.yml.")
        return lines

    def following(self) -> list[str]:
        """Return the commands to type next."""
        shown = str(self.directory).removeprefix(f"{ROOT}/")
        secret = f" ANSIBLE_VAULT_PASSWORD_FILE={shlex.quote(str(self.password_file))}" if self.password_file else ""
        ask = "" if self.password_file else " -J"
        return [
            f"export ANSIBLE_INVENTORY={shlex.quote(shown)}{secret}",
            f".venv/bin/ansible-playbook playbooks/site.yml --check --diff{ask}",
            f".venv/bin/ansible-playbook playbooks/site.yml{ask}",
            f"./sauvegarde backup{ask}",
            f"./sauvegarde list{ask}",
        ]


def answers(arguments: argparse.Namespace, ask: Callable[[str], str] = input) -> Answers:
    """Return the answers of the options; ask for what is missing on a terminal. Raises CommandFailed, a usage error."""
    directory = _empty(Path(arguments.directory).expanduser())
    asking = on_call.on_terminal() and not arguments.json
    missing = [f"--{name}" for name in ("production", "database") if not getattr(arguments, name)]
    if missing and not asking:
        raise CommandFailed(
            f"init needs {' and '.join(missing)}.", "This is no terminal, so nothing can be asked.", code=USAGE
        )

    def value(name: str, question: str, default: str = "") -> str:
        answer = getattr(arguments, name)
        if answer is None and asking:
            answer = ask(f"{question}{f' [{default}]' if default else ''}: ").strip()
        return str(answer or default)

    production = _checked(
        value("production", "Host with the database to protect"), _HOST, "a host's name", "production"
    )
    database = value("database", "Database")
    if not database or "\n" in database:
        raise CommandFailed("The database has no name.", fix="Give it with --database.", code=USAGE)
    owner = _checked(value("owner", "Its owner", database), _ROLE, "a role of small letters, digits and _", "owner")
    development = value("development", "Host of developers (Enter: none)")
    postgis = arguments.postgis
    if postgis is None:
        postgis = not asking or ask("Does it use PostGIS? [Y/n] ").strip().lower() in ("", "y", "yes")
    copies = value("copies", "Restic repository for copies elsewhere, as sftp:USER@HOST:PATH (Enter: none)")
    password_file, password = _password(arguments, asking)
    return Answers(
        directory=directory,
        production=production,
        development=_checked(development, _HOST, "a host's name", "development") if development else "",
        ssh_user=value("ssh_user", "Who logs in to the hosts, and may use sudo (Enter: ssh decides)"),
        database=database,
        owner=owner,
        postgis=postgis,
        site=value("site", "Folder of the Django site there (Enter: none)"),
        copies=copies,
        known_hosts=_known_hosts(arguments.known_hosts),
        escrow=value("escrow", "Where is the vault's password kept, besides this machine? (Enter: nowhere yet)"),
        password_file=password_file,
        password=password,
    )


def _empty(directory: Path) -> Path:
    """Return the absolute path of a directory that is new or empty. Raises CommandFailed."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CommandFailed(
            f"{directory} is not empty. Nothing was written.",
            "A first inventory goes into a new directory, so that none of yours is lost.",
            "Name another directory.",
            USAGE,
        )
    return directory.absolute()


def _checked(text: str, pattern: "re.Pattern[str]", expected: str, option: str) -> str:
    if not pattern.match(text):
        raise CommandFailed(f"{text!r} is not {expected}.", fix=f"Give it with --{option}.", code=USAGE)
    return text


def _known_hosts(name: str | None) -> str:
    if not name:
        return ""
    try:
        return Path(name).expanduser().read_text().strip()
    except OSError as error:
        raise CommandFailed(f"{name} cannot be read.", str(error), code=USAGE) from error


def _password(arguments: argparse.Namespace, asking: bool) -> tuple[Path | None, str]:
    """Return the file of the vault's password, and the password if a person typed it."""
    name = arguments.vault_password_file
    if not name and asking:
        typed = getpass.getpass("Password of the vault (Enter: generate one into a file): ")
        if typed and typed != getpass.getpass("Once more: "):
            raise CommandFailed("The two passwords differ. Nothing was written.", code=USAGE)
        if typed:
            return None, typed
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = Path(name).expanduser() if name else home / "sauvegarde" / f"{Path(arguments.directory).name}.vault-password"
    path = path.absolute()
    for tree in (ROOT, Path(arguments.directory).expanduser().absolute()):
        if path.is_relative_to(tree) and not path.exists():
            raise CommandFailed(
                f"The vault's password must not lie in {tree}: {path}",
                "What lies there ends in git, or beside what it protects.",
                "Name another file with --vault-password-file.",
                USAGE,
            )
    return path, ""


def _vault_password(values: Answers) -> str:
    """Return the vault's password: as typed, of its file, or a new one, which is written to the file."""
    if values.password_file is None:
        return values.password
    path = values.password_file
    if path.exists():
        return path.read_text().strip()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = secrets.token_urlsafe(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(password + "\n")
    return password


def create(values: Answers) -> Written:
    """Write the inventory; return what was written. Nothing is left of one that could not be completed."""
    key, public_key = _new_key() if values.copies_host else ("", "")
    known = values.known_hosts or (_scan(values.copies_host) if values.copies_host else "")
    files = {
        "hosts.yml": _hosts(values),
        "group_vars/all/main.yml": _of_all(values),
        "group_vars/all/vault.yml": _encrypted(_vault(values, key), _vault_password(values)),
        "group_vars/postgresql/main.yml": _of_postgresql(values),
        "group_vars/backup/main.yml": _of_backup(values, known),
    }
    if values.site:
        files["group_vars/production/main.yml"] = _of_site(values)
    values.directory.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{values.directory.name}-", dir=values.directory.parent))
    try:
        for name, text in files.items():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            (stage / name).write_text(text)
        (stage / "group_vars/all/vault.yml").chmod(0o600)
        stage.chmod(0o755)
        stage.rename(values.directory)  # over an empty directory, too
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    return Written(
        values.directory,
        tuple(files),
        values.password_file,
        public_key,
        bool(known),
        values.copies_host,
        values.escrow,
    )


def _new_key() -> tuple[str, str]:
    """Return a new private key for sftp and the line of its public key."""
    if not shutil.which("ssh-keygen"):
        raise CommandFailed("There is no ssh-keygen, which makes the key for sftp.", fix="Install openssh-client.")
    with tempfile.TemporaryDirectory(prefix="sauvegarde-key-") as folder:
        path = Path(folder) / "key"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "sauvegarde", "-f", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        return path.read_text(), path.with_suffix(".pub").read_text().strip()


def _scan(host: str) -> str:
    """Return the host key that a host says now; empty if it does not answer."""
    if not shutil.which("ssh-keyscan"):
        return ""
    command = ["ssh-keyscan", "-T", "5", "-t", "ed25519", host]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except subprocess.TimeoutExpired:
        return ""
    return "\n".join(line for line in done.stdout.splitlines() if line and not line.startswith("#"))


def _encrypted(text: str, password: str) -> str:
    from ansible.parsing.vault import VaultLib, VaultSecret

    secret = VaultSecret(password.encode())
    encrypted: bytes = VaultLib([("default", secret)]).encrypt(text, secret)
    return encrypted.decode()


def _yaml(value: object) -> str:
    """Return a value as YAML: a JSON text is one."""
    return json.dumps(value, ensure_ascii=False)


def _hosts(values: Answers) -> str:
    lines = ["---", "production:", "  vars:", "    sauvegarde_environment: production", "  hosts:"]
    lines.append(f"    {values.production}:")
    if values.development:
        lines += ["development:", "  vars:", "    sauvegarde_environment: development", "  hosts:"]
        lines.append(f"    {values.development}:")
    lines += ["# Hosts with a PostgreSQL server.", "postgresql:", "  children:", "    production:"]
    lines += ["    development:"] if values.development else []
    lines += ["# Hosts with backup jobs.", "backup:", "  children:", "    production:"]
    lines += ["# Hosts that tidy append-only repositories for others (backup_forget): none yet.", "repository:"]
    return "\n".join(lines) + "\n"


def _of_all(values: Answers) -> str:
    lines = ["---"]
    if values.ssh_user:
        lines.append(f"ansible_user: {_yaml(values.ssh_user)}")
    lines += [
        "# Where the vault's password is kept besides the machine of whoever runs this. Without it no offsite archive",
        "# can be read.",
        f"sauvegarde_escrow: {_yaml(values.escrow)}",
    ]
    return "\n".join(lines) + "\n"


def _vault(values: Answers, key: str) -> str:
    lines = ["---", f"vault_{values.owner}_password: {_yaml(secrets.token_urlsafe(24))}"]
    if values.copies:
        lines.append(f"vault_restic_password: {_yaml(secrets.token_urlsafe(32))}")
    if key:
        lines += ["vault_ssh_key: |", *(f"  {line}" for line in key.splitlines())]
    return "\n".join(lines) + "\n"


def _of_postgresql(values: Answers) -> str:
    lines = [
        "---",
        "# All of the role's variables: roles/postgresql/README.md.",
        "postgresql_version: distribution",
        "postgresql_roles:",
        f"  - name: {values.owner}",
        f'    password: "{{{{ vault_{values.owner}_password }}}}"',
        "  # Who the backups read as, without a password. Before PostgreSQL 14: [LOGIN, SUPERUSER], and no member_of.",
        "  - name: sauvegarde",
        "    attributes: [LOGIN, BYPASSRLS]",
        "    member_of: [pg_read_all_data]",
        "    settings: {lo_compat_privileges: true}",
        "postgresql_databases:",
        f"  - name: {_yaml(values.database)}",
        f"    owner: {values.owner}",
    ]
    lines += ["    extensions:", "      - name: postgis"] if values.postgis else []
    return "\n".join(lines) + "\n"


def _of_backup(values: Answers, known: str) -> str:
    job = re.sub(r"[^A-Za-z0-9_.-]+", "-", values.database).strip("-.") or "database"
    lines = [
        "---",
        "# All of the role's variables: roles/backup/README.md.",
        "backup_jobs:",
        f"  - name: {job}",
        "    kind: pg_dump",
        f"    database: {_yaml(values.database)}",
        "    schedule: daily",
        "  # Roles, and what belongs to databases rather than to their tables: a restore on a new host needs it.",
        f"  - name: {'globals' if job != 'globals' else 'roles'}",
        "    kind: globals",
        "    schedule: daily",
    ]
    if not values.copies:
        return "\n".join([*lines, "# Copies on another machine: without them the archives die with the host.",
                          "backup_offsite: []"]) + "\n"  # fmt: skip
    lines += [
        "backup_offsite:",
        "  - name: vault",
        f"    repository: {_yaml(values.copies)}",
        '    password: "{{ vault_restic_password }}"',
    ]
    if values.copies_host:
        key = known or f"{values.copies_host} ssh-ed25519 {UNKNOWN_KEY}"
        lines += ['    ssh_key: "{{ vault_ssh_key }}"', f"    ssh_known_hosts: {_yaml(key)}"]
    return "\n".join(lines) + "\n"


def _of_site(values: Answers) -> str:
    site = values.site.rstrip("/")
    return "\n".join([
        "---",
        "# The Django site, for playbooks/migrate.yml and fixtures.yml. Correct what differs.",
        "django_site:",
        f"  path: {_yaml(site)}",
        f"  python: {_yaml(site + '/.venv/bin/python')}",
        f"  settings: {_yaml(Path(site).name + '.settings')}",
        f"  env_file: {_yaml(site + '/.env')}",
        f"  user: {values.owner}",
    ]) + "\n"  # fmt: skip
