"""Turn the database's own triggers and rules off while a side database is filled.

A trigger that audits, counts or stamps rows did so on the source, and its work is part of the source's data. Foreign
keys are enforced by triggers of the server's own, which are not touched. A trigger stays on if it does what the data do
not hold: it fills columns that no model has, routes rows into inheriting tables, or maintains a search index.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.apps import apps

if TYPE_CHECKING:
    from .django_types import Connection


@dataclass(frozen=True)
class Trigger:
    """A trigger or a rule. `stays`: why it stays on, or an empty text; `off`, `on`: the statements that switch it."""

    name: str
    table: str
    stays: str
    off: str
    on: str

    def __str__(self) -> str:
        return f"{self.name} on {self.table}"


# Triggers with the columns of their tables that a statement can fill. Clones on partitions are internal before
# PostgreSQL 13, those of constraints are too and have a constraint. {generated} is a condition from version 12 on.
_TRIGGERS = """
SELECT n.nspname, c.relname, t.tgname, t.tgenabled, t.tgtype::int, 'TRIGGER',
       pg_catalog.pg_has_role(c.relowner, 'USAGE'), c.relkind = 'r' AND c.relhassubclass,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped {generated} ORDER BY a.attnum)
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE (NOT t.tgisinternal OR t.tgconstraint = 0) AND t.tgenabled IN ('O', 'A') AND {ours}
UNION ALL
SELECT n.nspname, c.relname, r.rulename, r.ev_enabled, 0, 'RULE',
       pg_catalog.pg_has_role(c.relowner, 'USAGE'), false, ARRAY[]::text[]
  FROM pg_catalog.pg_rewrite r
  JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE r.ev_type <> '1' AND NOT r.is_instead AND r.ev_enabled IN ('O', 'A') AND {ours}
 ORDER BY 1, 2, 3
"""
_OURS = """
c.relkind IN ('r', 'p', 'f') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
"""
_ROW, _BEFORE, _INSERT = 1, 2, 4
_ENABLE = {"O": "ENABLE", "A": "ENABLE ALWAYS"}
# SpatiaLite's own, which keep its spatial index and check geometries.
_SPATIALITE = re.compile(r"(gg[iu]|gi[iud]|gc[iud]|tm[iud])_", re.IGNORECASE)
_LITERALS = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_WRITTEN = re.compile(
    r"\b(?:(?:INSERT|REPLACE)\s+(?:OR\s+\w+\s+)?INTO|UPDATE(?:\s+OR\s+\w+)?|DELETE\s+FROM)\s+"
    r"(?:\w+\s*\.\s*)?(\"(?:[^\"]|\"\")+\"|\[[^\]]+\]|`[^`]+`|\w+)",
    re.IGNORECASE,
)


def triggers(connection: Connection) -> list[Trigger]:
    """Return the triggers and rules that a load would fire, except for those of views."""
    return {"postgresql": _of_postgres, "sqlite": _of_sqlite}[connection.vendor](connection)


@contextlib.contextmanager
def silent(connection: Connection) -> Iterator[list[Trigger]]:
    """Turn triggers off for the block, inside the caller's transaction; yields those that are off.

    If the block fails, the caller's rollback turns them on again.
    """
    off = [trigger for trigger in triggers(connection) if not trigger.stays]
    with connection.cursor() as cursor:
        for trigger in off:
            cursor.execute(trigger.off)
    yield off
    with connection.cursor() as cursor:
        for trigger in off:
            cursor.execute(trigger.on)


def _columns_of_models() -> dict[str, set[str]]:
    """Return {table: columns that its models have}."""
    columns: dict[str, set[str]] = {}
    for model in apps.get_models(include_auto_created=True):
        table = model._meta.db_table.strip('"').rsplit('"."', 1)[-1]
        columns.setdefault(table, set()).update(field.column for field in model._meta.local_concrete_fields)
    return columns


def _unknown(of_models: Mapping[str, set[str]], table: str, columns: Sequence[str]) -> str:
    """Return the columns of a model's table that no model has, as a text."""
    return ", ".join(name for name in columns if table in of_models and name not in of_models[table])


def _of_postgres(connection: Connection) -> list[Trigger]:
    generated = "AND a.attgenerated = ''" if connection.pg_version >= 120000 else ""
    of_models, result = _columns_of_models(), []
    with connection.cursor() as cursor:
        cursor.execute(_TRIGGERS.format(generated=generated, ours=_OURS))
        rows = cursor.fetchall()
    quote = _quoted
    for schema, table, name, enabled, kind, what, own, inherited, columns in rows:
        fills = kind & _ROW and kind & _BEFORE
        unknown = _unknown(of_models, table, columns)
        stays = ""
        if not own:
            stays = "its table belongs to another role"
        elif fills and kind & _INSERT and inherited:
            stays = "it may lead rows into the tables that inherit from its own"
        elif fills and unknown:
            stays = f"it may fill columns that no model knows ({unknown})"
        alter = "ALTER TABLE ONLY {}.{} {} {} {}"  # each partition has its own state
        off = alter.format(quote(schema), quote(table), "DISABLE", what, quote(name))
        on = alter.format(quote(schema), quote(table), _ENABLE[enabled], what, quote(name))
        result.append(Trigger(name, table, stays, off, on))
    return result


def _of_sqlite(connection: Connection) -> list[Trigger]:
    of_models, result = _columns_of_models(), []
    with connection.cursor() as cursor:
        cursor.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE type IN ('table', 'trigger')")
        rows = cursor.fetchall()
        tables = {name.lower(): sql or "" for kind, name, _, sql in rows if kind == "table"}
        spatial = "geometry_columns" in tables
        for kind, name, table, sql in rows:
            if kind != "trigger" or table.lower() not in tables or (spatial and _SPATIALITE.match(name)):
                continue
            written = _written(sql)
            if not written:
                continue  # it only checks
            cursor.execute(f"PRAGMA table_info({_quoted(table)})")
            unknown = _unknown(of_models, table, [row[1] for row in cursor.fetchall()])
            indexes = sorted(name for name in written if tables.get(name, "")[:14].upper() == "CREATE VIRTUAL")
            stays = ""
            if indexes:
                stays = "it keeps the index {}".format(", ".join(indexes))
            elif table.lower() in written and unknown:
                stays = f"it may fill columns that no model knows ({unknown})"
            result.append(Trigger(name, table, stays, f"DROP TRIGGER {_quoted(name)}", sql))
    return result


def _written(statement: str) -> set[str]:
    """Return the tables, in lower case, that a trigger's statements write into."""
    plain = _LITERALS.sub(lambda match: "''" if match.group()[0] == "'" else " ", statement)
    body = re.split(r"\bBEGIN\b", plain, maxsplit=1, flags=re.IGNORECASE)[-1]
    names = (match.group(1) for match in _WRITTEN.finditer(body))
    bare = {(name[1:-1] if name[0] in '"[`' else name).lower() for name in names}
    return bare - {"set"}  # of ON CONFLICT DO UPDATE SET


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
