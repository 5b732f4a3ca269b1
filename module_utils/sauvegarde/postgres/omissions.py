"""Warn of objects of a database that a dump by this role and this pg_dump will not hold.

The stock tools omit all of this as well, mostly without a message. Each query here reads catalogs only, takes
milliseconds, and runs in a transaction of its own, so that a failure does not affect the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg2

from ..report.name_list import name_list
from . import postgres_server, predefined_objects
from .client_tools import Client
from .postgres_server import Connection

_SHOWN = 20  # names in one warning

# Rows of the catalogs that are the site's.
_NOT_SYSTEM = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
# Whether pg_user_mappings shows the options of a mapping to this role.
_SEES_OPTIONS = (
    "(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)"
    " OR m.umuser <> 0 AND m.usename = current_user AND (pg_catalog.pg_has_role(s.srvowner, 'USAGE')"
    " OR pg_catalog.has_server_privilege(s.oid, 'USAGE'))"
    " OR m.umuser = 0 AND pg_catalog.pg_has_role(s.srvowner, 'USAGE')"
)
_MAPPINGS = (
    "SELECT pg_catalog.format('USER MAPPING FOR %s SERVER %I',"
    " CASE WHEN m.umuser = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(m.usename) END, m.srvname)"
    " FROM pg_catalog.pg_user_mappings m JOIN pg_catalog.pg_foreign_server s ON s.oid = m.srvid"
    f" WHERE m.umoptions IS NULL AND NOT ({_SEES_OPTIONS}) AND {{}} ORDER BY 1"
)
_HAS_OPTIONS = (
    "EXISTS (SELECT 1 FROM pg_catalog.pg_user_mapping u WHERE u.oid = m.umid AND u.umoptions IS NOT NULL)"
)  # fmt: skip
_SUBSCRIPTIONS = (
    "SELECT pg_catalog.format('SUBSCRIPTION %I', subname) FROM pg_catalog.pg_subscription"
    " WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
    " AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) ORDER BY 1"
)
_SLOTS = (
    "SELECT pg_catalog.format('REPLICATION SLOT %I', slot_name) FROM pg_catalog.pg_replication_slots s"
    " WHERE database = pg_catalog.current_database()"
    " AND coalesce(pg_catalog.to_jsonb(s) ->> 'temporary', 'false') = 'false' ORDER BY 1"
)
_WITH_OIDS = (
    "SELECT pg_catalog.format('TABLE %I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"
    f" AND {_NOT_SYSTEM} AND (pg_catalog.to_jsonb(c) ->> 'relhasoids')::bool ORDER BY 1"
)
_INVALID_INDEXES = (
    "SELECT pg_catalog.format('INDEX %I.%I', n.nspname, c.relname) FROM pg_catalog.pg_index i"
    " JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    f" WHERE c.relkind = 'i' AND {_NOT_SYSTEM} AND NOT (i.indisvalid AND i.indisready) ORDER BY 1"
)
_SILENT_KEYS = (
    "SELECT DISTINCT pg_catalog.format('CONSTRAINT %I.%I %I', n.nspname, c.relname, k.conname)"
    " FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_constraint k ON k.oid = t.tgconstraint AND k.contype = 'f'"
    " JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE t.tgisinternal AND t.tgenabled <> 'O' ORDER BY 1"
)
# Catalogs whose objects have a schema: column of the schema, and a condition that excludes parts of other objects.
_WITH_SCHEMA = (
    ("pg_proc", "pronamespace", ""),
    ("pg_class", "relnamespace", "o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')"),
    ("pg_type", "typnamespace", "o.typrelid = 0 AND o.typelem = 0"),
    ("pg_collation", "collnamespace", ""),
    ("pg_operator", "oprnamespace", ""),
    ("pg_ts_config", "cfgnamespace", ""),
    ("pg_ts_dict", "dictnamespace", ""),
)
_IN_SYSTEM_SCHEMAS = (
    " UNION ".join(
        "SELECT pg_catalog.format('%s %s', pg_catalog.upper(i.type), i.identity)"
        f" FROM pg_catalog.{catalog} o JOIN pg_catalog.pg_namespace n ON n.oid = o.{schema}"
        f" CROSS JOIN LATERAL pg_catalog.pg_identify_object('pg_catalog.{catalog}'::pg_catalog.regclass, o.oid, 0) i"
        " WHERE n.nspname IN ('pg_catalog', 'information_schema') AND n.oid < 16384 AND o.oid >= 16384"
        + (f" AND {condition}" if condition else "")
        + " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.objid = o.oid"
        f" AND d.classid = 'pg_catalog.{catalog}'::pg_catalog.regclass)"
        for catalog, schema, condition in _WITH_SCHEMA
    )
    + " ORDER BY 1"
)
_POLICY_COMMENTS = (
    "SELECT pg_catalog.format('POLICY %I ON %I.%I', p.polname, n.nspname, c.relname) FROM pg_catalog.pg_policy p"
    " JOIN pg_catalog.pg_class c ON c.oid = p.polrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE pg_catalog.obj_description(p.oid, 'pg_policy') IS NOT NULL ORDER BY 1"
)
_UNLOGGED = (
    "SELECT pg_catalog.format('TABLE %I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND c.relpersistence = 'u'"
    f" AND {_NOT_SYSTEM} ORDER BY 1"
)


def find(connection: Connection, dumper: Client) -> list[str]:
    """Return sentences about what a dump of the connected database will omit. The connection is in autocommit.

    dumper: the pg_dump that will make it.
    """
    sentences = []
    for query, words in _checks(connection, dumper):
        sentences += _check(connection, query, words)
    for query, words in predefined_objects.checks(dumper):
        sentences += _check(connection, query, words, "; ")  # between statements
    return sentences


def _checks(connection: Connection, dumper: Client) -> list[tuple[str, str]]:
    """Return the queries for this server and this pg_dump, each with the sentence for the names that it returns."""
    number = connection.server_version
    may_read = postgres_server.value(
        connection, "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT')"
    )
    role = postgres_server.value(connection, "SELECT pg_catalog.quote_ident(current_user)")
    checks = [
        (
            _MAPPINGS.format(_HAS_OPTIONS if may_read else "true"),
            f"The options of user mappings (user, password) are not in the archive, since the role {role} may not see"
            " them; have a superuser's job dump them, or note them elsewhere: {}.",
        ),
        (
            _INVALID_INDEXES,
            "Invalid indexes are in no dump; build them anew (REINDEX) or drop them: {}.",
        ),
        (
            _SILENT_KEYS,
            "The triggers of foreign keys are disabled, which no dump keeps: rows that break them can be there, and"
            " the restored database checks them again: {}.",
        ),
        (_SLOTS, "Logical replication slots are in no dump; what reads from them starts anew after a restore: {}."),
        (
            _IN_SYSTEM_SCHEMAS,
            "What was made in the schema pg_catalog or information_schema is in no dump; make it in a schema of its"
            " own: {}.",
        ),
    ]
    if number >= 100000:
        checks.append(
            (
                _SUBSCRIPTIONS,
                f"Subscriptions are not in the archive, since the role {role} is no superuser; have a superuser's job"
                " dump them, or note them elsewhere: {}.",
            )
        )
    if number < 120000:
        checks.append(
            (
                _WITH_OIDS,
                "The OIDs of tables WITH OIDS are not in the archive; where they are data, copy them to a column: {}.",
            )
        )
    if dumper.version_num < 100000:
        checks.append((_POLICY_COMMENTS, f"pg_dump {dumper.version} dumps no comments on policies: {{}}."))
    if postgres_server.value(connection, "SELECT pg_catalog.pg_is_in_recovery()"):
        checks.append(
            (
                _UNLOGGED,
                "The rows of unlogged tables are not in the archive, since a standby has none; they are on the primary"
                " alone: {}.",
            )
        )
    return checks


def _check(connection: Connection, query: str, words: str, separator: str = ", ") -> list[str]:
    try:
        names = [name for (name,) in postgres_server.query(connection, query)]
    except psycopg2.Error as error:
        what = words.split(",")[0].split(";")[0]
        return [f"Not checked: {what}. {str(error).strip()}"]
    if not names:
        return []
    return [words.format(name_list(names, _SHOWN, separator))]


def without_fingerprint(fingerprint: Mapping[str, Any]) -> list[str]:
    """Return the warning about objects that a fingerprint does not cover: at most one sentence."""
    objects = [
        "{} ({})".format(entry["object"], " ".join(entry["why"].split())) for entry in fingerprint.get("unproven", ())
    ]
    more = f"; and {len(objects) - _SHOWN} more" if len(objects) > _SHOWN else ""
    sentence = "In the archive, but without a fingerprint to prove a restore by: {}."
    return [sentence.format("; ".join(objects[:_SHOWN]) + more)] if objects else []
