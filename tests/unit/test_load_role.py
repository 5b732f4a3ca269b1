"""As whom a dump is loaded, as far as the dump itself decides it. No server."""

import io

import pytest
from sauvegarde.restore import load_role
from sauvegarde.restore.dump import content_scan
from test_restore_script import END, HEAD, header

SITE = [
    header("gis", "SCHEMA", "-", "postgres"),
    b"CREATE SCHEMA gis;\n",
    header("shop", "SCHEMA", "-"),
    b"CREATE SCHEMA shop;\n",
    header("public", "SCHEMA", "-", "postgres"),
    b"CREATE SCHEMA public;\n",
    header("SCHEMA public", "COMMENT", "-", "postgres"),
    b"COMMENT ON SCHEMA public IS 'x';\n",
    header("postgis", "EXTENSION", "-", ""),
    b"CREATE EXTENSION postgis WITH SCHEMA gis;\n",
    header("t", "TABLE", "shop"),
    b"CREATE TABLE shop.t (a int);\nALTER TABLE shop.t OWNER TO o;\n",
    header("f(integer)", "FUNCTION", "shop"),
    b"CREATE FUNCTION shop.f(integer) RETURNS integer\n    LANGUAGE plpgsql IMMUTABLE\n    SET work_mem TO '8MB'\n"
    b"    AS $$\n    LANGUAGE c\n    SET role TO 'x'\n$$;\n",
    header("t", "TABLE DATA", "shop", data="Data for "),
    b"COPY shop.t (a) FROM stdin;\n1\n\\.\n",
    header("spatial_ref_sys", "TABLE DATA", "gis", "postgres", data="Data for "),
    b"COPY gis.spatial_ref_sys (srid) FROM stdin;\n1\n\\.\n",
    header("topology_id_seq", "SEQUENCE SET", "gis", "postgres"),
    b"SELECT pg_catalog.setval('gis.topology_id_seq', 1, false);\n",
    header("t t_fkey", "FK CONSTRAINT", "shop"),
    b"ALTER TABLE ONLY shop.t\n    ADD CONSTRAINT t_fkey FOREIGN KEY (a) REFERENCES gis.spatial_ref_sys(srid);\n",
    # Privileges as 9.6 and as later versions name them.
    header("public", "ACL", "-", "postgres"),
    b"REVOKE ALL ON SCHEMA public FROM PUBLIC;\nGRANT ALL ON SCHEMA public TO o;\n",
    header("SCHEMA gis", "ACL", "-", "postgres"),
    b"GRANT USAGE ON SCHEMA gis TO o;\n",
    header("shop", "ACL", "-"),
    b"GRANT USAGE ON SCHEMA shop TO r;\n",
    header("TABLE t", "ACL", "shop"),
    b"GRANT SELECT ON TABLE shop.t TO r;\n",
    header("FUNCTION f(integer)", "ACL", "shop"),
    b"REVOKE ALL ON FUNCTION shop.f(integer) FROM PUBLIC;\n",
    header("TABLE spatial_ref_sys", "ACL", "gis", "postgres"),
    b"GRANT SELECT ON TABLE gis.spatial_ref_sys TO r;\n",
    header("LANGUAGE plpgsql", "ACL", "-", "postgres"),
    b"GRANT ALL ON LANGUAGE plpgsql TO r;\n",
    header("5", "ACL", "-"),
    b"GRANT SELECT ON LARGE OBJECT 5 TO r;\n",
    header("DEFAULT PRIVILEGES FOR TABLES", "DEFAULT ACL", "shop"),
    b"ALTER DEFAULT PRIVILEGES FOR ROLE o IN SCHEMA shop GRANT SELECT ON TABLES TO r;\n",
    header("DEFAULT PRIVILEGES FOR TABLES", "DEFAULT ACL", "-", "postgres"),
    b"ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT SELECT ON TABLES TO r;\n",
]


def scanned(*more, site=SITE):
    return content_scan.scan(io.BytesIO(HEAD + b"".join([*site, *more]) + END))


def choose(result, superusers=("postgres",), owner="o"):
    return load_role.choose(result, {"gis"}, set(superusers), owner)


def test_what_is_there_and_what_is_of_others_is_the_superusers():
    result = scanned()
    way = choose(result)
    assert (way.role, way.why) == ("o", "")
    assert {(each.kind, each.name) for each in way.first} == {
        ("COMMENT", "SCHEMA public"),
        ("TABLE DATA", "spatial_ref_sys"),
        ("SEQUENCE SET", "topology_id_seq"),
        ("ACL", "public"),
        ("ACL", "SCHEMA gis"),
        ("ACL", "TABLE spatial_ref_sys"),
        ("ACL", "LANGUAGE plpgsql"),
    }
    assert [each.owner for each in way.last] == ["postgres"]
    assert {each.owner for each in way.own} == {"o"}
    assert sorted((demand.subject, demand.name) for demand in result.demands) == [
        ("language", "plpgsql"),
        ("references", "gis.spatial_ref_sys"),
        ("setting", "work_mem"),
    ]
    assert result.used_schemas == {"gis"}


ROUTINE = "CREATE {} shop.g(integer) RETURNS integer\n    LANGUAGE {}\n    AS $$x$$;\n"
DEMANDING = {
    "several roles: o, other": ("u", "TABLE", "other", "CREATE TABLE shop.u ();\n"),
    "the event trigger shop.watch": ("watch", "EVENT TRIGGER", "o", "CREATE EVENT TRIGGER watch;\n"),
    "the cast shop.CAST (a AS b)": ("CAST (a AS b)", "CAST", "", "CREATE CAST (a AS b);\n"),
    "the shell type shop.b": ("b", "SHELL TYPE", "o", "CREATE TYPE shop.b;\n"),
    "g(integer) is LEAKPROOF": ("g(integer)", "FUNCTION", "o", ROUTINE.format("FUNCTION", "sql IMMUTABLE LEAKPROOF")),
    "g(integer) has a support": ("g(integer)", "FUNCTION", "o", ROUTINE.format("FUNCTION", "sql COST 1 SUPPORT gis.s")),
    "a(integer) keeps its state": (
        "a(integer)",
        "AGGREGATE",
        "o",
        "CREATE AGGREGATE shop.a(integer) (\n    SFUNC = shop.f,\n    STYPE = internal\n);\n",
    ),
    "p is of all tables": ("p", "PUBLICATION", "o", "CREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert');\n"),
    "u hides rows": (
        "u",
        "TABLE",
        "o",
        "CREATE TABLE shop.u ();\n\nALTER TABLE ONLY shop.u FORCE ROW LEVEL SECURITY;\n",
    ),
    "in the name of several": (
        "TABLE t",
        "ACL",
        "o",
        "SET SESSION AUTHORIZATION r;\nGRANT SELECT ON TABLE shop.t TO s;\nRESET SESSION AUTHORIZATION;\n",
    ),
}


@pytest.mark.parametrize("why", DEMANDING)
def test_what_an_ordinary_role_cannot_load_is_reported(why):
    name, kind, owner, text = DEMANDING[why]
    result = scanned(header(name, kind, "shop", owner), text.encode())
    way = choose(result)
    assert why in way.why and way == load_role.RoleChoice("", way.why)
    if owner == "o":
        assert choose(result, superusers=("postgres", "o")).role == "o", "a superuser can"


def test_names_without_a_schema_are_of_the_entrys():
    """So wrote clients from before March 2018."""
    path = b"SET search_path = public, pg_catalog;\n\n"
    result = scanned(
        path,
        header("Ta ble", "TABLE"),
        b'CREATE TABLE "Ta ble" (a integer);\n\nALTER TABLE "Ta ble" OWNER TO o;\n',
        header("Ta ble", "TABLE DATA", data="Data for "),
        b'COPY "Ta ble" (a) FROM stdin;\n1\n2\n\\.\n',
        header("spatial_ref_sys", "TABLE DATA", data="Data for "),
        b"COPY spatial_ref_sys (srid) FROM stdin;\n990001\n\\.\n",
        header("Ta ble Ta ble_fkey", "FK CONSTRAINT"),
        b'ALTER TABLE ONLY "Ta ble"\n    ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES "Ta ble"(a);\n',
        header("Ta ble", "ACL"),
        b'REVOKE ALL ON TABLE "Ta ble" FROM PUBLIC;\nGRANT SELECT ON TABLE "Ta ble" TO r;\n',
        header("public", "ACL", "-", "postgres"),
        b"GRANT ALL ON SCHEMA public TO PUBLIC;\n",
        site=[],
    )
    assert result.rows == {("public", "Ta ble"): 2, ("public", "spatial_ref_sys"): 1}
    assert [(each.schema, each.table) for each in result.merged] == [("public", "spatial_ref_sys")]
    assert [(each.kind, each.schema, each.name) for each in result.privileged_objects] == [
        ("TABLE", "public", "Ta ble"),
        ("SCHEMA", "", "public"),
    ]
    assert [(demand.subject, demand.name) for demand in result.demands] == [("references", "public.Ta ble")]
    assert {each.name for each in choose(result).first} == {"spatial_ref_sys", "public"}


def test_a_dump_that_names_no_owners_is_the_databases_owners():
    site = [header("t", "TABLE", "shop", "-"), b"CREATE TABLE shop.t ();\n"]
    site += [header("SCHEMA public", "ACL", "-", "-"), b"GRANT ALL ON SCHEMA public TO r;\n"]
    way = choose(scanned(site=site), owner="of the database")
    assert way.role == "of the database" and [each.kind for each in way.first] == ["ACL"]


def test_an_empty_dump_belongs_to_nobody():
    assert choose(scanned(site=[]), owner="") == load_role.RoleChoice("", "")
