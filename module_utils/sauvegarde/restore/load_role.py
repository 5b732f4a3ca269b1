"""Choose the role that loads a dump: its single owner if possible, otherwise a superuser (and record why).

A load runs code of the dump: functions in CHECKs, domains and generated columns. As its owner, that code has the same
rights as on the site and no more. That does not stop a hostile dump, whose code can reset its role.

A superuser always loads what exists before the dump (the schema public, extensions and their schemas) and the default
privileges of other roles.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from ..postgres import postgres_server
from .dump.contents import Contents
from .dump.entries import Entry
from .dump.role_demands import ORDINARY_KINDS
from .dump.sql_text import unquoted

# Kinds that create nothing in the schema that they name.
_KINDS_WITHOUT_OBJECT = (
    "ACL",
    "COMMENT",
    "DEFAULT ACL",
    "MATERIALIZED VIEW DATA",
    "SEQUENCE SET",
    "STATISTICS DATA",
    "TABLE DATA",
)


@dataclass(frozen=True)
class RoleChoice:
    """The role that loads a dump, and what the superuser loads in its place.

    role: '' for the superuser. why: why not its owner, '' if it is the owner or has none. own: entries that the role
    loads. first: entries about existing objects, which the superuser loads before. last: default privileges of other
    roles, which the superuser loads after.
    """

    role: str
    why: str
    own: tuple[Entry, ...] = ()
    first: frozenset[Entry] = frozenset()
    last: frozenset[Entry] = frozenset()


def _description(entry: Entry) -> str:
    return "{} {}".format(entry.kind.lower(), ".".join(filter(None, entry.key)))


def choose(
    contents: Contents, existing_schemas: Collection[str], superusers: Collection[str], owner: str = ""
) -> RoleChoice:
    """Return the choice as far as the dump itself decides it; `why_not` asks the target.

    existing_schemas: names of the schemas on the target, without public. superusers: names of the target's. owner: the
    role to own everything if the dump names no owners.
    """
    loaded = [entry for entry in contents.entries if not contents.excludes(entry, existing_schemas)]
    is_of_existing = _existing_test(contents, existing_schemas)
    first = frozenset(entry for entry in loaded if is_of_existing(entry))
    own = [entry for entry in loaded if entry not in first and entry.kind != "DEFAULT ACL"]
    defaults = [entry for entry in loaded if entry.kind == "DEFAULT ACL"]
    if contents.unowned:
        if owner in superusers:
            # A role that may do everything loads everything, in the dump's own order.
            return RoleChoice(owner, "", tuple(loaded))
        return RoleChoice(owner, "", tuple(own), first, frozenset(defaults))
    owners = sorted({entry.owner for entry in own if entry.owner})
    if not owners:
        return RoleChoice("", "")
    if len(owners) > 1:
        return RoleChoice("", "it belongs to several roles: " + ", ".join(owners))
    role = owners[0]
    if role in superusers:
        return RoleChoice(role, "", tuple(loaded))
    for entry in own:
        if entry.kind not in ORDINARY_KINDS:
            return RoleChoice("", f"only a superuser can load the {_description(entry)}")
    for demand in contents.demands:
        if demand.subject == "superuser" and demand.entry not in first:
            return RoleChoice("", f"the {_description(demand.entry)} {demand.name}")
    return RoleChoice(role, "", tuple(own), first, frozenset(entry for entry in defaults if entry.owner != role))


def _existing_test(contents: Contents, existing_schemas: Collection[str]) -> Callable[[Entry], bool]:
    """Return a function that says whether an entry is about an object that the dump does not create."""
    schemas = {entry.name for entry in contents.entries if entry.kind == "SCHEMA"} - set(existing_schemas) - {"public"}
    defined = contents.defined()
    of_own_objects: dict[Entry, bool] = {}
    for target in contents.privileged_objects:
        if target.kind == "SCHEMA":
            own = target.name in schemas
        else:
            own = target.kind == "LARGE OBJECT" or (target.schema, target.name) in defined
        of_own_objects[target.entry] = of_own_objects.get(target.entry, True) and own

    def is_of_existing(entry: Entry) -> bool:
        if entry.kind == "SCHEMA":
            return entry.name not in schemas
        if entry.kind == "ACL":
            return not of_own_objects.get(entry, False)
        if entry.kind == "COMMENT":
            return entry.name.startswith("SCHEMA ") and unquoted(entry.name[len("SCHEMA ") :]) not in schemas
        return entry.kind in ("TABLE DATA", "SEQUENCE SET") and entry.key not in defined

    return is_of_existing


def superusers(connection: Connection) -> set[str]:
    """Return the names of the server's superusers."""
    return {
        name for (name,) in postgres_server.query(connection, "SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper")
    }


def missing_tablespaces(connection: Connection, contents: Contents) -> set[str]:
    """Return the names of the tablespaces that the dump uses and this server lacks."""
    existing = {name for (name,) in postgres_server.query(connection, "SELECT spcname FROM pg_catalog.pg_tablespace")}
    return contents.tablespaces() - existing


# What a role may do: names of the objects that it has the privilege on.
_CREATE_IN_SCHEMAS = (
    "SELECT nspname FROM pg_catalog.pg_namespace n WHERE pg_catalog.has_schema_privilege(%(role)s, n.oid, 'CREATE')"
    " AND pg_catalog.has_schema_privilege(%(role)s, n.oid, 'USAGE')"
)
_USE_SCHEMAS = (
    "SELECT nspname FROM pg_catalog.pg_namespace n WHERE pg_catalog.has_schema_privilege(%(role)s, n.oid, 'USAGE')"
)
_LANGUAGES = (
    "SELECT lanname FROM pg_catalog.pg_language l WHERE lanpltrusted"
    " AND pg_catalog.has_language_privilege(%(role)s, l.oid, 'USAGE')"
)
_SETTINGS = "SELECT name FROM pg_catalog.pg_settings WHERE context = 'user'"
_REFERENCES = (
    "SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE pg_catalog.has_table_privilege(%(role)s, c.oid, 'REFERENCES')"
)
_TABLESPACES = (
    "SELECT spcname FROM pg_catalog.pg_tablespace t"
    " WHERE pg_catalog.has_tablespace_privilege(%(role)s, t.oid, 'CREATE')"
)
_CREATE_SCHEMAS = "SELECT pg_catalog.has_database_privilege(%s, pg_catalog.current_database(), 'CREATE')"


def why_not(connection: Connection, choice: RoleChoice, contents: Contents) -> str:
    """Return why the chosen role may not load its entries on this server, '' if it may.

    Asked after the superuser has loaded `choice.first`.
    """
    role = choice.role
    if role in superusers(connection):
        return ""
    schemas = {entry.name for entry in choice.own if entry.kind == "SCHEMA"}
    creates = schemas or any(entry.kind == "PUBLICATION" for entry in choice.own)
    if creates and not postgres_server.value(connection, _CREATE_SCHEMAS, (role,)):
        return f"{role} may not create schemas in the database"
    filled = {entry.schema for entry in choice.own if entry.schema and entry.kind not in _KINDS_WITHOUT_OBJECT}
    # If the server lacks one of the dump's tablespaces, all goes into the default one.
    tablespaces = set() if missing_tablespaces(connection, contents) else contents.tablespaces()

    def demanded(subject: str) -> set[str]:
        return {demand.name for demand in contents.demands if demand.subject == subject}

    for names, action, statement in (
        (filled - schemas, "create anything in the schema", _CREATE_IN_SCHEMAS),
        (contents.used_schemas, "use the schema", _USE_SCHEMAS),
        (demanded("language"), "write functions in the language", _LANGUAGES),
        (demanded("setting"), "give functions the setting", _SETTINGS),
        (demanded("references") - {".".join(key) for key in contents.defined()}, "refer to the table", _REFERENCES),
        (tablespaces, "use the tablespace", _TABLESPACES),
    ):
        allowed = {name for (name,) in postgres_server.query(connection, statement, {"role": role})}
        if names - allowed:
            return f"{role} may not {action} {', '.join(sorted(names - allowed))}"
    return ""


# What has an owner and privileges: catalog, owner, privileges, the letter of acldefault().
_OWNED = (
    ("pg_class", "relowner", "relacl", "CASE o.relkind WHEN 'S' THEN 's' ELSE 'r' END"),
    ("pg_largeobject_metadata", "lomowner", "lomacl", "'L'"),
    ("pg_namespace", "nspowner", "nspacl", "'n'"),
    ("pg_proc", "proowner", "proacl", "'f'"),
    ("pg_type", "typowner", "typacl", "'T'"),
)


def why_not_own_objects(connection: Connection, role: str) -> str:
    """Return why the role may not use what it owns, '' if it may: the dump can revoke an owner's privileges."""
    if role in superusers(connection):
        return ""
    for catalog, owner, privileges, letter in _OWNED:
        statement = (
            f"SELECT 1 FROM pg_catalog.{catalog} o JOIN pg_catalog.pg_roles r ON r.oid = o.{owner}"
            f" WHERE r.rolname = %s AND o.{privileges} IS NOT NULL AND EXISTS ("
            f'SELECT a.privilege_type FROM pg_catalog.aclexplode(pg_catalog.acldefault(({letter})::"char", r.oid)) a'
            f" WHERE a.grantee = r.oid EXCEPT"
            f" SELECT a.privilege_type FROM pg_catalog.aclexplode(o.{privileges}) a WHERE a.grantee = r.oid) LIMIT 1"
        )
        if postgres_server.value(connection, statement, (role,)):
            return f"the dump leaves {role} without all the privileges on what it owns"
    return ""
