"""Predict which objects of a dump the target cannot restore, from their definitions and the target's catalogs.

The plan reports what is certain beforehand: features that PostgreSQL or PostGIS removed, and extensions, languages and
collations that are missing on the target. Only the load finds every such object.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from ..postgres import postgres_server, server_versions
from . import retired_extensions
from .dump.contents import Contents
from .dump.entries import TABLE_KINDS, Entry
from .dump.entry_dependencies import mentions
from .dump.load_errors import FIX_OF_DEPENDENT, fix_for, server_message
from .dump.loss_ledger import LEFT_OUT, POSTPONED, Loss, acceptance
from .dump.loss_names import loss_name
from .dump.sql_text import IDENTIFIER, unquoted

_REMOVED_TYPES = ("abstime", "reltime", "tinterval", "opaque")
_CHANGED_IN_14 = re.compile(
    r"\b(?:S|FINAL|COMBINE)?FUNC(?:TION)? = (?:pg_catalog\.)?"
    r"(array_(?:append|cat|position|positions|prepend|remove|replace)|width_bucket)\b"
)
_ANYARRAY = re.compile(r"= any(?:array|element)\b")
_SYSTEM_COLLATION = re.compile(r'COLLATE pg_catalog\.("(?:[^"]|"")+"|\w+)')
_CREATE_COLLATION = re.compile(r"CREATE COLLATION .*? (\(.*\));", re.DOTALL)
_OID = re.compile(r"\b(\w+)\.oid\b")
_OID_COLUMN = re.compile(r"^    \"?oid\"? ", re.MULTILINE)
_WITH_OIDS_SETTING = re.compile(r"SET default_with_oids TO '(?:true|on|yes|1)'")
_CALL = re.compile(rf"(?<![\w.\"])(?:({IDENTIFIER})\.)?(_?st_\w+|postgis_\w+)\(", re.IGNORECASE)
_CREATE_ROUTINE = re.compile(
    r"CREATE (?:OR REPLACE )?(?:FUNCTION|AGGREGATE|PROCEDURE)\s+(?:@extschema@\.)?(\w+)", re.IGNORECASE
)
_EVALUATED = ("VIEW", "MATERIALIZED VIEW", "TABLE", "DEFAULT", "INDEX", "RULE", "CONSTRAINT", "CHECK CONSTRAINT")
_ROUTINES = ("FUNCTION", "PROCEDURE")
_POSTGIS = ("postgis", "postgis_raster", "postgis_sfcgal", "postgis_topology", "address_standardizer")
_Predictions = Iterator["tuple[Entry, str]"]


def predict(
    connection: Connection,
    extensions: Iterable[str],
    contents: Contents | None,
    needs: Mapping[Entry, set[Entry]],
    accepted: Collection[str],
    postponed: Collection[str] = (),
    unrestorable: Iterable[Mapping[str, str]] = (),
    filled: Collection[str] = (),
) -> list[Loss]:
    """Return the losses that are certain, each followed by those that depend on it.

    extensions: names of those that the source has. contents: None if only the extensions are known. needs: of
    `entry_dependencies.dependencies`, {} if unknown. accepted, postponed: names, as the Ledger takes them.
    unrestorable: {object, why} of what a partial archive cannot restore by itself, by the names of losses. filled:
    `schema.name` of the tables that are known to have rows.
    """
    roots = dict(_missing_extensions(connection, extensions))
    for entry, why in _unsupported(connection, contents) if contents is not None else ():
        roots.setdefault(entry, why)
    entries = {loss_name(entry): entry for entry in contents.entries} if contents is not None else {}
    for item in unrestorable:
        if item["object"] in entries:
            roots.setdefault(entries[item["object"]], item["why"])
    losses: dict[str, Loss] = {}

    def add(entry: Entry, why: str, fix: str, depends: tuple[str, ...]) -> None:
        name = loss_name(entry)
        kept = POSTPONED if name in postponed else ""
        losses.setdefault(name, Loss(name, why, fix, name in accepted or name in postponed, depends, kept))

    def leave_out(extension: Entry, why: str, rows: Iterable[Entry]) -> None:
        for entry in (extension, *rows):
            name = loss_name(entry)
            losses.setdefault(name, Loss(name, why, fix_for(why), True, (), LEFT_OUT))

    for root, why in roots.items():
        name = loss_name(root)
        dependents = _dependents(root, contents, needs) if contents is not None else []
        if contents is not None and root.kind == "EXTENSION" and retired_extensions.is_retired(root.name):
            dependents = retired_extensions.users(root.name, contents, dependents, filled)
            if not dependents:
                leave_out(root, f"{why}; nothing needs it", retired_extensions.own_rows(root.name, contents))
                continue
        add(root, why, fix_for(why), ())
        for entry in dependents:
            add(entry, f"It needs {name}.", FIX_OF_DEPENDENT, (name,))
    return list(losses.values())


def obstacles(losses: Sequence[Loss], extensions: Collection[str]) -> list[dict[str, Any]]:
    """Return a plan's obstacles for the losses that are not accepted: [{what, why, fix, object, stops}], one a root.

    stops: the restore does not begin. It begins if the load itself finds everything that is lost. extensions: names of
    those in the dump's own list.
    """
    result = []
    for root in losses:
        dependents = [loss for loss in losses if root.object in loss.depends]
        if root.depends or all(loss.accepted for loss in [root, *dependents]):
            continue
        shown = ", ".join(loss.object for loss in dependents)
        extension = root.object[len("EXTENSION ") :] if root.object.startswith("EXTENSION ") else ""
        result.append(
            {
                "what": f"{root.object} cannot be restored on this server.",
                "why": root.why + (f"\nThese need it and are lost too: {shown}." if dependents else ""),
                "fix": f"{root.fix}\n{acceptance(losses)}",
                "object": root.object,
                "stops": bool(extension) and bool(dependents or extension not in extensions),
            }
        )
    return result


def _missing_extensions(connection: Connection, names: Iterable[str]) -> _Predictions:
    available = {
        name for (name,) in postgres_server.query(connection, "SELECT name FROM pg_catalog.pg_available_extensions")
    }
    for name in sorted(names):
        entry = Entry("EXTENSION", "", name)
        if name not in available:
            yield entry, f'extension "{name}" is not available on this server'
        elif name == "pg_cron":
            database = postgres_server.value(
                connection, "SELECT pg_catalog.current_setting('cron.database_name', true)"
            )
            yield entry, f"It can be created only in the database of cron.database_name ({database or 'postgres'})."


def _unsupported(connection: Connection, contents: Contents) -> _Predictions:
    """Yield (entry, why) of what is certain from the definitions."""
    yield from _missing_languages(connection, contents)
    yield from _missing_collations(connection, contents)
    yield from _unknown_settings(connection, contents)
    types = [
        name
        for name in _REMOVED_TYPES
        if not postgres_server.value(
            connection, "SELECT pg_catalog.to_regtype(%s) IS NOT NULL", ("pg_catalog." + name,)
        )
    ]
    functions = _missing_functions(connection, contents)
    tables = {
        entry.name for entry, text in contents.texts.items() if entry.kind == "TABLE" and not _OID_COLUMN.search(text)
    }
    number = connection.server_version
    for entry, text in contents.texts.items():
        if entry.kind in ("ACL", "COMMENT", "EXTENSION", "SECURITY LABEL"):
            continue
        for why in _removed_features(entry, text, number, types, tables):
            yield entry, f"{why} in PostgreSQL {server_versions.major(number)}"
        if functions and entry.kind in _EVALUATED:
            for call in sorted({name.lower() for _, name in _CALL.findall(text)} & functions):
                yield entry, f"function {call}() does not exist in this PostGIS"


def _removed_features(entry: Entry, text: str, number: int, types: Sequence[str], tables: set[str]) -> Iterator[str]:
    """Yield the features in a definition that this version of PostgreSQL has removed.

    number: the target's version_num. types: removed ones. tables: names of those without a column `oid` of their own.
    """
    name = _type_in(entry, text, types) if types else ""
    if name:
        yield f'type "{name}" does not exist'
    changed = _CHANGED_IN_14.search(text) if entry.kind in ("AGGREGATE", "OPERATOR") else None
    if changed and number >= 140000 and _ANYARRAY.search(text):
        yield f"function {changed.group(1)}(anyarray, anyelement) does not exist"
    if entry.kind == "OPERATOR" and number >= 140000 and "LEFTARG" in text and "RIGHTARG" not in text:
        yield "postfix operators are not supported"
    if entry.kind in ("VIEW", "MATERIALIZED VIEW", "RULE") and number >= 120000:
        used = tables & set(_OID.findall(text))
        if used:
            yield f'column "{min(used)}.oid" does not exist'


def _type_in(entry: Entry, text: str, types: Sequence[str]) -> str:
    """Return the one of the types that a definition uses, '' for none."""
    names = "|".join(types)
    body = text.split("\n    AS ", 1)[0] if entry.kind in _ROUTINES else text
    if entry.kind == "DOMAIN":
        match = re.search(rf"CREATE DOMAIN \S+ AS (?:pg_catalog\.)?({names})\b", body)
    elif entry.kind in ("TABLE", "FOREIGN TABLE", "TYPE"):
        match = re.search(rf"^\s+{IDENTIFIER} (?:pg_catalog\.)?({names})\b", body, re.MULTILINE)
    elif entry.kind in _ROUTINES or entry.kind == "AGGREGATE":
        match = re.search(rf"[(, ](?:pg_catalog\.)?({names})(?:\[\])?[,)]", entry.name)
        match = match or re.search(rf"\bRETURNS (?:SETOF )?(?:pg_catalog\.)?({names})\b", body)
    else:
        match = re.search(rf"::(?:pg_catalog\.)?({names})\b", body)
    return match.group(1) if match else ""


def _missing_languages(connection: Connection, contents: Contents) -> _Predictions:
    languages = {
        name
        for (name,) in postgres_server.query(
            connection,
            "SELECT lanname FROM pg_catalog.pg_language UNION SELECT name FROM pg_catalog.pg_available_extensions",
        )
    }
    missing = set()
    for entry, text in contents.texts.items():
        if entry.kind == "PROCEDURAL LANGUAGE" and entry.name not in languages and " HANDLER " not in text:
            missing.add(entry.name)
            yield entry, f'language "{entry.name}" does not exist on this server'
    for demand in contents.demands:
        # Other languages that are missing are in the dump, as an entry or an extension.
        python2 = demand.subject == "language" and demand.name in ("plpythonu", "plpython2u")
        if python2 and demand.name not in languages | missing:
            yield demand.entry, f'language "{demand.name}" does not exist on this server'


def _missing_collations(connection: Connection, contents: Contents) -> _Predictions:
    collations = {name for (name,) in postgres_server.query(connection, "SELECT collname FROM pg_catalog.pg_collation")}
    for entry, text in contents.texts.items():
        missing = {unquoted(name) for name in _SYSTEM_COLLATION.findall(text)} - collations
        if missing and entry.kind not in _ROUTINES:
            yield entry, f'collation "{min(missing)}" does not exist on this server'
        match = _CREATE_COLLATION.search(text) if entry.kind == "COLLATION" else None
        if match and re.search(r"provider = (?:libc|icu)\b", match.group(1)):
            why = _refused_collation(connection, match.group(1))
            if why:
                yield entry, why


def _refused_collation(connection: Connection, definition: str) -> str:
    """Return the server's message if it refuses a collation, which is tried under a temporary name; else ''."""
    postgres_server.execute(connection, "BEGIN")
    try:
        postgres_server.execute(connection, "CREATE COLLATION pg_temp.sauvegarde_probe " + definition)
    except psycopg2.Error as error:
        # It may only be of another encoding than this database.
        return "" if error.pgcode == "0A000" else server_message(str(error))
    finally:
        postgres_server.execute(connection, "ROLLBACK")
    return ""


def _unknown_settings(connection: Connection, contents: Contents) -> _Predictions:
    exists: dict[str, bool] = {}
    for demand in contents.demands:
        name = demand.name
        if demand.subject != "setting" or "." in name:
            continue
        if name not in exists:
            statement = "SELECT pg_catalog.current_setting(%s, true) IS NOT NULL"
            exists[name] = bool(postgres_server.value(connection, statement, (name,)))
        # From 12 on the setting exists, and can only be off.
        refused = connection.server_version >= 120000 and _WITH_OIDS_SETTING.search(
            contents.texts.get(demand.entry, "")
        )
        if not exists[name] or refused:
            version = server_versions.major(connection.server_version)
            yield demand.entry, f'unrecognized configuration parameter "{name}" in PostgreSQL {version}'


def _missing_functions(connection: Connection, contents: Contents) -> set[str]:
    """Return the names of PostGIS's functions that the dump calls and the target's PostGIS does not create.

    Empty if PostGIS's scripts cannot be read.
    """
    folder = postgres_server.value(connection, "SELECT setting FROM pg_catalog.pg_config() WHERE name = 'SHAREDIR'")
    versions = dict(
        postgres_server.query(connection, "SELECT name, default_version FROM pg_catalog.pg_available_extensions")
    )
    if "postgis" not in contents.extensions or "postgis" not in versions:
        return set()
    created = set()
    for name in set(contents.extensions) | {"postgis_raster"}:
        if name not in _POSTGIS or name not in versions:
            continue
        path = Path(folder) / "extension" / f"{name}--{versions[name]}.sql"
        try:
            created |= {routine.lower() for routine in _CREATE_ROUTINE.findall(path.read_text("utf-8", "replace"))}
        except OSError:
            return set()
    own = {name.lower() for _, name in contents.defined()}
    called = set()
    for entry, text in contents.texts.items():
        if entry.kind in _EVALUATED:
            called |= {name.lower() for _, name in _CALL.findall(text)}
    return called - created - own


def _dependents(root: Entry, contents: Contents, needs: Mapping[Entry, set[Entry]]) -> list[Entry]:
    """Return the entries that cannot be restored without `root`, in the dump's order."""
    entries = [entry for entry in contents.entries if entry.kind != "EXTENSION"]
    rows = any(entry.kind == "TABLE DATA" for entry in entries)
    queue: list[Entry] = [root]
    dependents: list[Entry] = []
    while queue:
        lower = queue.pop(0)
        for entry in entries:
            if entry != lower and entry not in dependents and _depends(entry, lower, contents, needs):
                dependents.append(entry)
                queue.append(entry)
        if lower.kind in TABLE_KINDS and not rows:
            dependents.append(lower.of_kind("TABLE DATA"))
    if root.kind == "EXTENSION":
        names = {loss_name(entry) for entry in dependents}
        dependents += [entry for entry in _rows_of_extension(root, contents) if loss_name(entry) not in names]
    order = {entry: position for position, entry in enumerate(contents.entries)}
    return sorted(dependents, key=lambda entry: order.get(entry, len(order)))


def _rows_of_extension(extension: Entry, contents: Contents) -> list[Entry]:
    schemas = {contents.extensions.get(extension.name, "")} - {"public", "pg_catalog", ""}
    schemas |= {"cron"} if extension.name == "pg_cron" else set()
    return [Entry("TABLE DATA", rows.schema, rows.table) for rows in contents.merged if rows.schema in schemas]


def _depends(entry: Entry, lower: Entry, contents: Contents, needs: Mapping[Entry, set[Entry]]) -> bool:
    if entry.kind == "COMMENT" and entry.name.startswith("EXTENSION "):
        return False
    if needs and entry in needs:
        return lower in needs[entry]
    return mentions(entry, contents.texts.get(entry, ""), lower)
