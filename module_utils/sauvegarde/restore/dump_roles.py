"""Roles that a dump names: made from a globals file (pg_dumpall --globals-only), or plainly, before anything else."""

import io
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import psycopg2
from psycopg2 import sql

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


class Globals(NamedTuple):
    """What pg_dumpall said of roles.

    roles: name → its CREATE and ALTER statements. members: (role, member, options). settings: those that hold in one
    database only, (database, role, statement).
    """

    roles: dict
    members: list
    settings: list


def _bytes(path):
    """(the SQL of the roles, whether it is whole): of a file, packed or not, up to its first database; or of an archive
    of ours of the kind `globals`, in its stored or its plain form."""
    if not path.is_dir():
        with dump_file.open_dump(dump_file.detect(path)) as stream:
            return cluster_dump.globals_of(stream)
    if (path / NAME).exists():
        archive_reader.verify_plain(path)
        return cluster_dump.globals_of(io.BytesIO((path / NAME).read_bytes()))
    with tempfile.TemporaryDirectory() as folder:
        archive_reader.expand(path, Path(folder) / "plain")
        return cluster_dump.globals_of(io.BytesIO((Path(folder) / "plain" / NAME).read_bytes()))


def read(path):
    """The Globals in a file; empty ones where the path is empty."""
    found = Globals({}, [], [])
    if not path:
        return found
    data, whole = _bytes(Path(path))
    if not whole:
        raise SauvegardeError(
            f"The globals file {path} is not whole.",
            "Its closing line, `PostgreSQL database cluster dump complete`, is missing.",
            "Make it again with pg_dumpall --globals-only.",
        )
    text = cluster_dump.decoded(data)
    if text is None:
        raise SauvegardeError(
            f"The globals file {path} is not in the encoding that it says.",
            f"Its client_encoding is {cluster_dump.encoding_of(data)}.",
            "Make it again with PGCLIENTENCODING=UTF8 pg_dumpall --globals-only, or correct its names.",
        )
    for each in statements(text.encode("utf-8")):
        statement = each.decode("utf-8")
        role = _ROLE.match(statement)
        member = _MEMBER.match(statement)
        if role and role.group(2):
            found.settings.append((unquoted(role.group(3)), unquoted(role.group(1)), statement))
        elif role:
            found.roles.setdefault(unquoted(role.group(1)), []).append(statement)
        elif member:
            found.members.append((unquoted(member.group(1)), unquoted(member.group(2)), member.group(3)))
    return found


def existing(connection):
    return {name for (name,) in postgres_server.query(connection, "SELECT rolname FROM pg_catalog.pg_roles")}


def superusers(names, given):
    """Those of the `names` that the Globals `given` make superusers."""
    made = re.compile(rf"ALTER ROLE {IDENTIFIER} WITH SUPERUSER ")
    return {name for name in names if any(map(made.match, given.roles.get(name, ())))}


def needed(given, named):
    """Names of the roles in the Globals `given` that are `named`, and of those that these are members of."""
    found = set(named) & set(given.roles)
    while True:
        more = {role for role, member, _ in given.members if member in found and role in given.roles} - found
        if not more:
            return found
        found |= more


def create(connection, wanted, given):
    """Make the roles `wanted` that the server lacks: as the Globals `given` describe them, with password, settings and
    memberships among the roles that are there then; those that they do not describe without login or rights.

    Existing roles are never changed.

    Returns the names of those made. Statements with password hashes stay out of errors and of the server's log.
    """
    there = existing(connection)
    made = [name for name in given.roles if name in wanted and name not in there]
    postgres_server.execute(connection, "SET log_statement = 'none'; SET log_min_error_statement = 'panic'")
    postgres_server.execute(connection, "SET log_min_duration_statement = -1")
    try:
        postgres_server.execute(connection, "BEGIN")
        for name in made:
            for statement in given.roles[name]:
                postgres_server.execute(connection, statement)
        for role, member, options in given.members:  # of roles that are there now, predefined ones included
            if {role, member} & set(made) and {role, member} <= there | set(made):
                if connection.server_version < 160000:  # INHERIT and SET are options of a membership from 16 on
                    options = " WITH ADMIN OPTION" if re.search("ADMIN (OPTION|TRUE)", options) else ""
                postgres_server.execute(
                    connection,
                    sql.SQL("GRANT {} TO {}" + options).format(sql.Identifier(role), sql.Identifier(member)),
                )
        for name in sorted(set(wanted) - there - set(made)):
            postgres_server.execute(connection, sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(name)))
            made.append(name)
        postgres_server.execute(connection, "COMMIT")
    except psycopg2.Error as error:
        postgres_server.execute(connection, "ROLLBACK")
        raise SauvegardeError(
            "The roles could not be made.",
            error.diag.message_primary or "",
            "Make the missing roles by hand, then run the restore again.",
        ) from None
    finally:
        postgres_server.execute(connection, "RESET log_statement; RESET log_min_error_statement")
        postgres_server.execute(connection, "RESET log_min_duration_statement")
    return made
