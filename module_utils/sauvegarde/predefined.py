"""Find what a site changed in objects that every new database or an extension has, and that no dump holds.

pg_dump dumps such objects' privileges, most of them since 9.6, and nothing else: neither owners nor comments. Until
version 15, that holds for the schema public, too (of which pg_dump before 11 still dumped the comment). Owner and
comment of public are in the manifest, so that a restore puts them back; the rest is named with the statement that does.
"""

from typing import Any, Dict, List, Tuple

from . import postgres

_FIRST_OID = 16384  # of objects that initdb did not make
_STANDARD = "standard public schema"
_HERE = "(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
# As statements name it. pg_identify_object says `table column`, for one.
_KIND = (
    "pg_catalog.upper(CASE WHEN i.type LIKE '% column' THEN 'column' WHEN i.type = 'composite type' THEN 'type'"
    " ELSE i.type END)"
)
# Large objects may have any OID, and are dumped whole.
_OURS = "{0}.classid <> 'pg_catalog.pg_largeobject'::pg_catalog.regclass"
# initdb makes template0 last, and databases that are copied from it keep the versions of rows.
_SINCE_INITDB = (
    "{0}::text::int8 > (SELECT t.xmin::text::int8 FROM pg_catalog.pg_database t WHERE t.datname = 'template0')"
)
_IS_PUBLIC = "(i.type = 'schema' AND i.name = 'public')"
_OWNERS = f"""
SELECT pg_catalog.format('ALTER %s %s OWNER TO %I', {_KIND}, i.identity, r.rolname)
FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_roles r ON r.oid = s.refobjid
LEFT JOIN pg_catalog.pg_depend m ON m.classid = s.classid AND m.objid = s.objid AND m.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = m.refobjid
CROSS JOIN LATERAL pg_catalog.pg_identify_object(s.classid, s.objid, 0) i
WHERE s.deptype = 'o' AND s.dbid = {_HERE} AND {_OURS.format("s")} AND NOT {_IS_PUBLIC}
  AND s.classid <> 'pg_catalog.pg_extension'::pg_catalog.regclass
  AND (s.objid < {_FIRST_OID} OR e.extowner <> s.refobjid)
  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = s.classid AND d.objid = s.objid
                  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                  AND d.refclassid = d.classid AND d.deptype IN ('a', 'i'))
ORDER BY 1
"""
# A superuser's right to an extension is every superuser's, so only the name changes.
_EXTENSIONS = (
    "SELECT pg_catalog.format('EXTENSION %I (%I)', e.extname, r.rolname) FROM pg_catalog.pg_extension e"
    " JOIN pg_catalog.pg_roles r ON r.oid = e.extowner WHERE NOT r.rolsuper ORDER BY 1"
)
_COMMENTS = f"""
SELECT pg_catalog.format('COMMENT ON %s %s IS %L', {_KIND}, i.identity, d.description)
FROM pg_catalog.pg_description d CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classoid, d.objoid, d.objsubid) i
WHERE d.objoid < {_FIRST_OID} AND d.classoid <> 'pg_catalog.pg_largeobject'::pg_catalog.regclass AND NOT {_IS_PUBLIC}
  AND {_SINCE_INITDB.format("d.xmin")}
  AND (d.classoid <> 'pg_catalog.pg_extension'::pg_catalog.regclass OR {{}})
ORDER BY 1
"""
_LABELS = (
    "SELECT pg_catalog.format('SECURITY LABEL FOR %I ON %s %s IS %L', l.provider, pg_catalog.upper(l.objtype),"
    " l.objname, l.label) FROM pg_catalog.pg_seclabels l"
    f" WHERE l.objoid < {_FIRST_OID} AND l.objtype NOT IN ('large object', 'database', 'role', 'tablespace')"
    " AND NOT (l.objtype = 'schema' AND l.objname = 'public' AND {}) ORDER BY 1"
)
# pg_dump passes over information_schema, and over languages that need no handler. What initdb grants on the former is
# written down nowhere: SELECT to all, but for these.
_NOT_GRANTED = "c.relname ~ '^_pg_' OR c.relname IN ('sql_parts', 'transforms')"
_PRIVILEGES = f"""
WITH object (kind, name, version, type, owner, acl, first) AS (
  SELECT 'SCHEMA', n.nspname::text, n.xmin, 'n', n.nspowner, n.nspacl,
         ARRAY[pg_catalog.makeaclitem(0, n.nspowner, 'USAGE', false)]
  FROM pg_catalog.pg_namespace n WHERE n.nspname = 'information_schema' AND n.oid < {_FIRST_OID}
  UNION ALL
  SELECT 'TABLE', pg_catalog.format('%I.%I', n.nspname, c.relname), c.xmin, 'r', c.relowner, c.relacl,
         ARRAY[pg_catalog.makeaclitem(CASE WHEN {_NOT_GRANTED} THEN c.relowner ELSE 0 END, c.relowner, 'SELECT', false)]
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = 'information_schema' AND c.oid < {_FIRST_OID} AND c.relkind IN ('r', 'v')
  UNION ALL
  SELECT 'LANGUAGE', pg_catalog.quote_ident(l.lanname), l.xmin, 'l', l.lanowner, l.lanacl,
         pg_catalog.acldefault('l', l.lanowner)
  FROM pg_catalog.pg_language l WHERE NOT l.lanispl
), changed AS (
  SELECT * FROM object WHERE {_SINCE_INITDB.format("version")}
), has (kind, name, grantee, privilege, option) AS (
  SELECT o.kind, o.name, a.grantee, a.privilege_type, a.is_grantable
  FROM changed o, pg_catalog.aclexplode(coalesce(o.acl, pg_catalog.acldefault(o.type::"char", o.owner))) a
  WHERE a.grantee <> o.owner
), had (kind, name, grantee, privilege, option) AS (
  SELECT o.kind, o.name, a.grantee, a.privilege_type, a.is_grantable
  FROM changed o, pg_catalog.aclexplode(o.first) a WHERE a.grantee <> o.owner
), change (word, joined, kind, name, grantee, privilege, option) AS (
  SELECT 'GRANT', 'TO', kind, name, grantee, privilege, option FROM (SELECT * FROM has EXCEPT SELECT * FROM had) g
  UNION ALL
  SELECT 'REVOKE', 'FROM', kind, name, grantee, privilege, false FROM (SELECT * FROM had EXCEPT SELECT * FROM has) r
)
SELECT pg_catalog.format('%s %s ON %s %s %s %s%s', word,
                         pg_catalog.string_agg(privilege, ', ' ORDER BY privilege), kind, name, joined,
                         CASE WHEN grantee = 0 THEN 'PUBLIC'
                              ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END,
                         CASE WHEN option THEN ' WITH GRANT OPTION' ELSE '' END)
FROM change GROUP BY word, joined, kind, name, grantee, option ORDER BY kind, word DESC, 1
"""
_DROPPED = (
    "SELECT 'DROP SCHEMA public' WHERE NOT EXISTS"
    " (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'public')"
    " UNION ALL SELECT 'DROP EXTENSION plpgsql' WHERE NOT EXISTS"
    " (SELECT 1 FROM pg_catalog.pg_language WHERE lanname = 'plpgsql')"
)
_AFTERWARDS = "; run this after a restore, as a superuser: {}."


def looks(dumper: postgres.Client) -> List[Tuple[str, str]]:
    """(query, sentence about what it finds) of each kind, for a dump by this pg_dump."""
    by_11 = dumper.version_num >= 110000
    return [
        (_OWNERS, "The owners of objects of extensions and of the system are in no dump" + _AFTERWARDS),
        (
            _EXTENSIONS,
            "The owners of extensions are in no dump: a restored database's extensions are a superuser's, so that"
            " these roles may no longer update or drop them: {}.",
        ),
        (
            _COMMENTS.format("true" if by_11 else "false"),
            "Comments on objects of the system are in no dump" + _AFTERWARDS,
        ),
        (
            _LABELS.format("true" if dumper.version_num >= 150000 else "false"),
            "Security labels of objects of the system are in no dump" + _AFTERWARDS,
        ),
        (
            _PRIVILEGES,
            "Privileges on information_schema and on built-in languages are in no dump" + _AFTERWARDS,
        ),
        (
            _DROPPED,
            "This database lacks what every new one has, a restored one too" + _AFTERWARDS,
        ),
    ]


def of_public(connection, dumper: postgres.Client) -> Dict[str, Any]:
    """What this pg_dump leaves out of the schema public: {owner, comment}, each key only where it differs from a new
    database's; comment None where there is none."""
    if dumper.version_num >= 150000:
        return {}
    found: Dict[str, Any] = {}
    for owner, is_first, comment in postgres.query(
        connection,
        "SELECT pg_catalog.pg_get_userbyid(nspowner)::text, nspowner = 10,"
        " pg_catalog.obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace WHERE nspname = 'public'",
    ):
        if not is_first:
            found["owner"] = owner
        if comment != _STANDARD and dumper.version_num >= 110000:
            found["comment"] = comment
    return found


def statements(public: Dict[str, Any]) -> List[str]:
    """SQL that puts back what `of_public` found."""
    found = []
    if "owner" in public:
        found.append("ALTER SCHEMA public OWNER TO " + postgres.quoted(public["owner"]))
    if "comment" in public:
        found.append("COMMENT ON SCHEMA public IS " + postgres.literal(public["comment"]))
    return found


def warnings(public: Dict[str, Any], dumper: postgres.Client) -> List[str]:
    """The sentence about the same for the manifest, as a list of at most one."""
    if not public:
        return []
    return [
        f"pg_dump {dumper.version} dumps neither owner nor comment of the schema public. A restore of this archive puts"
        " them back from its manifest; pg_restore alone does not: " + "; ".join(statements(public)) + "."
    ]
