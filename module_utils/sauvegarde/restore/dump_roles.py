"""Create the roles that a dump names, before anything else: as a globals file describes them, or without login.

A globals file is the output of pg_dumpall --globals-only, or one of our archives of the kind `globals`.
What a source needs: source_needs.py. What the target lacks: target_checks.py.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from ..archive import archive_reader
from ..errors import SauvegardeError
from ..postgres import postgres_server
from .dump import cluster_dump, dump_file
from .dump.lexer import statements
from .dump.sql_text import IDENTIFIER, unquoted

NAME = "globals.sql"
_ROLE = re.compile(rf"(?:CREATE|ALTER) (?:ROLE|USER) ({IDENTIFIER})( IN DATABASE ({IDENTIFIER}))?")
_MEMBER = re.compile(
    rf"GRANT ({IDENTIFIER}) TO ({IDENTIFIER})((?: WITH .*?)?)(?: GRANTED BY {IDENTIFIER})?;", re.DOTALL
)
_SUPERUSER = re.compile(rf"ALTER ROLE {IDENTIFIER} WITH SUPERUSER ")
_ADMIN = re.compile("ADMIN (OPTION|TRUE)")


@dataclass(frozen=True)
class Membership:
    """`member` is a member of `role`. options: the WITH clause of the GRANT, '' for none."""

    role: str
    member: str
    options: str


@dataclass(frozen=True)
class DatabaseSetting:
    """A statement that sets something for a role in one database only."""

    database: str
    role: str
    statement: str


@dataclass(frozen=True)
class Globals:
    """What a globals file states about roles. roles: name → its CREATE and ALTER statements."""

    roles: dict[str, list[str]] = field(default_factory=dict)
    memberships: list[Membership] = field(default_factory=list)
    settings: list[DatabaseSetting] = field(default_factory=list)


def _read_sql(path: Path) -> tuple[bytes, bool]:
    """Return (the SQL of the roles, whether it is complete).

    Of a file, in layers or not, up to its first database; or of one of our archives, in its stored or its plain form.
    """
    if not path.is_dir():
        with dump_file.open_dump(dump_file.detect(path)) as stream:
            return cluster_dump.globals_of(stream)
    if (path / NAME).exists():
        archive_reader.verify_plain(path)
        return cluster_dump.globals_of(io.BytesIO((path / NAME).read_bytes()))
    with tempfile.TemporaryDirectory() as folder:
        archive_reader.expand(path, Path(folder) / "plain")
        return cluster_dump.globals_of(io.BytesIO((Path(folder) / "plain" / NAME).read_bytes()))


def read(path: str) -> Globals:
    """Return the Globals in a file, empty ones for an empty path."""
    result = Globals()
    if not path:
        return result
    data, complete = _read_sql(Path(path))
    if not complete:
        raise SauvegardeError(
            f"The globals file {path} is not whole.",
            "Its closing line, `PostgreSQL database cluster dump complete`, is missing.",
            "Make it again with pg_dumpall --globals-only.",
        )
    text = cluster_dump.decoded(data)
    if text is None:
        raise SauvegardeError(
            f"The globals file {path} is not in the encoding that it states.",
            f"Its client_encoding is {cluster_dump.encoding_of(data)}.",
            "Make it again with PGCLIENTENCODING=UTF8 pg_dumpall --globals-only, or correct its names.",
        )
    for encoded in statements(text.encode("utf-8")):
        statement = encoded.decode("utf-8")
        role = _ROLE.match(statement)
        member = _MEMBER.match(statement)
        if role and role.group(2):
            result.settings.append(DatabaseSetting(unquoted(role.group(3)), unquoted(role.group(1)), statement))
        elif role:
            result.roles.setdefault(unquoted(role.group(1)), []).append(statement)
        elif member:
            options: str = member.group(3)
            result.memberships.append(Membership(unquoted(member.group(1)), unquoted(member.group(2)), options))
    return result


def existing(connection: Connection) -> set[str]:
    """Return the names of the server's roles."""
    return {name for (name,) in postgres_server.query(connection, "SELECT rolname FROM pg_catalog.pg_roles")}


def superusers(names: Iterable[str], role_file: Globals) -> set[str]:
    """Return those of the roles that the globals file makes superusers."""
    return {name for name in names if any(map(_SUPERUSER.match, role_file.roles.get(name, ())))}


def needed(role_file: Globals, names: Iterable[str]) -> set[str]:
    """Return those of the roles that the globals file describes, and all roles in it that they are members of."""
    result = set(names) & set(role_file.roles)
    while True:
        more = {
            membership.role
            for membership in role_file.memberships
            if membership.member in result and membership.role in role_file.roles
        } - result
        if not more:
            return result
        result |= more


def create(connection: Connection, names: Collection[str], role_file: Globals) -> list[str]:
    """Create those of the roles that the server lacks; return their names. Existing roles are never changed.

    Roles that the globals file describes get their passwords, settings, and memberships among the roles that exist
    then; all others have neither login nor privileges. Statements with password hashes stay out of errors and of the
    server's log.
    """
    present = existing(connection)
    created = [name for name in role_file.roles if name in names and name not in present]
    postgres_server.execute(connection, "SET log_statement = 'none'; SET log_min_error_statement = 'panic'")
    postgres_server.execute(connection, "SET log_min_duration_statement = -1")
    try:
        postgres_server.execute(connection, "BEGIN")
        for name in created:
            for statement in role_file.roles[name]:
                postgres_server.execute(connection, statement)
        _grant_memberships(connection, role_file.memberships, present, set(created))
        for name in sorted(set(names) - present - set(created)):
            postgres_server.execute(connection, sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
            created.append(name)
        postgres_server.execute(connection, "COMMIT")
    except psycopg2.Error as error:
        postgres_server.execute(connection, "ROLLBACK")
        raise SauvegardeError(
            "The roles could not be created.",
            error.diag.message_primary or "",
            "Create the missing roles by hand, then run the restore again.",
        ) from None
    finally:
        postgres_server.execute(connection, "RESET log_statement; RESET log_min_error_statement")
        postgres_server.execute(connection, "RESET log_min_duration_statement")
    return created


def _grant_memberships(
    connection: Connection, memberships: Iterable[Membership], present: set[str], created: set[str]
) -> None:
    """Grant the memberships that a created role is part of, predefined roles included."""
    for membership in memberships:
        names = {membership.role, membership.member}
        if not names & created or not names <= present | created:
            continue
        options = membership.options
        if connection.server_version < 160000:  # INHERIT and SET are options of a membership from 16 on
            options = " WITH ADMIN OPTION" if _ADMIN.search(options) else ""
        postgres_server.execute(
            connection,
            sql.SQL("GRANT {} TO {}" + options).format(
                sql.Identifier(membership.role), sql.Identifier(membership.member)
            ),
        )
