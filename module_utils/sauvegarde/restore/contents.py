"""What a dump holds, from one pass over it as plain SQL: entries, extensions, roles, rows, the database's properties.

The pass is also the full read that proves a foreign dump readable.
"""

import re
import shutil
import tempfile
from typing import Any, Dict, NamedTuple

from . import load_as
from .script import CHUNK, IDENTIFIER, Copy, Entry, Fact, Script, Setting, Sql, unquoted

QUALIFIED = re.compile(rf"({IDENTIFIER})(?:\.({IDENTIFIER}))?")
_EXTENSION = re.compile(rf"CREATE EXTENSION (?:IF NOT EXISTS )?({IDENTIFIER})(?: WITH)?(?: SCHEMA ({IDENTIFIER}))?")
_OWNER = re.compile(rf"^ALTER .* OWNER TO ({IDENTIFIER});$", re.MULTILINE)
_GRANT = re.compile(
    rf"^(?:ALTER DEFAULT PRIVILEGES .*?)?(?:GRANT|REVOKE) .* (?:TO|FROM) ({IDENTIFIER})"
    rf"(?: WITH [A-Z ]+)?(?: GRANTED BY ({IDENTIFIER}))?(?: CASCADE)?;$",
    re.MULTILINE,
)
_DEFAULTS = re.compile(rf"^ALTER DEFAULT PRIVILEGES FOR ROLE ({IDENTIFIER}) ", re.MULTILINE)
_SESSION = re.compile(rf"^SET SESSION AUTHORIZATION ({IDENTIFIER});$", re.MULTILINE)
_POLICY = re.compile(rf"^CREATE POLICY .*? TO ({IDENTIFIER}(?:, {IDENTIFIER})*)(?: USING| WITH CHECK|;)", re.MULTILINE)
_MAPPING = re.compile(rf"^CREATE USER MAPPING FOR ({IDENTIFIER}) ", re.MULTILINE)
_OPTION = re.compile(
    r"(ENCODING|LC_COLLATE|LC_CTYPE|LOCALE|LOCALE_PROVIDER|ICU_LOCALE|ICU_RULES|BUILTIN_LOCALE) = ('(?:[^']|'')*'|\w+)"
)
_LIMIT = re.compile(r" CONNECTION LIMIT = (-?\d+)")
_DATABASE_SETTING = re.compile(
    rf"^ALTER (?:ROLE ({IDENTIFIER}) IN )?DATABASE {IDENTIFIER} SET ({IDENTIFIER}) TO (.*);$", re.MULTILINE | re.DOTALL
)
_ON = re.compile(
    r"^(?:GRANT|REVOKE) .*? ON (TABLE|SEQUENCE|FUNCTION|PROCEDURE|AGGREGATE|TYPE|DOMAIN|SCHEMA|LARGE OBJECT) "
    rf"({IDENTIFIER}(?:\.{IDENTIFIER})?|\d+)",
    re.MULTILINE,
)
_RASTER = re.compile(r'\braster\b|"raster"')
# Kinds of entries that define something that rows can go into.
DEFINING = ("TABLE", "FOREIGN TABLE")
# Words that stand where a role's name can, and name none.
NO_ROLE = ("public", "current_user", "session_user", "current_role", "default")


def identifiers(text):
    """Schema and name at the head of `text` ('' for a missing schema)."""
    found = QUALIFIED.match(text)
    if not found:
        return "", text
    if found.group(2):
        return unquoted(found.group(1)), unquoted(found.group(2))
    return "", unquoted(found.group(1))


def located(text, entry):
    """Schema and name at the head of an entry's `text`. Clients from before March 2018 write no schema: it is the
    entry's, which their SET search_path names."""
    schema, name = identifiers(text)
    return schema or (entry.schema if entry is not None else ""), name


class Contents(NamedTuple):
    """What one pass over a dump found.

    entries     every Entry, in the dump's order
    server      version of the server it was made from, tool: of pg_dump ('' where the dump does not say)
    encoding    of the dump's text, as Python calls it
    extensions  name → schema
    owners      schema name → owner
    raster      the dump uses PostGIS's raster type or was made where postgis held it
    roles       every role it names
    rows        (schema, table) → rows, where they came as COPY and the rows were read
    database    properties of the database itself; {} where the dump has none
    settings    name of each setting the dump sets → the values it is set to, as SQL
    redundant   entries that make what every new database has: the schema public, in dumps from before 15
    merged      Rows of tables that the dump does not define: an extension's own tables, whose rows are merged
    granted     (entry, object's type, schema, name) of every GRANT or REVOKE on one table, function, schema …
    grants      (entry, text) of the GRANTs on schemas and of public's owner, needed before their place in a plain dump
    demands     load_as.demands of all entries
    used        the extensions' schemas, and public, that definitions mention
    unowned     no entry names an owner (pg_dump --no-owner)
    by_session  Script.owners_by_session
    size        bytes of the dump as SQL
    """

    entries: list
    server: str
    tool: str
    encoding: str
    extensions: Dict[str, str]
    owners: Dict[str, str]
    raster: bool
    roles: set
    rows: Dict[tuple, int]
    database: Dict[str, Any]
    settings: Dict[str, set]
    redundant: set
    merged: list
    granted: list
    grants: list
    demands: list
    used: set
    unowned: bool
    by_session: bool
    size: int

    def names(self, *kinds):
        """(schema, name) of every entry of these kinds, in order."""
        return [(entry.schema, entry.name) for entry in self.entries if entry.kind in kinds]

    def defined(self):
        """(schema, name) of everything that the dump makes in a schema, functions without their arguments."""
        return {
            (entry.schema, entry.name.split("(")[0])
            for entry in self.entries
            if entry.kind not in ("ACL", "COMMENT", "TABLE DATA", "SEQUENCE SET")
        }

    def tablespaces(self):
        """Names of the tablespaces it uses, but for the default one."""
        return {unquoted(value.strip("' ")) for value in self.settings.get("default_tablespace", ())} - {""}

    def passed_over(self, entry, schemas):
        """Whether the entry is left out of every load: what it makes is there already, schemas by these names too."""
        return unwanted(entry, schemas) or entry in self.redundant


class Spooled(NamedTuple):
    """Rows of one table, kept aside: its COPY statement and an open temporary file."""

    schema: str
    table: str
    statement: str
    encoding: str
    rows: Any


def _roles(text, found):
    for pattern in (_OWNER, _GRANT, _DEFAULTS, _SESSION, _MAPPING):
        for groups in pattern.findall(text):
            found.update(groups if isinstance(groups, tuple) else (groups,))
    for names in _POLICY.findall(text):
        found.update(re.findall(IDENTIFIER, names))


def text(literal):
    """The text of an SQL string literal, None for NULL."""
    if literal == "NULL":
        return None
    body = literal[literal.index("'") + 1 : -1].replace("''", "'")
    return body.replace("\\\\", "\\") if literal[0] in "Ee" else body


def _database(entry, statement_text, database):
    """Add to `database` what this entry about the database itself says."""
    if entry.owner:
        database["owner"] = entry.owner
    if entry.kind == "DATABASE":
        for name, value in _OPTION.findall(statement_text):
            database[name.lower()] = value[1:-1].replace("''", "'") if value.startswith("'") else value
        found = _LIMIT.search(statement_text)
        if found:
            database["limit"] = int(found.group(1))
    elif entry.kind == "DATABASE PROPERTIES":
        for statement in re.split(r";\n+(?=ALTER )", statement_text.strip()):
            found = _DATABASE_SETTING.match(statement.rstrip(";") + ";")
            if found:
                role = unquoted(found.group(1)) if found.group(1) else ""
                database.setdefault("settings", []).append((role, found.group(2), found.group(3)))
            found = _LIMIT.search(statement)
            if found:
                database["limit"] = int(found.group(1))
    elif entry.kind == "COMMENT":
        found = re.match(rf"COMMENT ON DATABASE {IDENTIFIER} IS (.*);\s*$", statement_text, re.DOTALL)
        if found:
            database["comment"] = text(found.group(1))
    elif entry.kind == "ACL":
        database.setdefault("grants", []).extend(line for line in statement_text.splitlines() if line.endswith(";"))


def about_database(entry):
    """Whether the entry belongs to the database itself, not to what is in it."""
    if entry.kind in ("DATABASE", "DATABASE PROPERTIES"):
        return True
    return (
        not entry.schema and entry.kind in ("ACL", "COMMENT", "SECURITY LABEL") and entry.name.startswith("DATABASE ")
    )


def about_extension(entry):
    """Whether the entry makes an extension or says what it is: the extension is there before the dump goes in."""
    if entry.kind == "EXTENSION":
        return True
    return not entry.schema and entry.kind == "COMMENT" and entry.name.startswith("EXTENSION ")


def unwanted(entry, schemas):
    """Whether the entry is left out of the load: the database's, the extensions', and schemas made for extensions."""
    return about_database(entry) or about_extension(entry) or (entry.kind == "SCHEMA" and entry.name in schemas)


def scan(stream, told=None):
    """Read the dump's SQL whole from the binary `stream` and return its Contents.

    `told`, where given, is called with the bytes read so far after each piece. Raises SauvegardeError where the dump
    stops early or is none.
    """
    script = Script(stream)
    defined = set()
    facts = {"server": "", "tool": ""}
    entries, grants, merged, granted, demands = [], [], [], [], []
    extensions, owners, rows, database, settings = {}, {}, {}, {}, {}
    names, redundant, used = set(), set(), set()
    raster = unowned = False
    for piece in script:
        if isinstance(piece, Fact):
            facts[piece.name] = piece.value
        elif isinstance(piece, Setting):
            values = settings.setdefault(piece.name, set())
            values.add(script.decode(piece.text).split("=", 1)[-1].strip().rstrip(";"))
        elif isinstance(piece, Entry):
            entries.append(piece)
            if piece.kind in DEFINING:
                defined.add((piece.schema, piece.name))
            if piece.kind == "SCHEMA":
                owners[piece.name] = piece.owner
        elif isinstance(piece, Copy):
            statement = script.decode(piece.statement)
            schema, name = located(statement[len("COPY ") :], piece.entry)
            if piece.entry is not None and (piece.entry.schema, piece.entry.name) not in defined:
                kept = tempfile.SpooledTemporaryFile(CHUNK)  # noqa: SIM115 - lives until the rows are merged
                shutil.copyfileobj(piece.rows, kept)
                merged.append(Spooled(schema, name, statement, script.encoding, kept))
            else:
                piece.rows.drain()
            rows[(schema, name)] = rows.get((schema, name), 0) + piece.rows.count
        elif isinstance(piece, Sql) and piece.entry is not None and not piece.entry.kind.endswith("DATA"):
            entry, said = piece.entry, script.decode(piece.text)
            _roles(said, names)
            demands += load_as.demands(entry, said)
            if entry.kind not in ("ACL", "COMMENT"):
                bare = said.replace('"', "")
                used.update(name for name in {"public", *extensions.values()} if name.replace('"', "") + "." in bare)
            if about_database(entry):
                _database(entry, said, database)
            elif entry.kind == "SCHEMA" and "CREATE SCHEMA public;" in said.splitlines():
                redundant.add(entry)
            elif entry.kind == "SCHEMA" and entry.name == "public":
                grants.append((entry, piece.text))
            elif entry.kind == "EXTENSION":
                found = _EXTENSION.search(said)
                if found:
                    extensions[unquoted(found.group(1))] = unquoted(found.group(2) or "public")
            elif entry.kind == "ACL":
                if re.search(r"^GRANT .* ON SCHEMA ", said, re.MULTILINE):
                    grants.append((entry, piece.text))
                for kind, target in set(_ON.findall(said)):
                    granted.append((entry, kind, *located(target, entry)))
            elif entry.kind == "COMMENT" and entry.name == "EXTENSION postgis" and "raster" in said:
                raster = True
            elif entry.kind in ("TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "FUNCTION", "TYPE", "DOMAIN"):
                raster = raster or bool(_RASTER.search(said))
        if told:
            told(script.read)
    roles = {unquoted(name) for name in names if name and unquoted(name).lower() not in NO_ROLE}
    roles.update(entry.owner for entry in entries if entry.owner)
    roles.update(role for role, _, _ in database.get("settings", ()) if role)
    unowned = not any(entry.owner for entry in entries)
    return Contents(
        entries=entries,
        server=facts["server"],
        tool=facts["tool"],
        encoding=script.encoding,
        extensions=extensions,
        owners=owners,
        raster=raster and "postgis" in extensions and "postgis_raster" not in extensions,
        roles=roles,
        rows=rows,
        database=database,
        settings=settings,
        redundant=redundant,
        merged=merged,
        granted=granted,
        grants=grants,
        demands=demands,
        used=used - {"pg_catalog"},
        unowned=unowned,
        by_session=script.owners_by_session,
        size=script.read,
    )
