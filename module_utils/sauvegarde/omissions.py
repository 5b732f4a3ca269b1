"""What a database has and no dump of it by this role and this pg_dump will hold: looked for in its catalogs.

Stock loses all of this as well, mostly without a word. Each query here reads catalogs only, takes milliseconds, and
runs in a transaction of its own, so that one which fails spoils nothing.
"""

import psycopg2

from . import postgres, predefined

_SHOWN = 20  # names in one warning

# What of each catalog is the site's.
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
# Catalogs whose objects have a schema: column of the schema, and which of them are no object's own part.
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


def find(connection, dumper):
    """Sentences about what a dump of the connected database will lack. The connection is in autocommit.

    dumper: the postgres.Client of the pg_dump that will make it.
    """
    number = connection.server_version
    may_read = postgres.value(
        connection, "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT')"
    )
    role = postgres.value(connection, "SELECT pg_catalog.quote_ident(current_user)")
    looks = [
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
        looks.append(
            (
                _SUBSCRIPTIONS,
                f"Subscriptions are not in the archive, since the role {role} is no superuser; have a superuser's job"
                " dump them, or note them elsewhere: {}.",
            )
        )
    if number < 120000:
        looks.append(
            (
                _WITH_OIDS,
                "The OIDs of tables WITH OIDS are not in the archive; where they are data, copy them to a column: {}.",
            )
        )
    if dumper.version_num < 100000:
        looks.append((_POLICY_COMMENTS, f"pg_dump {dumper.version} dumps no comments on policies: {{}}."))
    if postgres.value(connection, "SELECT pg_catalog.pg_is_in_recovery()"):
        looks.append(
            (
                _UNLOGGED,
                "The rows of unlogged tables are not in the archive, since a standby has none; they are on the primary"
                " alone: {}.",
            )
        )
    found = [sentence for look, words in looks for sentence in _look(connection, look, words)]
    for look, words in predefined.looks(dumper):
        found += _look(connection, look, words, "; ")  # between statements
    return found


def _look(connection, look, words, between=", "):
    try:
        found = [name for (name,) in postgres.query(connection, look)]
    except psycopg2.Error as error:
        what = words.split(",")[0].split(";")[0]
        return [f"Not looked for: {what}. {str(error).strip()}"]
    if not found:
        return []
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return [words.format(between.join(found[:_SHOWN]) + more)]


def without_fingerprint(sums):
    """The warning about what a fingerprint does not cover, as a list of at most one sentence."""
    missed = ["{} ({})".format(each["object"], " ".join(each["why"].split())) for each in sums.get("unproven", ())]
    more = f"; and {len(missed) - _SHOWN} more" if len(missed) > _SHOWN else ""
    sentence = "In the archive, but without a fingerprint to prove a restore by: {}."
    return [sentence.format("; ".join(missed[:_SHOWN]) + more)] if missed else []


def extension_sequences(connection, dumped_too=False):
    """Sequences behind columns of extensions' tables whose rows dumps hold and whose value they do not (PostGIS
    topology's): [{sequence, table, column, value}], names quoted; value None where the role may not read it.

    dumped_too: those whose value dumps hold as well.
    """
    found = []
    for schema, name, of_schema, of_name, column, dumped in postgres.query(
        connection,
        "SELECT sn.nspname::text, s.relname::text, n.nspname::text, c.relname::text, a.attname::text,"
        " s.oid = ANY (e.extconfig)"
        " FROM pg_catalog.pg_class s JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace"
        " JOIN pg_catalog.pg_depend o ON o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objid = s.oid"
        "  AND o.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.deptype IN ('a', 'i')"
        " JOIN pg_catalog.pg_class c ON c.oid = o.refobjid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = o.refobjsubid"
        " JOIN pg_catalog.pg_extension e ON c.oid = ANY (e.extconfig)"
        " WHERE s.relkind = 'S' ORDER BY 1, 2",
    ):
        if dumped and not dumped_too:
            continue
        sequence = postgres.quoted(schema, name)
        try:
            value = postgres.value(connection, f"SELECT last_value FROM {sequence}")
        except psycopg2.Error:
            value = None
        of = postgres.quoted(of_schema, of_name)
        found.append({"sequence": sequence, "table": of, "column": postgres.quoted(column), "value": value})
    return found


def advance_sequences(connection, recorded=(), proven=()):
    """Set those sequences in a restored database so that what they give next is new: past the greatest value in their
    columns, and past what they stood at in the source (`recorded`: the manifest's). `proven`: names of sequences that
    the dump sets and whose values are compared with the source's, which are left as they are."""
    there = {each["sequence"]: each for each in extension_sequences(connection, dumped_too=True)}
    stood = {each["sequence"]: each["value"] for each in recorded}
    for name, each in there.items():
        if each["value"] is not None and name not in proven:
            postgres.query(connection, advance(dict(each, value=max(each["value"], stood.get(name) or 0))))


def advance(sequence):
    """The statement that does so for one of them: where its table has rows."""
    table, column, value = sequence["table"], sequence["column"], sequence["value"]
    greatest = f"pg_catalog.max({column})" if value is None else f"greatest(pg_catalog.max({column}), {value:d})"
    name = postgres.literal(sequence["sequence"])
    return f"SELECT pg_catalog.setval({name}, {greatest}) FROM {table} HAVING pg_catalog.max({column}) IS NOT NULL"
