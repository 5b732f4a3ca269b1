"""Interpret the server's errors during a load: whether they end it, what they say, and what can be done about them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import psycopg2

from ...postgres import server_errors

FIX_OF_DEPENDENT = "It is restored once the objects that it depends on are."
_AT_THE_SOURCE = "Change it at the source and dump again"
_REPEATED_STATEMENT = re.compile(r"LINE \d+: |\s*\^\s*$|QUERY: ")
_ERROR_PREFIX = re.compile(r"^(?:could not execute query: |COPY failed for table \".*?\": )?ERROR: +")
# The server's message → what can be done other than to accept the loss.
_FIXES = tuple(
    (re.compile(pattern), fix)
    for pattern, fix in (
        (
            r"violates foreign key constraint",
            "Rows refer to rows that do not exist: delete or correct them at the source and dump again. Accepted, the"
            " constraint is restored NOT VALID: it holds for new rows",
        ),
        (
            r"is violated by some row",
            "Correct the rows at the source and dump again. Accepted, the constraint is restored NOT VALID: it holds"
            " for new rows",
        ),
        (
            r"could not create unique index|could not create exclusion constraint",
            "Rows break it already at the source: correct them there and dump again. Accepted, the table has no such"
            " key",
        ),
        (
            r"function array_(?:append|prepend|cat|remove|replace|positions?)\(",
            "PostgreSQL 14 changed this function: at the source write anycompatiblearray and anycompatible instead of"
            " anyarray and anyelement, or use array_agg, and dump again",
        ),
        (
            r'type "(?:pg_catalog\.)?(?:abstime|reltime|tinterval)" does not exist',
            "PostgreSQL 12 removed this type: at the source change it to timestamptz, interval or tstzrange and dump"
            " again",
        ),
        (r'type "(?:pg_catalog\.)?opaque" does not exist', "Write trigger or internal instead of opaque at the source"),
        (r"postfix operators are not supported", "PostgreSQL 14 removed postfix operators: use a function"),
        (r"function (?:\S+\.)?st_accum\(", "PostGIS 3 removed ST_Accum: use array_agg at the source and dump again"),
        (
            r"function (?:\S+\.)?_?(?:st|postgis)_\w+\(",
            "This PostGIS does not have the function in this form: use its successor at the source and dump again",
        ),
        (
            r'language "plpython2?u" does not exist',
            "Python 2 is gone: write the function for plpython3u at the source, or restore without it",
        ),
        (r'language "(.+?)" does not exist', "Install this language on the target, if a package has it"),
        (r'access method "(.+?)" does not exist', "Install the extension that has this access method, if there is one"),
        (
            r"shared_preload_libraries",
            "Name the library in the target's shared_preload_libraries and restart the server",
        ),
        (
            r"cron\.database_name",
            "pg_cron can exist in one database only, and not in a side database. Accept the loss; after the swap create"
            " it in the database that cron.database_name names (CREATE EXTENSION pg_cron) and schedule its jobs again",
        ),
        (
            r"extension control file|extension \"(.+?)\" is not available",
            "Install what brings this extension, if there is a package for this server; some exist at one provider"
            " only",
        ),
        (
            r"invalid byte sequence for encoding|has no equivalent in encoding",
            "The dump's text is not in the encoding of this database: restore it into one of its own, in any encoding"
            " with restore_encoding: SQL_ASCII and restore_locale: C",
        ),
        (
            r'unrecognized configuration parameter "[^".]+\.',
            "Give the parameter a value for the role that the restore logs in as (ALTER ROLE … SET … = …), until the"
            " swap is made: a dump of one database does not hold the database's settings",
        ),
        (r"unrecognized configuration parameter", "Remove the setting at the source (ALTER … RESET) and dump again"),
        (r'collation "(.+?)".* does not exist', "Generate the locale on the target and import it, or change it"),
        (
            r'collation attribute "provider" not recognized|operator procedure must be specified'
            r'|syntax error at or near "FUNCTION"',
            "A newer pg_dump wrote it in words that servers before 11 do not know: restore on PostgreSQL 11 or newer,"
            " or dump again with a pg_dump of the server's own version",
        ),
        (
            r'role "(.+?)" does not exist',
            "Create the role on the target, or have the restore do it (restore_missing_roles: create)",
        ),
        (r'tablespace "(.+?)" does not exist', "Create the tablespace on the target"),
        (r'column "?(?:\w+\.)?oid"? does not exist', "Tables have no OIDs from PostgreSQL 12 on: make it a column"),
    )
)


def server_message(text: str) -> str:
    """Return the text of an error without the lines that only repeat the statement."""
    lines = [line.strip() for line in text.strip().splitlines() if not _REPEATED_STATEMENT.match(line)]
    return "\n".join(filter(None, (_ERROR_PREFIX.sub("", line) for line in lines)))


def ends_load(error: psycopg2.Error) -> bool:
    """Return whether the load cannot go on after this error, because the object that was loaded did not cause it."""
    code = error.pgcode or ""
    # A library or control file that is missing (58P01) is missing for this object only.
    return not code or code[:2] in ("08", "53", "57") or code == "58030"


def fix_for(message: str) -> str:
    """Return what can be done about a loss with this message of the server, other than to accept it."""
    for pattern, fix in _FIXES:
        if pattern.search(message):
            return fix + "."
    return f"{_AT_THE_SOURCE}, or restore without it."


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Raise database errors of the block, or of the function that this decorates, as SauvegardeErrors that say `what`
    happened."""
    try:
        yield
    except psycopg2.Error as error:
        raise server_errors.database_error(error, what) from error
