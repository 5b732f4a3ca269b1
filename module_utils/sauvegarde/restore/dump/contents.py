"""What a dump holds, from one pass over it as plain SQL: entries, extensions, roles, rows, the database's properties.

The pass is also the full read that proves a foreign dump readable.
"""

import re
import shutil
import tempfile
from typing import Any, Dict, NamedTuple

from . import oids
from .entries import TABLE_KINDS, Entry, leading_key, leading_name, one_line
from .lexer import (
    CHUNK,
    IDENTIFIER,
    statements,
    unquoted,
)
from .role_demands import demands_of
from .sql_script import (
    Copy,
    Fact,
    Script,
    Setting,
    Sql,
)

_EXTENSION = re.compile(rf"CREATE EXTENSION (?:IF NOT EXISTS )?({IDENTIFIER})(?: WITH)?(?: SCHEMA ({IDENTIFIER}))?")
# Each of these is compared with one whole statement: names may hold line ends.
_OWNER = re.compile(rf"ALTER .* OWNER TO ({IDENTIFIER});", re.DOTALL)
_GRANT = re.compile(
    rf"(?:ALTER DEFAULT PRIVILEGES .*?)?(?:GRANT|REVOKE) .* (?:TO|FROM) ({IDENTIFIER})"
    rf"(?: WITH [A-Z ]+)?(?: GRANTED BY ({IDENTIFIER}))?(?: CASCADE)?;",
    re.DOTALL,
)
_DEFAULTS = re.compile(rf"ALTER DEFAULT PRIVILEGES FOR ROLE ({IDENTIFIER}) .*", re.DOTALL)
_SESSION = re.compile(rf"SET SESSION AUTHORIZATION ({IDENTIFIER});")
_POLICY = re.compile(
    rf"CREATE POLICY .*? TO ({IDENTIFIER}(?:, {IDENTIFIER})*)(?: USING .*| WITH CHECK .*|;)", re.DOTALL
)
_MAPPING = re.compile(rf"CREATE USER MAPPING FOR ({IDENTIFIER}) .*", re.DOTALL)
_OPTION = re.compile(
    r"(ENCODING|LC_COLLATE|LC_CTYPE|LOCALE|LOCALE_PROVIDER|ICU_LOCALE|ICU_RULES|BUILTIN_LOCALE) = ('(?:[^']|'')*'|\w+)"
)
_LIMIT = re.compile(r" CONNECTION LIMIT = (-?\d+)")
_DATABASE_SETTING = re.compile(
    rf"ALTER (?:ROLE ({IDENTIFIER}) IN )?DATABASE {IDENTIFIER} SET ({IDENTIFIER}) TO (.*);", re.DOTALL
)
_ON = re.compile(
    r"(?:GRANT|REVOKE) .*? ON (TABLE|SEQUENCE|FUNCTION|PROCEDURE|AGGREGATE|TYPE|DOMAIN|SCHEMA|LARGE OBJECT) "
    rf"({IDENTIFIER}(?:\.{IDENTIFIER})?|\d+)",
    re.DOTALL,
)
_TABLE = re.compile(rf"CREATE (?:UNLOGGED |FOREIGN )?TABLE (?:IF NOT EXISTS )?(?={IDENTIFIER})")
_RASTER = re.compile(r'\braster\b|"raster"')
# Words that stand where a role's name can, and name none.
NO_ROLE = ("public", "current_user", "session_user", "current_role", "default")


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
    inserted    (schema, table) of each table whose rows came as INSERTs
    filled      (schema, table) of each table that rows came for, in whatever way
    real        (schema, table) as entries have them → the tables' own names, in which line ends are line ends
    with_oids   (schema, table) of each table that was made WITH OIDS
    oids        (schema, table) of each table whose rows came with their OIDs (pg_dump --oids)
    database    properties of the database itself; {} where the dump has none
    settings    name of each setting the dump sets → the values it is set to, as SQL
    redundant   entries that make what every new database has: the schema public, in dumps from before 15
    merged      Rows of tables that the dump does not define: an extension's own tables, whose rows are merged
    granted     (entry, object's type, schema, name) of every GRANT or REVOKE on one table, function, schema …
    grants      (entry, text) of the GRANTs on schemas and of public's owner, needed before their place in a plain dump
    demands     role_demands.Demand of all entries
    used        the extensions' schemas, and public, that definitions mention
    unowned     no entry names an owner (pg_dump --no-owner)
    by_session  Script.owners_by_session
    size        bytes of the dump as SQL
    texts       Entry → its SQL, of definitions
    comments    (entry, text) of the comments on extensions
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
    inserted: set
    filled: set
    real: Dict[tuple, set]
    with_oids: set
    oids: set
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
    texts: Dict[Entry, str]
    comments: list

    def names(self, *kinds):
        """(schema, name) of every entry of these kinds, in order."""
        return [(entry.schema, entry.name) for entry in self.entries if entry.kind in kinds]

    def defined(self):
        """(schema, name) of everything that the dump makes in a schema, functions without their arguments."""
        return {
            (entry.schema, name)
            for entry in self.entries
            if entry.kind not in ("ACL", "COMMENT", "TABLE DATA", "SEQUENCE SET")
            for name in entry.possible_names()
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


def _roles(statement, found):
    """Add the roles that a statement names to `found`. A quoted name is a role's, whatever it means without quotes."""
    named = []
    for pattern in (_OWNER, _GRANT, _DEFAULTS, _SESSION, _MAPPING):
        match = pattern.fullmatch(statement)
        named += filter(None, match.groups()) if match else ()
    policy = _POLICY.fullmatch(statement)
    named += re.findall(IDENTIFIER, policy.group(1)) if policy else ()
    found.update(unquoted(name) for name in named if name.lower() not in NO_ROLE)


def text(literal):
    """The text of an SQL string literal, None for NULL."""
    if literal == "NULL":
        return None
    body = literal[literal.index("'") + 1 : -1].replace("''", "'")
    return body.replace("\\\\", "\\") if literal[0] in "Ee" else body


def escaped(statement):
    """The statement of a dump under standard_conforming_strings = off, with literals that mean the same under any
    setting."""
    return re.sub(r"'(?:[^']|'')*'", lambda found: ("E" if "\\" in found.group() else "") + found.group(), statement)


def _limit(text, database):
    """Note a connection limit. -2 marks a database whose DROP was cut short: no server takes that for a limit."""
    found = _LIMIT.search(text)
    if found:
        database["limit"] = max(-1, int(found.group(1)))


def _database(entry, said, database):
    """Add to `database` what the statements of this entry say about the database itself."""
    statement_text = "\n".join(said)
    if entry.owner:
        database["owner"] = entry.owner
    if entry.kind == "DATABASE":
        for name, value in _OPTION.findall(statement_text):
            database[name.lower()] = value[1:-1].replace("''", "'") if value.startswith("'") else value
        _limit(statement_text, database)
    elif entry.kind == "DATABASE PROPERTIES":
        database["properties"] = True
        for statement in said:
            found = _DATABASE_SETTING.fullmatch(statement)
            if found:
                role = unquoted(found.group(1)) if found.group(1) else ""
                database.setdefault("settings", []).append((role, found.group(2), found.group(3)))
            _limit(statement, database)
    elif entry.kind == "COMMENT":
        found = re.match(rf"COMMENT ON DATABASE {IDENTIFIER} IS (.*);\s*$", statement_text, re.DOTALL)
        if found:
            database["comment"] = text(found.group(1))
    elif entry.kind == "ACL":
        database.setdefault("grants", []).extend(said)


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
    scanner = _Scanner(Script(stream))
    for piece in scanner.script:
        scanner.take(piece)
        if told:
            told(scanner.script.read)
    return scanner.contents()


class _Scanner:
    """Collects what the pieces of a script say; `contents` at the end."""

    def __init__(self, script):
        self.script = script
        self.facts = {"server": "", "tool": ""}
        self.entries, self.grants, self.merged, self.granted, self.demands = [], [], [], [], []
        self.extensions, self.owners, self.rows, self.database, self.settings = {}, {}, {}, {}, {}
        self.names, self.redundant, self.used, self.defined = set(), set(), set(), set()
        self.inserted, self.filled, self.with_oids, self.oids, self.real = set(), set(), set(), set(), {}
        self.raster = self.oids_by_default = False
        self.texts, self.comments = {}, []

    def take(self, piece):
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
                    self.inserted.add((piece.entry.schema, piece.entry.name))
            elif not piece.entry.kind.endswith("DATA"):
                self._sql(piece)

    def _setting(self, piece):
        value = self.script.decode(piece.text).split("=", 1)[-1].strip().rstrip(";")
        self.settings.setdefault(piece.name, set()).add(value)
        if piece.name == "default_with_oids":
            self.oids_by_default = value == "true"

    def _entry(self, entry):
        self.entries.append(entry)
        if entry.kind in TABLE_KINDS:
            self.defined.add((entry.schema, entry.name))
        if entry.kind == "TABLE" and self.oids_by_default:
            self.with_oids.add((entry.schema, entry.name))
        if entry.kind == "SCHEMA":
            self.owners[entry.name] = entry.owner
        if entry.kind == "PROCEDURAL LANGUAGE" and entry.name == "plpgsql":
            # Every database has it, as an extension, since 9.1.
            self.redundant.add(entry)

    def _copy(self, piece):
        statement = self.script.decode(piece.statement)
        named = statement[len("COPY ") :]
        table = leading_key(named, piece.entry)
        if oids.WITH_OIDS.search(piece.statement):
            self.oids.add(table)
        if piece.entry is not None and (piece.entry.schema, piece.entry.name) not in self.defined:
            kept = tempfile.SpooledTemporaryFile(CHUNK)  # noqa: SIM115 - lives until the rows are merged
            shutil.copyfileobj(piece.rows, kept)
            self.merged.append(Spooled(*table, statement, self.script.encoding, kept))
        else:
            piece.rows.drain()
        self.rows[table] = self.rows.get(table, 0) + piece.rows.count
        if piece.rows.count and piece.entry is not None:
            self.filled.add((piece.entry.schema, piece.entry.name))

    def _sql(self, piece):
        entry, text = piece.entry, self.script.decode(piece.text)
        self.texts[entry] = self.texts.get(entry, "") + text
        if entry.kind == "COMMENT" and about_extension(entry):
            self.comments.append((entry, escaped(text) if self._doubled() else text))
        said = [self.script.decode(each) for each in statements(piece.text)]
        for each in said:
            _roles(each, self.names)
        self.demands += demands_of(entry, text)
        if entry.kind not in ("ACL", "COMMENT"):
            bare = text.replace('"', "")
            known = {"public", *self.extensions.values()}
            self.used.update(name for name in known if name.replace('"', "") + "." in bare)
        if about_database(entry):
            _database(entry, [escaped(each) for each in said] if self._doubled() else said, self.database)
        elif entry.kind == "SCHEMA" and "CREATE SCHEMA public;" in said:
            self.redundant.add(entry)
        elif entry.kind == "SCHEMA" and entry.name == "public":
            self.grants.append((entry, piece.text))
        elif entry.kind == "EXTENSION":
            found = _EXTENSION.search(text)
            if found:
                self.extensions[unquoted(found.group(1))] = unquoted(found.group(2) or "public")
        elif entry.kind == "ACL":
            self._acl(piece, said)
        elif entry.kind == "COMMENT" and entry.name == "EXTENSION postgis" and "raster" in text:
            self.raster = True
        elif entry.kind in ("TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "FUNCTION", "TYPE", "DOMAIN"):
            self.raster = self.raster or bool(_RASTER.search(text))
            if entry.kind in TABLE_KINDS:
                self._table(entry, text)

    def _doubled(self):
        """Whether backslashes in the dump's literals are escapes."""
        return "off" in self.settings.get("standard_conforming_strings", ())

    def _acl(self, piece, said):
        if any(re.match(r"GRANT .* ON SCHEMA ", each, re.DOTALL) for each in said):
            self.grants.append((piece.entry, piece.text))
        targets = {found.groups() for found in map(_ON.match, said) if found}
        for kind, target in sorted(targets):
            self.granted.append((piece.entry, kind, *leading_key(target, piece.entry)))

    def _table(self, entry, text):
        found = _TABLE.search(text)
        if found:
            schema, name = leading_name(text[found.end() :])
            self.real.setdefault((entry.schema, entry.name), set()).add((schema or entry.schema, name))
        if text.rstrip().endswith("WITH OIDS;") or "\nWITH OIDS;" in text:
            self.with_oids.add((entry.schema, entry.name))

    def contents(self):
        roles = set(self.names)
        known = {one_line(name) for name in roles}
        roles.update(entry.owner for entry in self.entries if entry.owner and entry.owner not in known)
        roles.update(role for role, _, _ in self.database.get("settings", ()) if role)
        return Contents(
            entries=self.entries,
            server=self.facts["server"],
            tool=self.facts["tool"],
            encoding=self.script.encoding,
            extensions=self.extensions,
            owners=self.owners,
            raster=self.raster and "postgis" in self.extensions and "postgis_raster" not in self.extensions,
            roles=roles,
            rows=self.rows,
            inserted=self.inserted,
            filled=self.filled | self.inserted,
            real=self.real,
            with_oids=self.with_oids,
            oids=self.oids,
            database=self.database,
            settings=self.settings,
            redundant=self.redundant,
            merged=self.merged,
            granted=self.granted,
            grants=self.grants,
            demands=self.demands,
            used=self.used - {"pg_catalog"},
            unowned=not any(entry.owner for entry in self.entries),
            by_session=self.script.owners_by_session,
            size=self.script.read,
            texts=self.texts,
            comments=self.comments,
        )
