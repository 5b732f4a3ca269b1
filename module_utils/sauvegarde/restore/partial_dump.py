"""What a file lacks that the live database has: such a file replaces it only on a word of its own.

Archives of ours are whole by their manifest, and only older; a file may hold one table, or definitions without rows.
"""

import contextlib

import psycopg2

from ..errors import SauvegardeError
from ..postgres import postgres_server, sql_names
from .dump.entries import TABLE_KINDS, one_line

WORD = "replace with less"
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


def lacks(server, database, contents):
    """{kind: [names, or how many]} of what the live database has and the file's contents do not; {} for nothing.

    `rows` are tables that hold some in the live database only. No lock is waited for longer than a moment.
    """
    found = {}
    with contextlib.closing(postgres_server.connect(server, database)) as connection:
        postgres_server.execute(connection, "SET lock_timeout TO '2s'; SET statement_timeout TO '60s'")
        live = [(kind, (schema, name)) for kind, schema, name in postgres_server.query(connection, _RELATIONS)]
        for word, kinds, entries in _KINDS:
            there = set(contents.names(*entries))
            found[word] = [_shown(table) for kind, table in live if kind in kinds and _flat(table) not in there]
        tables = set(contents.names("TABLE"))
        found["rows"] = [
            _shown(table)
            for kind, table in live
            if kind == "r" and _flat(table) in tables and not _has_rows(contents, table) and _holds(connection, table)
        ]
        for word, statement, entries in _COUNTED:
            count = postgres_server.value(connection, statement)
            if count and not contents.names(*entries):
                found[word] = [f"all {count}"]
    return {word: names for word, names in found.items() if names}


def rows_only(contents):
    """Whether the dump holds rows of tables and no definitions (pg_dump --data-only, --section=data)."""
    made = [entry for entry in contents.entries if entry.kind in (*TABLE_KINDS, "EXTENSION", "VIEW", "SEQUENCE")]
    return bool(contents.names("TABLE DATA")) and not made


def _flat(table):
    return tuple(one_line(name) for name in table)


def _shown(table):
    return ".".join(table)


def _has_rows(contents, table):
    return bool(contents.rows.get(_flat(table))) or _flat(table) in contents.filled


def _holds(connection, table):
    """Whether the live table has rows; one that is locked is taken to have some."""
    try:
        return postgres_server.value(
            connection,
            postgres_server.sql.SQL("SELECT EXISTS (SELECT 1 FROM ONLY {})").format(sql_names.identifier(*table)),
        )
    except psycopg2.Error:
        return True


def sentence(found):
    """What is missing, in one sentence a kind."""
    said = []
    for word, names in sorted(found.items()):
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        head = "It has no rows, where the live database has some, of" if word == "rows" else f"It lacks {word}"
        said.append(f"{head}: {shown}.")
    return " ".join(said)


def look(server, database, contents, word):
    """(what the file lacks, the obstacle that this is, the warning that it is): each {} where it is none.

    word: what was said to accept it.
    """
    try:
        found = lacks(server, database, contents)
    except (SauvegardeError, psycopg2.Error) as error:
        return (
            {},
            {},
            {"what": f"Whether the file holds less than {database} is not known.", "why": str(error), "fix": ""},
        )
    if not found:
        return {}, {}, {}
    told = {"what": f"The file holds less than the live database {database}.", "why": sentence(found), "fix": ""}
    if word == WORD:
        return found, {}, told
    fix = f"Take a whole dump. If this is what is to replace it: -e \"restore_partial='{WORD}'\""
    return found, dict(told, fix=fix, why=told["why"] + (f" Said: {word!r}." if word else "")), {}
