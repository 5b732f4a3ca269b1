"""Collect the contents of a dump in one pass over it as plain SQL: entries, extensions, roles, rows.

The pass is also the complete read that proves that a foreign dump can be read.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable

from . import oids
from .byte_stream import CHUNK, Readable
from .contents import Contents, PrivilegedObject, Spooled, is_about_extension
from .database_statements import DatabaseStatements, is_about_database
from .entries import TABLE_KINDS, Entry, leading_key, leading_name, one_line
from .lexer import statements
from .role_demands import Demand, demands_of
from .role_mentions import roles_in
from .sql_script import Copy, Fact, Piece, Script, Setting, Sql
from .sql_text import IDENTIFIER, unquoted, with_escape_literals

_EXTENSION = re.compile(rf"CREATE EXTENSION (?:IF NOT EXISTS )?({IDENTIFIER})(?: WITH)?(?: SCHEMA ({IDENTIFIER}))?")
_PRIVILEGES = re.compile(
    r"(?:GRANT|REVOKE) .*? ON (TABLE|SEQUENCE|FUNCTION|PROCEDURE|AGGREGATE|TYPE|DOMAIN|SCHEMA|LARGE OBJECT) "
    rf"({IDENTIFIER}(?:\.{IDENTIFIER})?|\d+)",
    re.DOTALL,
)
_SCHEMA_GRANT = re.compile(r"GRANT .* ON SCHEMA ", re.DOTALL)
_TABLE = re.compile(rf"CREATE (?:UNLOGGED |FOREIGN )?TABLE (?:IF NOT EXISTS )?(?={IDENTIFIER})")
_RASTER = re.compile(r'\braster\b|"raster"')
_CAN_USE_RASTER = ("TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "FUNCTION", "TYPE", "DOMAIN")


def scan(stream: Readable, progress: Callable[[int], object] | None = None) -> Contents:
    """Read the dump's SQL completely from the binary `stream` and return its Contents.

    progress: called with the number of bytes read so far after each piece. Raises SauvegardeError if the dump ends
    early or is none.
    """
    scanner = _Scanner(Script(stream))
    for piece in scanner.script:
        scanner.take(piece)
        if progress:
            progress(scanner.script.read)
    return scanner.contents()


class _Scanner:
    """Collects what the pieces of a script say. The attributes are those of Contents."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.facts = {"server": "", "tool": ""}
        self.entries: list[Entry] = []
        self.schema_grants: list[tuple[Entry, bytes]] = []
        self.merged: list[Spooled] = []
        self.privileged_objects: list[PrivilegedObject] = []
        self.demands: list[Demand] = []
        self.extensions: dict[str, str] = {}
        self.owners: dict[str, str] = {}
        self.rows: dict[tuple[str, str], int] = {}
        self.database = DatabaseStatements()
        self.settings: dict[str, set[str]] = {}
        self.roles: set[str] = set()
        self.predefined: set[Entry] = set()
        self.used_schemas: set[str] = set()
        self.tables: set[tuple[str, str]] = set()
        self.inserted: set[tuple[str, str]] = set()
        self.filled: set[tuple[str, str]] = set()
        self.with_oids: set[tuple[str, str]] = set()
        self.oids: set[tuple[str, str]] = set()
        self.table_names: dict[tuple[str, str], set[tuple[str, str]]] = {}
        self.uses_raster = self.oids_by_default = False
        self.texts: dict[Entry, str] = {}
        self.comments: list[tuple[Entry, str]] = []

    def take(self, piece: Piece) -> None:
        if isinstance(piece, Fact):
            self.facts[piece.name] = piece.value
        elif isinstance(piece, Setting):
            self._setting(piece)
        elif isinstance(piece, Entry):
            self._entry(piece)
        elif isinstance(piece, Copy):
            self._copy(piece)
        elif isinstance(piece, Sql) and piece.entry is not None:
            if piece.entry.kind == "TABLE DATA":
                if b"INSERT INTO" in piece.text:
                    self.inserted.add(piece.entry.key)
            elif not piece.entry.kind.endswith("DATA"):
                self._definition(piece.entry, piece.text)

    def _setting(self, piece: Setting) -> None:
        value = self.script.decode(piece.text).split("=", 1)[-1].strip().rstrip(";")
        self.settings.setdefault(piece.name, set()).add(value)
        if piece.name == "default_with_oids":
            self.oids_by_default = value == "true"

    def _entry(self, entry: Entry) -> None:
        self.entries.append(entry)
        if entry.kind in TABLE_KINDS:
            self.tables.add(entry.key)
        if entry.kind == "TABLE" and self.oids_by_default:
            self.with_oids.add(entry.key)
        if entry.kind == "SCHEMA":
            self.owners[entry.name] = entry.owner
        if entry.kind == "PROCEDURAL LANGUAGE" and entry.name == "plpgsql":
            # Since 9.1 every database has it, as an extension.
            self.predefined.add(entry)

    def _copy(self, piece: Copy) -> None:
        statement = self.script.decode(piece.statement)
        table = leading_key(statement[len("COPY ") :], piece.entry)
        if oids.WITH_OIDS.search(piece.statement):
            self.oids.add(table)
        if piece.entry is not None and piece.entry.key not in self.tables:
            spool = tempfile.SpooledTemporaryFile(CHUNK)  # noqa: SIM115 - lives until the rows are merged
            shutil.copyfileobj(piece.rows, spool)
            self.merged.append(Spooled(*table, statement, self.script.encoding, spool))
        else:
            piece.rows.drain()
        self.rows[table] = self.rows.get(table, 0) + piece.rows.count
        if piece.rows.count and piece.entry is not None:
            self.filled.add(piece.entry.key)

    def _definition(self, entry: Entry, sql: bytes) -> None:
        text = self.script.decode(sql)
        self.texts[entry] = self.texts.get(entry, "") + text
        parts = [self.script.decode(statement) for statement in statements(sql)]
        self.roles.update(*map(roles_in, parts))
        self.demands += demands_of(entry, text)
        if entry.kind not in ("ACL", "COMMENT"):
            self._note_used_schemas(text)
        if entry.kind == "COMMENT" and is_about_extension(entry):
            self.comments.append((entry, with_escape_literals(text) if self._backslashes_escape() else text))
        if is_about_database(entry):
            literal = [with_escape_literals(part) for part in parts] if self._backslashes_escape() else parts
            self.database.add(entry, literal)
        elif entry.kind == "SCHEMA" and "CREATE SCHEMA public;" in parts:
            self.predefined.add(entry)
        elif entry.kind == "SCHEMA" and entry.name == "public":
            # From 15 on it is only ALTER SCHEMA public OWNER TO: the owner needs the schema as a grantee does.
            self.schema_grants.append((entry, sql))
        elif entry.kind == "EXTENSION":
            match = _EXTENSION.search(text)
            if match:
                self.extensions[unquoted(match.group(1))] = unquoted(match.group(2) or "public")
        elif entry.kind == "ACL":
            self._privileges(entry, sql, parts)
        elif entry.kind == "COMMENT" and entry.name == "EXTENSION postgis" and "raster" in text:
            self.uses_raster = True
        elif entry.kind in _CAN_USE_RASTER:
            self.uses_raster = self.uses_raster or bool(_RASTER.search(text))
            if entry.kind in TABLE_KINDS:
                self._table(entry, text)

    def _note_used_schemas(self, text: str) -> None:
        bare = text.replace('"', "")
        schemas = {"public", *self.extensions.values()}
        self.used_schemas.update(schema for schema in schemas if schema.replace('"', "") + "." in bare)

    def _backslashes_escape(self) -> bool:
        return "off" in self.settings.get("standard_conforming_strings", ())

    def _privileges(self, entry: Entry, sql: bytes, parts: list[str]) -> None:
        if any(_SCHEMA_GRANT.match(part) for part in parts):
            self.schema_grants.append((entry, sql))
        objects = {(match.group(1), match.group(2)) for match in map(_PRIVILEGES.match, parts) if match}
        for kind, name in sorted(objects):
            self.privileged_objects.append(PrivilegedObject(entry, kind, *leading_key(name, entry)))

    def _table(self, entry: Entry, text: str) -> None:
        match = _TABLE.search(text)
        if match:
            schema, name = leading_name(text[match.end() :])
            self.table_names.setdefault(entry.key, set()).add((schema or entry.schema, name))
        if text.rstrip().endswith("WITH OIDS;") or "\nWITH OIDS;" in text:
            self.with_oids.add(entry.key)

    def _all_roles(self) -> set[str]:
        roles = set(self.roles)
        shown = {one_line(name) for name in roles}
        roles.update(entry.owner for entry in self.entries if entry.owner and entry.owner not in shown)
        roles.update(role for role, _, _ in self.database.settings if role)
        return roles

    def contents(self) -> Contents:
        return Contents(
            entries=self.entries,
            server=self.facts["server"],
            tool=self.facts["tool"],
            encoding=self.script.encoding,
            extensions=self.extensions,
            owners=self.owners,
            raster=self.uses_raster and "postgis" in self.extensions and "postgis_raster" not in self.extensions,
            roles=self._all_roles(),
            rows=self.rows,
            inserted=self.inserted,
            filled=self.filled | self.inserted,
            table_names=self.table_names,
            with_oids=self.with_oids,
            oids=self.oids,
            database=self.database,
            settings=self.settings,
            predefined=self.predefined,
            merged=self.merged,
            privileged_objects=self.privileged_objects,
            schema_grants=self.schema_grants,
            demands=self.demands,
            used_schemas=self.used_schemas - {"pg_catalog"},
            unowned=not any(entry.owner for entry in self.entries),
            by_session=self.script.owners_by_session,
            size=self.script.read,
            texts=self.texts,
            comments=self.comments,
        )
