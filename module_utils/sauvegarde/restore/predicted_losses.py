"""Predict which objects of a dump the target cannot restore, from their definitions and the target's catalogs.

The plan reports what is certain beforehand: features that PostgreSQL or PostGIS removed, and extensions, languages and
collations that are missing on the target. Only the load finds every such object.
"""

import re
from pathlib import Path

import psycopg2

from ..postgres import postgres_server
from . import losses
from .dump.lexer import IDENTIFIER, unquoted
from .dump.sql_script import Entry

_REMOVED_TYPES = ("abstime", "reltime", "tinterval", "opaque")
_CHANGED_IN_14 = re.compile(
    r"\b(?:S|FINAL|COMBINE)?FUNC(?:TION)? = (?:pg_catalog\.)?"
    r"(array_(?:append|cat|position|positions|prepend|remove|replace)|width_bucket)\b"
)
_ANYARRAY = re.compile(r"= any(?:array|element)\b")
_SYSTEM_COLLATION = re.compile(r'COLLATE pg_catalog\.("(?:[^"]|"")+"|\w+)')
_OWN_COLLATION = re.compile(r"CREATE COLLATION .*? (\(.*\));", re.DOTALL)
_OID = re.compile(r"\b(\w+)\.oid\b")
_CALL = re.compile(rf"(?<![\w.\"])(?:({IDENTIFIER})\.)?(_?st_\w+|postgis_\w+)\(", re.IGNORECASE)
_MADE = re.compile(r"CREATE (?:OR REPLACE )?(?:FUNCTION|AGGREGATE|PROCEDURE)\s+(?:@extschema@\.)?(\w+)", re.IGNORECASE)
_EVALUATED = ("VIEW", "MATERIALIZED VIEW", "TABLE", "DEFAULT", "INDEX", "RULE", "CONSTRAINT", "CHECK CONSTRAINT")
_ROUTINES = ("FUNCTION", "PROCEDURE")
_POSTGIS = ("postgis", "postgis_raster", "postgis_sfcgal", "postgis_topology", "address_standardizer")


def extension(name):
    return Entry("EXTENSION", "", name, "")


def foreseen(connection, wanted, contents, needs, accepted, postponed=()):
    """Losses (as losses.Ledger.as_list gives them) that are certain; what depends on one follows it.
    accepted, postponed: names, as the Ledger takes them.

    wanted: names of the extensions. contents: None where only they are known. needs: losses.dependencies, {} unknown.
    """
    roots = dict(_extensions(connection, wanted))
    for entry, why in _objects(connection, contents) if contents is not None else ():
        roots.setdefault(entry, why)
    found, seen = [], set()
    for root, why in roots.items():
        below = _dependents(root, contents, needs) if contents is not None else []
        needs_it = f"It needs {losses.name_of(root)}."
        for entry, on, words in [(root, [], why)] + [(each, [root], needs_it) for each in below]:
            name = losses.name_of(entry)
            if name not in seen:
                seen.add(name)
                found.append(
                    {
                        "object": name,
                        "why": words,
                        "fix": losses.fix_for(words) if entry is root else losses.FOLLOWS,
                        "accepted": name in accepted or name in postponed,
                        "depends": [losses.name_of(each) for each in on],
                        "kept": losses.POSTPONED if name in postponed else "",
                    }
                )
    return found


def obstacles(found, known):
    """What a plan says about the losses that were not accepted: [{what, why, fix, object, stops}], one a root.

    stops: the restore does not begin. It does where only the load shows all that would be lost. known: names of the
    extensions that are in the dump's own list.
    """
    result = []
    for root in found:
        below = [each for each in found if root["object"] in each["depends"]]
        if root["depends"] or all(each["accepted"] for each in [root, *below]):
            continue
        name = root["object"]
        of_extension = name.startswith("EXTENSION ")
        shown = ", ".join(each["object"] for each in below)
        why = root["why"] + (f"\nThese need it and are lost too: {shown}." if below else "")
        fix = "{}\n{}".format(root["fix"], losses.way_on(found))
        stops = of_extension and bool(below or name[len("EXTENSION ") :] not in known)
        what = f"{name} cannot be restored on this server."
        result.append({"what": what, "why": why, "fix": fix, "object": name, "stops": stops})
    return result


def _extensions(connection, wanted):
    available = {
        name for (name,) in postgres_server.query(connection, "SELECT name FROM pg_catalog.pg_available_extensions")
    }
    for name in sorted(wanted):
        if name not in available:
            yield extension(name), f'extension "{name}" is not available on this server'
        elif name == "pg_cron":
            where = postgres_server.value(connection, "SELECT pg_catalog.current_setting('cron.database_name', true)")
            yield (
                extension(name),
                "It can be created only in the database of cron.database_name ({}).".format(where or "postgres"),
            )


def _objects(connection, contents):
    """(entry, why) of what is certain from the definitions."""
    number = connection.server_version
    version = postgres_server.major(number)
    types = [
        name
        for name in _REMOVED_TYPES
        if not postgres_server.value(
            connection, "SELECT pg_catalog.to_regtype(%s) IS NOT NULL", ("pg_catalog." + name,)
        )
    ]
    gone = _gone_functions(connection, contents)
    tables = {
        entry.name
        for entry, text in contents.texts.items()
        if entry.kind == "TABLE" and not re.search(r"^    \"?oid\"? ", text, re.MULTILINE)
    }
    yield from _languages(connection, contents)
    yield from _collations(connection, contents)
    yield from _settings(connection, contents, version)
    for entry, text in contents.texts.items():
        if entry.kind in ("ACL", "COMMENT", "EXTENSION", "SECURITY LABEL"):
            continue
        name = types and _type_in(entry, text, types)
        if name:
            yield entry, f'type "{name}" does not exist in PostgreSQL {version}'
        changed = _CHANGED_IN_14.search(text) if entry.kind in ("AGGREGATE", "OPERATOR") else None
        if changed and number >= 140000 and _ANYARRAY.search(text):
            yield entry, f"function {changed.group(1)}(anyarray, anyelement) does not exist in PostgreSQL {version}"
        if entry.kind == "OPERATOR" and number >= 140000 and "LEFTARG" in text and "RIGHTARG" not in text:
            yield entry, f"postfix operators are not supported in PostgreSQL {version}"
        if entry.kind in ("VIEW", "MATERIALIZED VIEW", "RULE") and number >= 120000:
            used = tables & set(_OID.findall(text))
            if used:
                yield entry, f'column "{min(used)}.oid" does not exist in PostgreSQL {version}'
        if gone and entry.kind in _EVALUATED:
            for call in sorted({each.lower() for _, each in _CALL.findall(text)} & gone):
                yield entry, f"function {call}() does not exist in this PostGIS"


def _type_in(entry, text, types):
    """The removed type that a definition uses, '' for none."""
    names = "|".join(types)
    body = text.split("\n    AS ", 1)[0] if entry.kind in _ROUTINES else text
    if entry.kind == "DOMAIN":
        found = re.search(rf"CREATE DOMAIN \S+ AS (?:pg_catalog\.)?({names})\b", body)
    elif entry.kind in ("TABLE", "FOREIGN TABLE", "TYPE"):
        found = re.search(rf"^\s+{IDENTIFIER} (?:pg_catalog\.)?({names})\b", body, re.MULTILINE)
    elif entry.kind in _ROUTINES or entry.kind == "AGGREGATE":
        found = re.search(rf"[(, ](?:pg_catalog\.)?({names})(?:\[\])?[,)]", entry.name)
        found = found or re.search(rf"\bRETURNS (?:SETOF )?(?:pg_catalog\.)?({names})\b", body)
    else:
        found = re.search(rf"::(?:pg_catalog\.)?({names})\b", body)
    return found.group(1) if found else ""


def _languages(connection, contents):
    there = {name for (name,) in postgres_server.query(connection, "SELECT lanname FROM pg_catalog.pg_language")}
    there |= {
        name for (name,) in postgres_server.query(connection, "SELECT name FROM pg_catalog.pg_available_extensions")
    }
    missing = set()
    for entry, text in contents.texts.items():
        if entry.kind == "PROCEDURAL LANGUAGE" and entry.name not in there and " HANDLER " not in text:
            missing.add(entry.name)
            yield entry, f'language "{entry.name}" does not exist on this server'
    for entry, what, name in contents.demands:
        if what == "language" and name in ("plpythonu", "plpython2u") and name not in there | missing:
            yield entry, f'language "{name}" does not exist on this server'


def _collations(connection, contents):
    there = {name for (name,) in postgres_server.query(connection, "SELECT collname FROM pg_catalog.pg_collation")}
    for entry, text in contents.texts.items():
        used = {unquoted(name) for name in _SYSTEM_COLLATION.findall(text)}
        if used - there and entry.kind not in _ROUTINES:
            yield entry, f'collation "{min(used - there)}" does not exist on this server'
        made = _OWN_COLLATION.search(text) if entry.kind == "COLLATION" else None
        if made and re.search(r"provider = (?:libc|icu)\b", made.group(1)):
            postgres_server.execute(connection, "BEGIN")
            try:
                # The same definition, under a temporary name.
                postgres_server.execute(connection, "CREATE COLLATION pg_temp.sauvegarde_probe " + made.group(1))
            except psycopg2.Error as error:
                if error.pgcode != "0A000":  # it is only of another encoding than this database
                    yield entry, losses.words(str(error))
            finally:
                postgres_server.execute(connection, "ROLLBACK")


def _settings(connection, contents, version):
    known = {}
    for entry, what, name in contents.demands:
        if what != "setting" or "." in name:
            continue
        if name not in known:
            statement = "SELECT pg_catalog.current_setting(%s, true) IS NOT NULL"
            known[name] = postgres_server.value(connection, statement, (name,))
        kept = connection.server_version < 120000 or not re.search(
            r"SET default_with_oids TO '(?:true|on|yes|1)'", contents.texts.get(entry, "")
        )
        if not known[name] or not kept:
            yield entry, f'unrecognized configuration parameter "{name}" in PostgreSQL {version}'


def _gone_functions(connection, contents):
    """Names of PostGIS's functions that the dump calls and the target's PostGIS does not make; none where its scripts
    cannot be read."""
    made = set()
    folder = postgres_server.value(connection, "SELECT setting FROM pg_catalog.pg_config() WHERE name = 'SHAREDIR'")
    versions = dict(
        postgres_server.query(connection, "SELECT name, default_version FROM pg_catalog.pg_available_extensions")
    )
    if "postgis" not in contents.extensions or "postgis" not in versions:
        return set()
    for name in set(contents.extensions) | {"postgis_raster"}:
        if name not in _POSTGIS or name not in versions:
            continue
        path = Path(folder) / "extension" / f"{name}--{versions[name]}.sql"
        try:
            made |= {each.lower() for each in _MADE.findall(path.read_text("utf-8", "replace"))}
        except OSError:
            return set()
    own = {name.lower() for _, name in contents.defined()}
    called = set()
    for entry, text in contents.texts.items():
        if entry.kind in _EVALUATED:
            called |= {name.lower() for _, name in _CALL.findall(text)}
    return called - made - own


def _dependents(root, contents, needs):
    """Entries that cannot be restored without `root`, in the dump's order."""
    entries = [entry for entry in contents.entries if entry.kind != "EXTENSION"]
    rows = any(entry.kind == "TABLE DATA" for entry in entries)
    lost, found = [root], []
    while lost:
        lower = lost.pop(0)
        for entry in entries:
            if entry != lower and entry not in found and _needs(entry, lower, contents, needs):
                found.append(entry)
                lost.append(entry)
        if lower.kind in losses.DEFINING and not rows:
            found.append(lower._replace(kind="TABLE DATA"))
    if root.kind == "EXTENSION":
        schemas = {contents.extensions.get(root.name, "")} - {"public", "pg_catalog", ""}
        schemas |= {"cron"} if root.name == "pg_cron" else set()
        held = [Entry("TABLE DATA", each.schema, each.table, "") for each in contents.merged if each.schema in schemas]
        known = {losses.name_of(each) for each in found}
        found += [each for each in held if losses.name_of(each) not in known]
    order = {entry: at for at, entry in enumerate(contents.entries)}
    return sorted(found, key=lambda entry: order.get(entry, len(order)))


def _needs(entry, lower, contents, needs):
    if entry.kind == "COMMENT" and entry.name.startswith("EXTENSION "):
        return False
    if needs and entry in needs:
        return lower in needs[entry]
    return losses.mentions(entry, contents.texts.get(entry, ""), lower)
