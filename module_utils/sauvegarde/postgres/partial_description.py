"""Describe what a partial dump lacks, and what it needs on a target, from the catalogs of its source.

Everything here is read after the dump, in its snapshot, and compares the catalogs with the objects that the dump
really holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Any

from . import postgres_server, sql_names
from .dump_selection import Selection
from .postgres_server import Connection

Object = tuple[int, int]  # OID of the catalog, OID

_FIRST_OID = 16384  # of objects that initdb did not make
_NOUNS = {"r": "tables", "p": "tables", "f": "tables", "v": "views", "m": "materialized views", "S": "sequences"}
_KINDS = {
    "r": "TABLE", "p": "TABLE", "f": "FOREIGN TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW", "S": "SEQUENCE",
    "i": "INDEX", "I": "INDEX", "c": "TYPE",
}  # fmt: skip
_RELATIONS = """
SELECT c.oid::int8, c.relkind::text, n.nspname::text, c.relname::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 3, 4
"""
# Each dependency of an object on one that initdb did not make: of a default, a CHECK or a rule as that of its table or
# view; on an index, a row type or an array as on its table or element type. `extension`: that the needed object is of.
_DEPENDENCIES = f"""
WITH used AS (
  SELECT DISTINCT d.classid, d.objid, d.refclassid, d.refobjid FROM pg_catalog.pg_depend d
  WHERE d.refobjid >= {_FIRST_OID} AND d.objid >= {_FIRST_OID} AND d.deptype NOT IN ('e', 'x')
), named AS (
  SELECT u.classid::int8 AS catalog, u.objid::int8 AS oid,
         coalesce(ad.adrelid, rw.ev_class, CASE WHEN k.contype = 'c' THEN k.conrelid END)::int8 AS relation,
         u.refclassid AS needed_catalog,
         CASE WHEN u.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass THEN coalesce(x.indrelid, u.refobjid)
              WHEN u.refclassid = 'pg_catalog.pg_constraint'::pg_catalog.regclass THEN rk.conrelid
              WHEN t.typrelid <> 0 AND tc.relkind <> 'c' THEN t.typrelid
              WHEN t.typelem <> 0 AND t.typlen = -1 AND et.oid IS NOT NULL
                THEN CASE WHEN et.typrelid <> 0 AND etc.relkind <> 'c' THEN et.typrelid ELSE et.oid END
              ELSE u.refobjid END AS needed,
         (u.refclassid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_constraint'::pg_catalog.regclass)
          OR t.typrelid <> 0 AND tc.relkind <> 'c'
          OR t.typelem <> 0 AND t.typlen = -1 AND et.typrelid <> 0 AND etc.relkind <> 'c') AS needs_relation,
         x.indexrelid IS NOT NULL AS needs_index
  FROM used u
  LEFT JOIN pg_catalog.pg_attrdef ad ON u.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND ad.oid = u.objid
  LEFT JOIN pg_catalog.pg_rewrite rw ON u.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND rw.oid = u.objid
  LEFT JOIN pg_catalog.pg_constraint k
    ON u.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = u.objid
  LEFT JOIN pg_catalog.pg_index x
    ON u.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND x.indexrelid = u.refobjid
  LEFT JOIN pg_catalog.pg_constraint rk
    ON u.refclassid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND rk.oid = u.refobjid
  LEFT JOIN pg_catalog.pg_type t ON u.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = u.refobjid
  LEFT JOIN pg_catalog.pg_class tc ON tc.oid = t.typrelid
  LEFT JOIN pg_catalog.pg_type et ON et.oid = t.typelem
  LEFT JOIN pg_catalog.pg_class etc ON etc.oid = et.typrelid
), with_catalog AS (
  SELECT n.*, CASE WHEN needs_relation THEN 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
                   ELSE needed_catalog END AS target
  FROM named n WHERE needed IS NOT NULL
)
SELECT DISTINCT w.catalog, w.oid, coalesce(w.relation, 0), w.target::int8, w.needed::int8, w.needs_index,
       coalesce(e.extname::text, '')
FROM with_catalog w
LEFT JOIN pg_catalog.pg_depend m ON m.classid = w.target AND m.objid = w.needed AND m.deptype = 'e'
     AND m.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_extension e ON e.oid = m.refobjid
WHERE w.needed >= {_FIRST_OID}
"""
_CATALOGS = """
SELECT 'pg_catalog.pg_class'::regclass::int8, 'pg_catalog.pg_namespace'::regclass::int8,
       'pg_catalog.pg_constraint'::regclass::int8, 'pg_catalog.pg_trigger'::regclass::int8,
       'pg_catalog.pg_policy'::regclass::int8, 'pg_catalog.pg_attrdef'::regclass::int8,
       'pg_catalog.pg_extension'::regclass::int8
"""
_NAMES_OF_RELATIONS = """
SELECT c.oid::int8, c.relkind::text, n.nspname::text, c.relname::text,
       coalesce(pg_catalog.to_jsonb(c) ->> 'relispartition', 'false') = 'true'
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (%s::oid[])
"""
# The names of losses (restore/dump/loss_names.py) of what has its own entry and belongs to a table.
_OF_TABLES = """
SELECT 'CONSTRAINT', n.nspname::text, c.relname::text, k.conname::text FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE k.tableoid = %(catalog)s AND k.oid = %(oid)s
UNION ALL
SELECT 'TRIGGER', n.nspname::text, c.relname::text, t.tgname::text FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE t.tableoid = %(catalog)s AND t.oid = %(oid)s
UNION ALL
SELECT 'POLICY', n.nspname::text, c.relname::text, p.polname::text FROM pg_catalog.pg_policy p
JOIN pg_catalog.pg_class c ON c.oid = p.polrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE p.tableoid = %(catalog)s AND p.oid = %(oid)s
UNION ALL
SELECT 'DEFAULT', n.nspname::text, c.relname::text, a.attname::text FROM pg_catalog.pg_attrdef d
JOIN pg_catalog.pg_class c ON c.oid = d.adrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE d.tableoid = %(catalog)s AND d.oid = %(oid)s
"""
_IDENTITY = (
    "SELECT pg_catalog.upper(i.type) || ' ' || i.identity FROM pg_catalog.pg_identify_object(%s::oid, %s::oid, 0) i"
)
# Schemas of definitions with an entry of their own.
_SCHEMAS = """
SELECT n.nspname::text, r.rolname::text, n.oid::int8 FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
WHERE n.nspname NOT IN ('public', 'information_schema') AND n.nspname !~ '^pg_' AND (
  EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.oid = ANY (%(oids)s::oid[]))
  OR EXISTS (SELECT 1 FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid AND p.oid = ANY (%(oids)s::oid[]))
  OR EXISTS (SELECT 1 FROM pg_catalog.pg_type t WHERE t.typnamespace = n.oid AND t.oid = ANY (%(oids)s::oid[])))
ORDER BY 1
"""
_FOREIGN_KEYS = """
SELECT pg_catalog.format('CONSTRAINT %%I.%%I %%I', n.nspname, c.relname, k.conname), k.conrelid::int8, k.confrelid::int8
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.confrelid = ANY (%s::oid[])
  AND coalesce(pg_catalog.to_jsonb(k) ->> 'conparentid', '0') = '0'
ORDER BY 1
"""


def describe(
    connection: Connection,
    selection: Selection,
    objects: Set[Object],
    rows: Set[int],
    has_line: Callable[[str, str, str], bool],
) -> dict[str, Any]:
    """Return the manifest's source.partial.

    connection: pinned, in the dump's snapshot. objects, rows: what the dump holds (backup/dump_entries.py).
    has_line(kind, schema, name): whether the dump has such an entry.
    """
    return _Description(connection, selection, objects, rows, has_line).as_dict()


class _Description:
    def __init__(
        self,
        connection: Connection,
        selection: Selection,
        objects: Set[Object],
        rows: Set[int],
        has_line: Callable[[str, str, str], bool],
    ) -> None:
        self._connection, self._selection = connection, selection
        self._objects, self._rows, self._has_line = objects, rows, has_line
        (
            self._class, self._namespace, self._constraint, self._trigger, self._policy, self._default, self._extension
        ) = postgres_server.query(connection, _CATALOGS)[0]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        left_out: dict[str, list[str]] = {}
        without_rows: list[str] = []
        empty = []
        for oid, kind, schema, name in postgres_server.query(self._connection, _RELATIONS):
            plain = sql_names.plain_name(schema, name)
            if (self._class, oid) not in self._objects:
                left_out.setdefault(_NOUNS[kind], []).append(plain)
            elif kind == "r" and oid not in self._rows:
                without_rows.append(plain)
                empty.append(oid)
        extensions, unresolved = self._needs()
        return {
            "options": self._selection.as_dict(),
            "whole_schemas": not self._selection.tables,
            "everything_else": self._selection.has_everything_else,
            "left_out": left_out,
            "without_rows": without_rows,
            "extensions": sorted(extensions),
            "schemas": self._schemas(),
            "unrestorable": unresolved,
            "foreign_keys": self._foreign_keys(empty),
        }

    def _needs(self) -> tuple[set[str], list[dict[str, str]]]:
        """Return the extensions that the dump needs and lacks, and the objects that need another one that it lacks."""
        extensions: set[str] = set()
        missing: list[tuple[Object, Object, bool]] = []
        for catalog, oid, relation, target, needed, needs_index, extension in postgres_server.query(
            self._connection, _DEPENDENCIES
        ):
            user = self._user((catalog, oid), relation)
            if user is None:
                continue
            if extension:
                extensions.add(extension)
            elif target != self._namespace and (target, needed) not in self._objects and (target, needed) != user:
                missing.append((user, (target, needed), needs_index))
        held = {
            name
            for name, oid in postgres_server.query(
                self._connection, "SELECT extname::text, oid::int8 FROM pg_catalog.pg_extension"
            )
            if (self._extension, oid) in self._objects
        }
        return extensions - held - {"plpgsql"}, self._unrestorable(missing)

    def _user(self, item: Object, relation: int) -> Object | None:
        """Return the entry of the dump that an object belongs to, None if the dump does not hold it."""
        if item in self._objects:
            return item
        table = (self._class, relation)
        return table if table in self._objects else None

    def _unrestorable(self, missing: Iterable[tuple[Object, Object, bool]]) -> list[dict[str, str]]:
        result: dict[str, set[str]] = {}
        for user, needed, needs_index in missing:
            name = self._loss_name(user, needed, needs_index)
            if name:
                result.setdefault(name, set()).add(self._name(needed))
        return [
            {"object": name, "why": f"It needs {', '.join(sorted(result[name]))}, which the archive does not hold."}
            for name in sorted(result)
        ]

    def _relation(self, oid: int) -> tuple[str, str, str, bool]:
        rows = postgres_server.query(self._connection, _NAMES_OF_RELATIONS, ([oid],))
        return rows[0][1:] if rows else ("", "", "", False)

    def _loss_name(self, user: Object, needed: Object, needs_index: bool) -> str:
        """Return the name by which the loss is accepted; '' where nothing is lost."""
        catalog, oid = user
        if catalog == self._class:
            kind, schema, name, is_partition = self._relation(oid)
            if not kind:
                return ""
            if kind in "iI":
                return f"INDEX ATTACH {schema}.{name}" if self._has_line("INDEX ATTACH", schema, name) else ""
            if kind == "S" and needed[0] == self._class:
                return ""  # without its table a sequence has no owner, and is created all the same
            is_attached = is_partition and needed[0] == self._class and self._is_parent(oid, needed[1])
            if is_attached and self._has_line("TABLE ATTACH", schema, name):
                return f"TABLE ATTACH {schema}.{name}"
            return f"{_KINDS[kind]} {schema}.{name}"
        if catalog in (self._constraint, self._trigger, self._policy, self._default):
            rows = postgres_server.query(self._connection, _OF_TABLES, {"catalog": catalog, "oid": oid})
            return "{} {}.{} {}".format(*rows[0]) if rows else ""
        return str(postgres_server.value(self._connection, _IDENTITY, user) or "")

    def _is_parent(self, oid: int, parent: int) -> bool:
        statement = "SELECT 1 FROM pg_catalog.pg_inherits WHERE inhrelid = %s AND inhparent = %s"
        return bool(postgres_server.value(self._connection, statement, (oid, parent)))

    def _name(self, item: Object) -> str:
        if item[0] == self._class:
            kind, schema, name, _ = self._relation(item[1])
            return f"{_KINDS.get(kind, 'OBJECT')} {sql_names.plain_name(schema, name)}"
        return str(postgres_server.value(self._connection, _IDENTITY, item) or "an object")

    def _schemas(self) -> list[dict[str, str]]:
        """Return {name, owner} of each schema that the dump uses and does not create."""
        oids = [oid for _, oid in self._objects]
        rows = postgres_server.query(self._connection, _SCHEMAS, {"oids": oids})
        return [
            {"name": name, "owner": owner} for name, owner, oid in rows if (self._namespace, oid) not in self._objects
        ]

    def _foreign_keys(self, empty: list[int]) -> list[str]:
        """Return the names of foreign keys from tables with rows to tables without."""
        rows = postgres_server.query(self._connection, _FOREIGN_KEYS, (empty,)) if empty else []
        return [name for name, child, parent in rows if child in self._rows and child != parent]
