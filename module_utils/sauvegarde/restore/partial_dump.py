"""Find what a dump lacks that the live database has. Such a dump replaces it only if that is confirmed.

Our own archives say in their manifest whether they are whole, and are only older then. A foreign dump may hold one
table, or definitions without rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

import psycopg2
from psycopg2 import sql

from ..archive.manifest import Manifest
from ..errors import SauvegardeError
from ..postgres import fingerprint, postgres_server, sql_names
from ..report.name_list import name_list
from ..targets.postgresql_target import PostgresqlTarget
from .dump.contents import Contents
from .dump.entries import TABLE_KINDS, one_line
from .dump.sql_text import IDENTIFIER, unquoted
from .findings import Findings

WORD = "replace with less"  # the phrase that confirms it
_SHOWN = 10

_KINDS = (
    ("tables", "rpf", ("TABLE", "FOREIGN TABLE")),
    ("views", "v", ("VIEW",)),
    ("materialized views", "m", ("MATERIALIZED VIEW",)),
)
_RELATIONS = (
    "SELECT c.relkind::text, n.nspname, c.relname FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
    " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass"
    " AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 2, 3"
)
_OF_USERS = (
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND NOT EXISTS (SELECT 1"
    " FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid"
    " AND d.deptype = 'e')"
)
_COUNTED = (
    (
        "indexes",
        "SELECT count(*) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid"
        + _OF_USERS
        + " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid)",
        ("INDEX",),
    ),
    (
        "keys",
        "SELECT count(*) FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid"
        + _OF_USERS
        + " AND k.contype IN ('p', 'u', 'f', 'x')",
        ("CONSTRAINT", "FK CONSTRAINT"),
    ),
    (
        "triggers",
        "SELECT count(*) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid"
        + _OF_USERS
        + " AND NOT t.tgisinternal",
        ("TRIGGER",),
    ),
)


def lacks(
    target: PostgresqlTarget, contents: Contents, filled: Set[tuple[str, str]] | None = None
) -> dict[str, list[str]]:
    """Return what the live database has and the dump does not: names, or how many, by kind; {} for nothing.

    filled: keys of the tables that the dump has rows of, None if `contents` knows them. `rows` are tables that have
    some in the live database only. No lock is waited for longer than two seconds.
    """
    lacking = {}
    with target.connected() as connection:
        postgres_server.execute(connection, "SET lock_timeout TO '2s'; SET statement_timeout TO '60s'")
        live = [(kind, (schema, name)) for kind, schema, name in postgres_server.query(connection, _RELATIONS)]
        for word, kinds, entries in _KINDS:
            dumped = set(contents.names(*entries))
            lacking[word] = [_dotted(table) for kind, table in live if kind in kinds and _key(table) not in dumped]
        tables = set(contents.names("TABLE"))
        empty = [
            table
            for kind, table in live
            if kind == "r"
            and _key(table) in tables
            and not (_dumps_rows(contents, table) if filled is None else _key(table) in filled)
        ]
        lacking["rows"] = [_dotted(table) for table in empty if _has_rows(connection, table)]
        for word, statement, entries in _COUNTED:
            count = postgres_server.value(connection, statement)
            if count and not contents.names(*entries):
                lacking[word] = [f"all {count}"]
    return {word: names for word, names in lacking.items() if names}


def rows_only(contents: Contents) -> bool:
    """Return whether the dump has rows of tables and no definitions (pg_dump --data-only, --section=data)."""
    kinds = (*TABLE_KINDS, "EXTENSION", "VIEW", "SEQUENCE")
    definitions = [entry for entry in contents.entries if entry.kind in kinds]
    return bool(contents.names("TABLE DATA")) and not definitions


def _key(table: tuple[str, str]) -> tuple[str, str]:
    """Return a table's name as the dump's entries have it."""
    schema, name = table
    return one_line(schema), one_line(name)


def key_of_text(text: str) -> tuple[str, str]:
    """Return the `_key` of a table that is written as an SQL name with its schema."""
    schema, name = (unquoted(part) for part in re.findall(IDENTIFIER, text))
    return _key((schema, name))


def _dotted(table: tuple[str, str]) -> str:
    return ".".join(table)


def _dumps_rows(contents: Contents, table: tuple[str, str]) -> bool:
    return bool(contents.rows.get(_key(table))) or _key(table) in contents.filled


def _has_rows(connection: Any, table: tuple[str, str]) -> bool:
    """Return whether the live table has rows; one that is locked is assumed to have some."""
    statement = sql.SQL("SELECT EXISTS (SELECT 1 FROM ONLY {})").format(sql_names.identifier(*table))
    try:
        return bool(postgres_server.value(connection, statement))
    except psycopg2.Error:
        return True


def sentence(lacking: Mapping[str, Sequence[str]]) -> str:
    """Return what is missing, in one sentence per kind."""
    sentences = []
    for word, names in sorted(lacking.items()):
        head = "It has no rows, where the live database has some, of" if word == "rows" else f"It lacks {word}"
        sentences.append(f"{head}: {name_list(names, _SHOWN)}.")
    return " ".join(sentences)


def check_archive(
    target: PostgresqlTarget, contents: Contents, manifest: Manifest, phrase: str, findings: Findings
) -> dict[str, list[str]]:
    """Return `lacks` of our own partial archive. It is a blocker unless `phrase` is WORD, then a note."""
    database = target.database
    filled = set()
    for key, entry in (manifest.fingerprint or {}).get("tables", {}).items():
        parts = entry.get("partitions", [key])
        filled |= {key_of_text(part) for part in parts if entry["rows"]}
    empty = {key_of_text(text) for text in (manifest.partial or {}).get("without_rows", ())}
    filled -= empty
    filled |= {
        key_of_text(name[len("TABLE ") :])
        for name in fingerprint.unproven(manifest.fingerprint)
        if name.startswith("TABLE ")
    }
    try:
        lacking = lacks(target, contents, filled)
    except (SauvegardeError, psycopg2.Error):
        lacking = {}
    what = f"The archive holds less than the live database {database}."
    why = " ".join([*manifest.lacks, sentence(lacking)]).strip()
    if phrase == WORD:
        findings.note(what, why)
        return lacking
    why += f" restore_partial is {phrase!r}." if phrase else ""
    fix = (
        "Restore a whole archive, or restore this one beside the live database and copy what you need. To replace the"
        f" live database with this part: -e \"restore_partial='{WORD}'\""
    )
    findings.block(what, why, fix)
    return lacking


def check(target: PostgresqlTarget, contents: Contents, phrase: str, findings: Findings) -> dict[str, list[str]]:
    """Return `lacks`. It is a blocker unless `phrase` is WORD, then a note."""
    database = target.database
    try:
        lacking = lacks(target, contents)
    except (SauvegardeError, psycopg2.Error) as error:
        findings.note(f"Whether the file holds less than {database} is not known.", str(error))
        return {}
    what = f"The file holds less than the live database {database}."
    if lacking and phrase == WORD:
        findings.note(what, sentence(lacking))
    elif lacking:
        why = sentence(lacking) + (f" restore_partial is {phrase!r}." if phrase else "")
        fix = f"Take a whole dump. If this is what is to replace it: -e \"restore_partial='{WORD}'\""
        findings.block(what, why, fix)
    return lacking
