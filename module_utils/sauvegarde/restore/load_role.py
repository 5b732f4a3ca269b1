"""As whom a dump is loaded: as the role that all of it belongs to, where that can; else as the superuser, and why.

A load runs code that the dump brings: functions in CHECKs, domains and generated columns. As its owner, that code can
do what it could on the site and no more. That is no fence against a hostile dump, whose code can take its role off.

What is there before the dump (the schema public, extensions and their schemas) and the default privileges of other
roles are the superuser's in any case.
"""

from typing import NamedTuple

from ..postgres import postgres_server
from .dump.role_demands import ORDINARY_KINDS
from .dump.sql_text import unquoted

# Kinds that make nothing in the schema that they name.
_MAKE_NOTHING = (
    "ACL",
    "COMMENT",
    "DEFAULT ACL",
    "MATERIALIZED VIEW DATA",
    "SEQUENCE SET",
    "STATISTICS DATA",
    "TABLE DATA",
)


class Way(NamedTuple):
    """How a dump is loaded.

    role    as whom; '' for the superuser
    why     why not as its owner, '' where it is or where it has none
    own     entries that are loaded as the role
    first   entries that the superuser loads before the others: they are about what is there already
    last    entries that the superuser loads after the others: default privileges of other roles
    """

    role: str
    why: str
    own: tuple = ()
    first: frozenset = frozenset()
    last: frozenset = frozenset()


def _name(entry):
    return "{} {}".format(entry.kind.lower(), ".".join(filter(None, (entry.schema, entry.name))))


def choose(contents, there, superusers, owner=""):
    """The Way of a dump, as far as the dump itself decides it.

    there: names of the schemas on the target, without public. superusers: the target's, who may do everything. owner:
    whose everything becomes where the dump names no owners.
    """
    made = {entry.name for entry in contents.entries if entry.kind == "SCHEMA"} - set(there) - {"public"}
    defined = contents.defined()
    granted = {}
    for each in contents.privileged_objects:
        known = each.kind == "LARGE OBJECT" or (
            each.name in made if each.kind == "SCHEMA" else (each.schema, each.name) in defined
        )
        granted[each.entry] = granted.get(each.entry, True) and known

    def is_there(entry):
        """Whether the entry is about something that the dump does not make."""
        if entry.kind == "SCHEMA":
            return entry.name not in made
        if entry.kind == "ACL":
            return not granted.get(entry, False)
        if entry.kind == "COMMENT":
            return entry.name.startswith("SCHEMA ") and unquoted(entry.name[len("SCHEMA ") :]) not in made
        return entry.kind in ("TABLE DATA", "SEQUENCE SET") and (entry.schema, entry.name) not in defined

    loaded = [entry for entry in contents.entries if not contents.excludes(entry, there)]

    def whole(role):
        """A role that may do everything loads everything, in the dump's own order."""
        return Way(role, "", tuple(loaded))

    first = frozenset(entry for entry in loaded if is_there(entry))
    own = [entry for entry in loaded if entry not in first and entry.kind != "DEFAULT ACL"]
    defaults = [entry for entry in loaded if entry.kind == "DEFAULT ACL"]
    if contents.unowned:
        if owner in superusers:
            return whole(owner)
        return Way(owner, "", tuple(own), first, frozenset(defaults))
    owners = sorted({entry.owner for entry in own if entry.owner})
    if len(owners) != 1:
        return Way("", "it belongs to several roles: " + ", ".join(owners) if owners else "")
    (role,) = owners
    if role in superusers:
        return whole(role)
    for entry in own:
        if entry.kind not in ORDINARY_KINDS:
            return Way("", f"only a superuser can load the {_name(entry)}")
    for demand in contents.demands:
        if demand.subject == "superuser" and demand.entry not in first:
            return Way("", f"the {_name(demand.entry)} {demand.name}")
    return Way(role, "", tuple(own), first, frozenset(entry for entry in defaults if entry.owner != role))


def superusers(connection):
    """Names of the server's superusers."""
    return {
        name for (name,) in postgres_server.query(connection, "SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper")
    }


def missing_tablespaces(connection, contents):
    """Names of the tablespaces that the dump uses and this server lacks."""
    there = {name for (name,) in postgres_server.query(connection, "SELECT spcname FROM pg_catalog.pg_tablespace")}
    return contents.tablespaces() - there


def lacks(connection, way, contents):
    """What way.role may not do on this server that loading way.own takes, once way.first is there; '' for nothing."""
    role = way.role
    if role in superusers(connection):
        return ""
    schemas = {entry.name for entry in way.own if entry.kind == "SCHEMA"}
    makes = schemas or any(entry.kind == "PUBLICATION" for entry in way.own)
    allowed = "SELECT pg_catalog.has_database_privilege(%s, pg_catalog.current_database(), 'CREATE')"
    if makes and not postgres_server.value(connection, allowed, (role,)):
        return f"{role} may not create schemas in the database"
    into = {entry.schema for entry in way.own if entry.schema and entry.kind not in _MAKE_NOTHING} - schemas
    # Where one is not there, none is used.
    missing = missing_tablespaces(connection, contents)

    def demanded(what):
        return {demand.name for demand in contents.demands if demand.subject == what}

    for names, words, statement in (
        (
            into,
            "create anything in the schema",
            "nspname FROM pg_catalog.pg_namespace n WHERE pg_catalog.has_schema_privilege(%(role)s, n.oid, 'CREATE')"
            " AND pg_catalog.has_schema_privilege(%(role)s, n.oid, 'USAGE')",
        ),
        (
            contents.used_schemas,
            "use the schema",
            "nspname FROM pg_catalog.pg_namespace n WHERE pg_catalog.has_schema_privilege(%(role)s, n.oid, 'USAGE')",
        ),
        (
            demanded("language"),
            "write functions in the language",
            "lanname FROM pg_catalog.pg_language l WHERE lanpltrusted"
            " AND pg_catalog.has_language_privilege(%(role)s, l.oid, 'USAGE')",
        ),
        (
            demanded("setting"),
            "give functions the setting",
            "name FROM pg_catalog.pg_settings WHERE context = 'user'",
        ),
        (
            demanded("references") - {".".join(names) for names in contents.defined()},
            "refer to the table",
            "n.nspname || '.' || c.relname FROM pg_catalog.pg_class c"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE pg_catalog.has_table_privilege(%(role)s, c.oid, 'REFERENCES')",
        ),
        (
            set() if missing else contents.tablespaces(),
            "use the tablespace",
            "spcname FROM pg_catalog.pg_tablespace t"
            " WHERE pg_catalog.has_tablespace_privilege(%(role)s, t.oid, 'CREATE')",
        ),
    ):
        may = {name for (name,) in postgres_server.query(connection, "SELECT " + statement, {"role": role})}
        if names - may:
            return "{} may not {} {}".format(role, words, ", ".join(sorted(names - may)))
    return ""


# What has an owner and privileges: catalog, owner, privileges, the letter of acldefault().
_OWNED = (
    ("pg_class", "relowner", "relacl", "CASE o.relkind WHEN 'S' THEN 's' ELSE 'r' END"),
    ("pg_largeobject_metadata", "lomowner", "lomacl", "'L'"),
    ("pg_namespace", "nspowner", "nspacl", "'n'"),
    ("pg_proc", "proowner", "proacl", "'f'"),
    ("pg_type", "typowner", "typacl", "'T'"),
)


def lacks_of_its_own(connection, role):
    """What the role may not do with what it owns, since the dump took it; '' for nothing."""
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
