"""Find the entries about objects that neither the dump nor an extension on the target defines.

An extension's objects can have privileges and sequence values in a dump; a newer version of the extension may not have
these objects any more.
"""

from __future__ import annotations

from psycopg2.extensions import connection as Connection

from ..postgres import postgres_server
from .dump.contents import Contents
from .dump.entries import Entry

_RELATION = (
    "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = %s AND c.relname = %s LIMIT 1"
)
_TYPE = (
    "SELECT 1 FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace"
    " WHERE n.nspname = %s AND t.typname = %s LIMIT 1"
)
_ROUTINE = (
    "SELECT 1 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    " WHERE n.nspname = %s AND p.proname = %s LIMIT 1"
)
_STATEMENTS = {"TABLE": _RELATION, "SEQUENCE": _RELATION, "TYPE": _TYPE, "DOMAIN": _TYPE}


def orphaned_entries(connection: Connection, contents: Contents) -> dict[Entry, str]:
    """Return {entry: a note about it}. The target has the dump's extensions, and nothing of the dump itself."""
    orphans: dict[Entry, str] = {}
    defined = contents.defined()

    def exists(kind: str, key: tuple[str, str]) -> bool:
        return key in defined or bool(postgres_server.value(connection, _STATEMENTS.get(kind, _ROUTINE), key))

    for target in contents.privileged_objects:
        if target.kind not in ("SCHEMA", "LARGE OBJECT") and not exists(target.kind, (target.schema, target.name)):
            name = f"{target.kind} {target.schema}.{target.name}"
            orphans[target.entry] = f"left out: privileges on {name}, which no longer exists"
    for entry in contents.entries:
        if entry.kind == "SEQUENCE SET" and not exists("SEQUENCE", entry.key):
            orphans[entry] = f"left out: the value of sequence {entry.schema}.{entry.name}, which no longer exists"
    return orphans
